"""One way to write JSON: what differs from its own re-serialisation in one byte is refused.

Blanks, orders of keys, escapes, keys that stand twice and base64 with stray bits thus have no room
to hide in.
"""

from __future__ import annotations

import json
from typing import Any

from watermark.errors import EvidenceError

__all__ = ["canonical_json", "parse_canonical"]


def canonical_json(payload: Any) -> bytes:
    """Write JSON values: ASCII, keys sorted, no blanks, a line break at the end.

    Args:
        payload: JSON values.

    Returns:
        The bytes.

    Raises:
        ValueError: NaN or an infinity, which JSON does not have.
    """
    text = json.dumps(
        payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii") + b"\n"


def parse_canonical(content: bytes, what: str) -> Any:
    """Read JSON that must be canonical.

    Args:
        content: the bytes.
        what: what they are, for the error.

    Returns:
        The value.

    Raises:
        EvidenceError: not JSON, or written in another way; names the first byte that differs.
    """
    try:
        payload = json.loads(content.decode("ascii"))
        again = canonical_json(payload)
    except (ValueError, RecursionError):
        raise EvidenceError(f"{what} is not the JSON that heirmark writes; it is damaged") from None
    if again != content:
        place = next(
            (i for i, (a, b) in enumerate(zip(content, again, strict=False)) if a != b),
            min(len(content), len(again)),
        )
        raise EvidenceError(
            f"{what} is written in another way than heirmark writes it, first at byte {place}: "
            "it was changed"
        )
    return payload
