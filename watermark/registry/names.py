"""Which labels a registry takes: those that mean one key only, in every database and terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

from watermark.errors import RegistryError
from watermark.keyring.labels import KeyLabels

__all__ = ["MAX_NAME", "MAX_REASON", "check_labels", "check_reason"]

MAX_NAME: Final = 200
MAX_REASON: Final = 1000
# Letters, marks and symbols that show as nothing (Unicode's Default_Ignorable_Code_Point, as far as
# the category does not say so), and the empty pattern of Braille.
_UNSEEN: Final = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0000, 0xE0FFF),
)


def check_labels(labels: KeyLabels) -> None:
    """Refuse labels that could be taken for others.

    Args:
        labels: of a key.

    Raises:
        RegistryError: no label at all; or one that is too long, has blanks at an end, characters
            that cannot be seen, blanks other than U+0020, characters without a meaning, or letters
            that are not composed (Unicode's form NFC), which look the same and would derive
            another key. Letters of other scripts that look alike are taken.
    """
    if not any(labels):
        raise RegistryError("a key needs at least one label that is not empty")
    for label, name in labels.to_dict().items():
        if fault := _fault(name):
            shown = ascii(name if len(name) <= 40 else name[:40] + "...")
            raise RegistryError(f"the {label} {shown} {fault}")


def _fault(name: str) -> str | None:
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters; at most {MAX_NAME} are taken"
    if name != name.strip():
        return "begins or ends with a blank"
    kinds = {unicodedata.category(character) for character in name}
    # Control, format, surrogate, and breaks of lines and paragraphs.
    if kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"} or any(map(_is_unseen, name)):
        return "holds characters that cannot be seen or stored"
    if any(character != " " and unicodedata.category(character) == "Zs" for character in name):
        return "holds a blank that is not the usual one (U+0020)"
    # Private use, and not assigned in the Unicode version of this Python.
    if kinds & {"Co", "Cn"}:
        return "holds characters that have no agreed meaning"
    if not unicodedata.is_normalized("NFC", name):
        return "is not in Unicode's form NFC, in which letters are composed; normalise it first"
    return None


def _is_unseen(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _UNSEEN)


def check_reason(reason: str) -> str:
    """Refuse a reason that says nothing.

    Args:
        reason: why a key was retired or revoked.

    Returns:
        The reason without blanks at its ends.

    Raises:
        RegistryError: empty, too long, or with characters that cannot be stored.
    """
    reason = reason.strip()
    if not reason or len(reason) > MAX_REASON:
        raise RegistryError(f"a reason has 1 to {MAX_REASON} characters, got {len(reason)}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in reason):
        raise RegistryError("a reason is one line of text, without control characters")
    return reason
