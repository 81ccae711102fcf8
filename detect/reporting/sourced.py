"""Numbers that remember where in the result they stand, so that a page can say so.

Arithmetic forgets the source: what a page computed cannot pass as what the result holds, unless
`derived` says from which fields it was computed, in a form that a reader can compute again.
"""

from __future__ import annotations

import math
from typing import Final, Self, final, overload

__all__ = ["NO_SOURCE", "Sourced", "SourcedCount", "derived", "source_of"]

NO_SOURCE: Final = "a page writes only numbers that a field of the result holds"


@final
class Sourced(float):
    """A finite number and the path of its field, for example "controls[1].log10_p"."""

    source: str

    def __new__(cls, value: float, source: str) -> Self:
        """Remember the source beside the value."""
        number = super().__new__(cls, value)
        number.source = source
        return number


@final
class SourcedCount(int):
    """A whole number and the path of its field."""

    source: str

    def __new__(cls, value: int, source: str) -> Self:
        """Remember the source beside the value."""
        number = super().__new__(cls, value)
        number.source = source
        return number


def source_of(number: float) -> str:
    """Return where a number comes from.

    Args:
        number: a `Sourced`, a `SourcedCount` or what `derived` gave.

    Returns:
        A path, or an expression over paths.

    Raises:
        TypeError: the number does not say; a defect of the page, not of the result.
    """
    source = getattr(number, "source", None)
    if not isinstance(source, str):
        raise TypeError(f"{NO_SOURCE}; got {number!r} without a source")
    return source


@overload
def derived(value: int, source: str) -> int: ...


@overload
def derived(value: float, source: str) -> float: ...


def derived(value: float, source: str) -> float:
    """Mark a number that the page computed.

    Args:
        value: the number, finite.
        source: how to compute it: an expression over paths, with + - * / and the functions `exp`,
            `min`, `max`, `sum`, `len`, `n_where(list, field, value)` and
            `n_between(tokens, low, high)`.

    Returns:
        The number with its source.
    """
    if isinstance(value, int):
        return SourcedCount(value, source)
    if not math.isfinite(value):
        raise ValueError(f"a page writes finite numbers only, got {value!r} from {source}")
    return Sourced(value, source)
