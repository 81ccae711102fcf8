"""Draws a calibration: p-values against uniform, as one self-contained HTML page with inline SVG.

Both axes are logarithmic: far left are the small p-values, where a false accusation would be.
Positions in percent of the plot, as in `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from detect.calibrating.calibration import Calibration
from detect.calibrating.pieces import CRITERIA
from detect.calibrating.trials import EdfPoint, Trials
from detect.reporting.page import _environment

__all__ = ["render_calibration"]

_LEAST_DECADES: Final = 2


@dataclass(frozen=True, slots=True)
class EdfPlot:
    """Observed share against level; coordinates in a 100 x 100 box, y downwards.

    Attributes:
        band: polygon of the simultaneous band.
        line: the observed shares, as far as there are hits.
        others: lines of other trials on the same axes.
        ticks: (percent, exponent) of both axes; y from the top.
    """

    band: str
    line: str
    others: tuple[str, ...]
    ticks: tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class _Section:
    """One figure with its table."""

    title: str
    text: str
    trials: Trials
    plot: EdfPlot


def render_calibration(result: Calibration) -> str:
    """Render a calibration as one HTML page.

    Args:
        result: the calibration.

    Returns:
        A complete HTML document, to be written as UTF-8; equal results give equal bytes.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    template = _environment().get_template("calibration.html")
    return template.render(
        result=result,
        payload=result.to_dict(),
        sections=_sections(result),
        criteria=[(stratum.value, text) for stratum, text in CRITERIA.items()],
    )


def _sections(result: Calibration) -> tuple[_Section, ...]:
    everything = result.fresh["all"]
    kinds = [trials for name, trials in result.fresh.items() if name != "all"]
    fresh = _Section(
        "Under fresh keys",
        f"Each piece of the text was tested under {result.n_keys:,} keys of its own that were "
        "never used. The null hypothesis holds by construction, and the trials are independent.",
        everything,
        plot_edf(everything, kinds),
    )
    own = _Section(
        "Under this key",
        "Each distinct (context, token) pair of the whole text was scored once, in the first "
        f"piece that has it ({result.n_shared:,} later ones were left out), so that the pieces' "
        "p-values are independent if the text is independent of the key.",
        result.own,
        plot_edf(result.own, ()),
    )
    return fresh, own


def plot_edf(trials: Trials, others: Sequence[Trials]) -> EdfPlot:
    """Place an empirical distribution function and its band on logarithmic axes.

    Args:
        trials: drawn with its band.
        others: drawn as thin lines.

    Returns:
        The plot.
    """
    decades = max(math.ceil(-math.log10(trials.curve[-1].alpha)), _LEAST_DECADES)

    def place(value: float) -> float:
        return 100 - 100 * min(-math.log10(value), decades) / decades if value > 0 else 0.0

    def points(rows: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{place(x):.2f},{100 - place(y):.2f}" for x, y in rows)

    lower = [(p.alpha, p.low) for p in trials.curve]
    upper = [(p.alpha, min(p.high, 1.0)) for p in reversed(trials.curve)]
    return EdfPlot(
        band=points(lower + upper),
        line=points(_hit(trials.curve)),
        others=tuple(points(_hit(t.curve)) for t in others),
        ticks=tuple((round(100 - 100 * k / decades, 2), -k) for k in range(decades + 1)),
    )


def _hit(curve: Sequence[EdfPoint]) -> list[tuple[float, float]]:
    """Leave out levels that no p-value reaches: they have no place on a logarithmic axis."""
    return [(p.alpha, p.share) for p in curve if p.share > 0]
