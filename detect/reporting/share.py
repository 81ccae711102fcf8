"""Shows which share of a corpus is marked: the interval on an axis, and what it stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.plots import Scale, Tick
from detect.reporting.reader import read_log10_p
from detect.reporting.shown import count, percent, say
from detect.reporting.sourced import derived, source_of

__all__ = ["IntervalView", "ShareView", "SparseView", "read_interval", "read_share"]

_TOPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_STEPS: Final = 5
_HEADROOM: Final = 1.1


@dataclass(frozen=True, slots=True)
class IntervalView:
    """Estimate and interval, cut to the possible; positions in percent of an axis from 0 to top."""

    estimate: float
    low: float
    high: float
    level: float
    is_cut: bool
    percent: tuple[float, float, float]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class SparseView:
    """Higher criticism: more small p-values among the documents than chance gives?"""

    log10_p: float | None
    n_documents: int
    threshold: float
    n_below: int
    n_expected: float


@dataclass(frozen=True, slots=True)
class ShareView:
    """What the template reads; no interval where nothing was scored."""

    interval: IntervalView | None
    strength: float
    strength_error: float
    n_reference: int
    n_documents: int
    n_documents_scored: int
    sparse: SparseView | None


def read_share(fields: Fields) -> Exhibit:
    """Read what `heirmark fraction` found.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    reference = fields.inner("reference")
    interval = read_interval(fields.inner("fraction")) if fields.has("fraction") else None
    view = ShareView(
        interval,
        reference.number("strength"),
        reference.number("strength_standard_error"),
        reference.count("n_documents"),
        fields.count("n_documents"),
        fields.count("n_documents_scored"),
        _sparse(fields.inner("higher_criticism")) if fields.has("higher_criticism") else None,
    )
    documents = Figure(
        "Documents scored", count(view.n_documents_scored), say("of {}", count(view.n_documents))
    )
    return Exhibit("share.html", (_figure(interval), documents), view)


def _figure(interval: IntervalView | None) -> Figure:
    if interval is None:
        return Figure("Marked share", "unknown", "nothing was scored")
    ends = (percent(interval.low), percent(interval.high))
    note = say("estimate; {} interval {} to {}", percent(interval.level), *ends)
    return Figure("Marked share", percent(interval.estimate), note)


def read_interval(share: Fields, reach: float | None = None) -> IntervalView:
    """Read an estimate with its interval, and place it on an axis.

    Args:
        share: with the fields low, estimate, high and level.
        reach: largest share that the axis must hold; None is this interval's.

    Returns:
        The interval.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    raw = tuple(share.number(name) for name in ("low", "estimate", "high"))
    level = share.number("level")
    if not 0.0 < level < 1.0:
        raise share.refusal("level", "a confidence level between 0 and 1")
    if not raw[0] <= raw[1] <= raw[2]:
        raise share.refusal("estimate", "a number inside its interval")
    low, estimate, high = (_possible(value) for value in raw)
    held = min(max(high if reach is None else reach, 0.0) * _HEADROOM, 1.0)
    top = next(top for top in _TOPS if top >= held)
    scale = Scale(top)
    ticks = tuple(Tick(100 * i / _STEPS, top * i / _STEPS) for i in range(_STEPS + 1))
    percent = (scale.percent(low), scale.percent(estimate), scale.percent(high))
    return IntervalView(estimate, low, high, level, (low, high) != raw[::2], percent, ticks)


def _possible(share: float) -> float:
    if 0.0 <= share <= 1.0:
        return share
    return derived(min(max(share, 0.0), 1.0), f"min(max({source_of(share)}, 0), 1)")


def _sparse(found: Fields) -> SparseView:
    return SparseView(
        read_log10_p(found, "log10_p"),
        found.count("n_documents"),
        found.number("threshold"),
        found.count("n_below"),
        found.number("n_below_expected"),
    )
