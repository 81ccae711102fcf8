"""The one way to write JSON that is hashed: fingerprints of configs and tokenizers, commitments."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["canonical_json"]


def canonical_json(payload: Any) -> str:
    """Write JSON in the one way that is hashed.

    Args:
        payload: JSON values.

    Returns:
        ASCII: keys sorted, no blanks, numbers as Python's `json` writes them (the shortest that
        read back the same).

    Raises:
        ValueError: NaN or an infinity.
        TypeError: what is no JSON value.
    """
    return json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
