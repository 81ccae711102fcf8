"""What is said where the evidence points to a key that others may know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from watermark.keyring.listed_keys import Revocation

__all__ = ["revoked_words"]

# Keys that are named one by one.
_SAID: Final = 5
_PROVES: Final = {
    "text": "whoever knows a key can write text with its mark. This proves nothing about whom the "
    "key was issued to, unless the text is known to be older than the day on which the key got out",
    "model": "whoever knows a key can publish text with its mark, from which a model learns it. "
    "This proves nothing about whom the key was issued to, nor about where the suspect's data came "
    "from, unless they are known to be older than the day on which the key got out",
}


class _Key(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def revocation(self) -> Revocation | None: ...


def revoked_words(
    keys: Sequence[_Key], found_in: Literal["text", "model"] = "text"
) -> tuple[str, ...]:
    """Say of revoked keys what their mark does not show.

    Args:
        keys: keys under which something is significant, each revoked.
        found_in: what depends on them.

    Returns:
        One warning for each, of many for the first ones and for all others together.
    """
    said = [
        f"The mark of {key.name} is there, but its key was revoked{_when(key)}: others may have "
        f"known it by then, or before, and {_PROVES[found_in]}."
        for key in keys[:_SAID]
    ]
    if len(keys) > _SAID:
        said.append(f"The same holds for {len(keys) - _SAID} more revoked keys.")
    return tuple(said)


def _when(key: _Key) -> str:
    revocation = key.revocation
    if revocation is None:
        return ""
    day = f" on {revocation.day}" if revocation.day else ""
    return day + (f" ({revocation.reason})" if revocation.reason else "")
