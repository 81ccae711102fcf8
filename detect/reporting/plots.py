"""Geometry of the report's plots: evidence (-log10 p) as positions in percent of the plot area.

The templates draw it as inline SVG. Positions in percent, not pixels, let text keep its size on a
phone, and equal results give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from detect.reporting.reader import CurveView, RowView

__all__ = [
    "CurvePlot",
    "DotPlot",
    "Scale",
    "Tick",
    "axis_ticks",
    "evidence_scale",
    "nice_step",
    "plot_curves",
    "plot_dots",
]

_SQUARE_ROOT_FROM: Final = 40.0
_HEADROOM: Final = 1.06
_LEAST_RANGE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps a value in [0, top] to percent; a square-root scale keeps small values apart."""

    top: float
    square_root: bool = False

    def percent(self, value: float) -> float:
        """Return the value's position, rounded to a hundredth of a percent."""
        share = min(max(value / self.top, 0.0), 1.0)
        return round(100.0 * (math.sqrt(share) if self.square_root else share), 2)


@dataclass(frozen=True, slots=True)
class Tick:
    """An axis mark: its position in percent and its value."""

    percent: float
    value: float

    @property
    def exponent(self) -> int:
        """Exponent of the p-value at this tick of an evidence axis."""
        return -round(self.value)


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of the dot plot; positions in percent, None where there is nothing to draw."""

    row: RowView
    percent: float | None
    decoy_percent: float | None


@dataclass(frozen=True, slots=True)
class DotPlot:
    """Claim and controls on one evidence axis."""

    dots: tuple[Dot, ...]
    ticks: tuple[Tick, ...]
    alpha_percent: float
    fires_percent: float
    square_root: bool


@dataclass(frozen=True, slots=True)
class CurvePlot:
    """Evidence against tokens scored; points are SVG coordinates in a 100 x 100 box."""

    claim_points: str
    control_points: tuple[str, ...]
    end_percent: tuple[float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    alpha_percent: float


def nice_step(top: float, most: int) -> float:
    """Choose the distance of ticks.

    Args:
        top: length of the axis, > 0.
        most: steps at most.

    Returns:
        The smallest of 1, 2, 5 x 10^k, k >= 0, that cuts [0, top] into at most `most` steps.
    """
    least = max(top / most, 1.0)
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= least * (1 - 1e-12))


def axis_ticks(scale: Scale, most: int) -> tuple[Tick, ...]:
    """Place ticks on an axis from 0.

    Args:
        scale: the axis.
        most: steps at most, on a linear axis.

    Returns:
        The ticks, ascending.
    """
    if scale.square_root:
        values = [0.0] + [m * 10.0**k for k in range(12) for m in (1.0, 3.0)]
        values = [v for v in values if v == 0.0 or scale.top * 0.012 <= v <= scale.top * 0.97]
    else:
        step = nice_step(scale.top, most)
        values = [step * i for i in range(int(scale.top / step) + 1)]
    return tuple(Tick(scale.percent(value), value) for value in values)


def evidence_scale(log10_ps: Sequence[float | None], alpha: float) -> Scale:
    """Choose the axis that holds these p-values and alpha.

    Args:
        log10_ps: log10 p-values (None is ignored).
        alpha: the significance level.

    Returns:
        A linear scale, or a square-root scale where the evidence is so strong that alpha and the
        controls would collapse into the origin.
    """
    strongest = max((-p for p in log10_ps if p is not None), default=0.0)
    top = max(strongest, -math.log10(alpha), _LEAST_RANGE) * _HEADROOM
    return Scale(top, square_root=top > _SQUARE_ROOT_FROM)


def plot_dots(rows: Sequence[RowView], alpha: float, fires_at: float) -> DotPlot:
    """Place the claim and its controls on one evidence axis.

    Args:
        rows: the claim first, then the controls.
        alpha: the significance level.
        fires_at: p-value at which a control counts as showing signal.

    Returns:
        The plot.
    """
    decoy_ps = [row.decoys.log10_p for row in rows if row.decoys]
    scale = evidence_scale([*(row.claim.log10_p for row in rows), *decoy_ps], alpha)

    def place(log10_p: float | None) -> float | None:
        return None if log10_p is None else scale.percent(-log10_p)

    return DotPlot(
        dots=tuple(
            Dot(row, place(row.claim.log10_p), place(row.decoys.log10_p if row.decoys else None))
            for row in rows
        ),
        ticks=axis_ticks(scale, 6),
        alpha_percent=scale.percent(-math.log10(alpha)),
        fires_percent=scale.percent(-math.log10(fires_at)),
        square_root=scale.square_root,
    )


def _points(curve: CurveView, x_scale: Scale, y_scale: Scale) -> str:
    return " ".join(
        f"{x_scale.percent(n):g},{100 - y_scale.percent(-p):.2f}"
        for n, p in zip(curve.n_scored, curve.log10_p, strict=True)
    )


def plot_curves(claim: CurveView, controls: Sequence[CurveView], alpha: float) -> CurvePlot:
    """Place evidence against tokens scored.

    Args:
        claim: the curve of the claim.
        controls: the curves of controls, drawn thinner behind it.
        alpha: the significance level, drawn as a line.

    Returns:
        The plot.
    """
    curves = [claim, *controls]
    strongest = max([-p for curve in curves for p in curve.log10_p] + [-math.log10(alpha), 1.0])
    y_scale = Scale(strongest * _HEADROOM)
    x_scale = Scale(max([curve.n_scored[-1] for curve in curves] + [1.0]))
    return CurvePlot(
        claim_points=_points(claim, x_scale, y_scale),
        control_points=tuple(_points(curve, x_scale, y_scale) for curve in controls),
        end_percent=(
            x_scale.percent(claim.n_scored[-1]),
            round(100 - y_scale.percent(-claim.log10_p[-1]), 2),
        ),
        x_ticks=axis_ticks(x_scale, 5),
        y_ticks=axis_ticks(y_scale, 5),
        alpha_percent=round(100 - y_scale.percent(-math.log10(alpha)), 2),
    )
