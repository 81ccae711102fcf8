"""What is said where the evidence points to a key that others may know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from watermark.listed_keys import Revocation

__all__ = ["revoked_words"]

# Keys that are named one by one.
_SAID: Final = 5


class _Key(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def revocation(self) -> Revocation | None: ...


def revoked_words(keys: Sequence[_Key]) -> tuple[str, ...]:
    """Say of revoked keys what their mark does not show.

    Args:
        keys: keys under which something is significant, each revoked.

    Returns:
        One warning for each, of many for the first ones and for all others together.
    """
    said = [
        f"The mark of {key.name} is there, but its key was revoked{_when(key)}: others may have "
        "known it by then, or before, and whoever knows a key can write text with its mark. This "
        "proves nothing about whom the key was issued to, unless the text is known to be older "
        "than the day on which the key got out."
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
