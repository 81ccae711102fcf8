"""Two results, compared field by field: integers, words and verdicts exactly, floats nearly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

__all__ = ["EXACT", "MODELS_RAN", "first_differences"]

# Relative. Sums may be added up in another order by another version of numpy.
EXACT: Final = 1e-9
# Models round differently on other processors and with other numbers of threads.
MODELS_RAN: Final = 1e-4
_ALMOST_NOTHING: Final = 1e-12


def first_differences(recorded: Any, computed: Any, tolerance: float, most: int = 5) -> list[str]:
    """Name where two results differ.

    Args:
        recorded: JSON values.
        computed: JSON values.
        tolerance: relative, of floats.
        most: differences that are named.

    Returns:
        For example ["decoys/n_at_least: recorded 0, computed 3"]; empty if they agree.
    """
    return list(islice(_differences(recorded, computed, tolerance, ""), most))


def _differences(a: Any, b: Any, tolerance: float, place: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        # Numbers of the result itself before those of its curves and tables.
        for name in sorted({*a, *b}, key=lambda n: (isinstance(a.get(n), dict | list), n)):
            inner = f"{place}/{name}" if place else str(name)
            if name not in a or name not in b:
                yield f"{inner}: only {'computed' if name in b else 'recorded'}"
            else:
                yield from _differences(a[name], b[name], tolerance, inner)
    elif isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield f"{place}: recorded {len(a)} entries, computed {len(b)}"
            return
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, tolerance, f"{place}/{i}")
    elif not _agree(a, b, tolerance):
        yield f"{place}: recorded {_shown(a)}, computed {_shown(b)}"


def _agree(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=_ALMOST_NOTHING)
    return type(a) is type(b) and bool(a == b)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
