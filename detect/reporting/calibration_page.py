"""Reads a calibration for its page: p-values against uniform.

Both axes are logarithmic: far left are the small p-values, where a false accusation would be.
Positions in percent of the plot, as in `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from detect.reporting.exhibits import scheme_name
from detect.reporting.fields import Fields
from detect.reporting.plots import Tick
from detect.reporting.reader import read_log10_p
from detect.reporting.rerun import Command, command_of
from detect.reporting.shown import Words, count, exact, say
from detect.reporting.sourced import derived
from detect.reporting.words import TOPICS, visible

__all__ = ["CalibrationView", "EdfPlot", "RateView", "SectionView", "plot_edf", "read_calibration"]

_LEAST_DECADES: Final = 2
_FINE: Final = "False positives on this text are as rare as they should be."
_NOT_FINE: Final = "This calibration raises a warning."


@dataclass(frozen=True, slots=True)
class EdfPlot:
    """Observed share against level; coordinates in a 100 x 100 box, y downwards.

    Attributes:
        band: polygon of the simultaneous band.
        line: the observed shares, as far as there are hits.
        others: lines of other trials on the same axes.
        ticks: of both axes, exponents of ten.
    """

    band: str
    line: str
    others: tuple[str, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class RateView:
    """How often p-values of one kind of text are at or below alpha, with its 99 % interval."""

    name: str
    alpha: float
    hits: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SectionView:
    """One figure with its table."""

    title: str
    text: Words
    n: int
    plot: EdfPlot
    rates: tuple[RateView, ...]
    uniformity_p: float
    pooled: tuple[float | None, int] | None


@dataclass(frozen=True, slots=True)
class CalibrationView:
    """What the template reads."""

    topic: str
    headline: str
    lede: Words
    warnings: tuple[str, ...]
    sections: tuple[SectionView, ...]
    kinds: tuple[tuple[Words, str], ...]
    limits: tuple[str, ...]
    facts: tuple[tuple[str, Words], ...]
    command: Command


def read_calibration(fields: Fields) -> CalibrationView:
    """Read what `heirmark calibrate` measured.

    Args:
        fields: the result.

    Returns:
        What the page shows.

    Raises:
        ResultError: a field is missing or malformed.
    """
    counts, warnings = fields.inner("n_pieces"), fields.sentences("warnings")
    total = sum(counts.count(name) for name in counts)
    n_pieces = derived(total, f"sum({fields.path('n_pieces')})")
    return CalibrationView(
        topic=TOPICS["calibration"],
        headline=_NOT_FINE if warnings else _FINE,
        lede=say(
            "{} pieces of text, {} tokens, each tested under {} fresh keys, and once under the key "
            "in hand.",
            *(count(number) for number in (n_pieces, fields.count("n_tokens"), _n_keys(fields))),
        ),
        warnings=warnings,
        sections=(_fresh(fields), _own(fields)),
        kinds=_kinds(fields, counts),
        limits=fields.sentences("limits"),
        facts=_facts(fields),
        command=command_of(fields),
    )


def _n_keys(fields: Fields) -> int:
    return fields.count("n_keys")


def _fresh(fields: Fields) -> SectionView:
    trials = fields.inner("fresh_keys")
    everything = trials.inner("all")
    kinds = [trials.inner(name) for name in trials if name != "all"]
    return SectionView(
        "Under fresh keys",
        say(
            "Each piece of the text was tested under {} keys of its own that were never used. The "
            "null hypothesis holds by construction, and the trials are independent.",
            count(_n_keys(fields)),
        ),
        everything.count("n"),
        plot_edf(everything, kinds),
        tuple(rate for name in trials for rate in _rates(visible(name), trials.inner(name))),
        everything.number("uniformity_p_value"),
        None,
    )


def _own(fields: Fields) -> SectionView:
    own = fields.inner("this_key")
    return SectionView(
        "Under this key",
        say(
            "Each distinct (context, token) pair of the whole text was scored once, in the first "
            "piece that has it ({} later ones were left out), so that the pieces’ p-values are "
            "independent if the text is independent of the key.",
            count(own.count("n_shared")),
        ),
        own.count("n"),
        plot_edf(own, ()),
        _rates("all", own),
        own.number("uniformity_p_value"),
        (read_log10_p(own, "log10_p_pooled"), own.count("n_pooled")),
    )


def _rates(name: str, trials: Fields) -> tuple[RateView, ...]:
    rates = []
    for rate in trials.objects("rates"):
        alpha, hits, n = rate.number("alpha"), rate.count("hits"), rate.count("n")
        if not 0.0 < alpha < 1.0:
            raise rate.refusal("alpha", "a level between 0 and 1")
        if not 0 < n or hits > n:
            raise rate.refusal("hits", f"at most the {n} p-values there are")
        share = derived(hits / n, f"{rate.path('hits')} / {rate.path('n')}")
        ends = (rate.number("low"), rate.number("high"))
        rates.append(RateView(name, alpha, hits, n, share, *ends))
    return tuple(rates)


def _kinds(fields: Fields, counts: Fields) -> tuple[tuple[Words, str], ...]:
    strata, dropped = fields.inner("strata"), fields.inner("dropped")
    kinds: list[tuple[Words, str]] = [
        (_counted(visible(name), counts.maybe_count(name)), strata.text(name)) for name in strata
    ]
    kinds += [
        (_counted(visible(name).replace("_", " "), dropped.count(name)), "not tested")
        for name in dropped
    ]
    return tuple(kinds)


def _counted(name: str, number: int | None) -> Words:
    return f"{name} (none)" if number is None else say("{} ({})", name, count(number))


def _facts(fields: Fields) -> tuple[tuple[str, Words], ...]:
    return (
        ("scheme", scheme_name(fields)),
        ("score", fields.text("score")),
        ("context width", exact(fields.count("context_width"))),
        ("key id", fields.text("key_id")),
        ("config fingerprint", fields.text("config_fingerprint")),
        ("seed of the fresh keys", exact(fields.count("seed"))),
    )


@dataclass(frozen=True, slots=True)
class _Edf:
    """An empirical distribution function: shares at levels from 1 down, with its band."""

    alpha: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def hit(self) -> list[tuple[float, float]]:
        """Leave out levels that no p-value reaches: they have no place on a logarithmic axis."""
        return [(x, y) for x, y in zip(self.alpha, self.share, strict=True) if y > 0]


def _edf(trials: Fields) -> _Edf:
    curve = trials.inner("curve")
    edf = _Edf(*(curve.numbers(name) for name in ("alpha", "share", "low", "high")))
    if not edf.alpha or not all(0.0 < alpha <= 1.0 for alpha in edf.alpha):
        raise curve.refusal("alpha", "a list of levels above 0 and at most 1")
    for name, values in (("share", edf.share), ("low", edf.low), ("high", edf.high)):
        if len(values) != len(edf.alpha):
            raise curve.refusal(name, f"a list of {len(edf.alpha)} numbers, as long as alpha")
    return edf


def plot_edf(trials: Fields, others: Sequence[Fields]) -> EdfPlot:
    """Place an empirical distribution function and its band on logarithmic axes.

    Args:
        trials: drawn with its band.
        others: drawn as thin lines.

    Returns:
        The plot.

    Raises:
        ResultError: a curve is missing or malformed.
    """
    edf = _edf(trials)
    decades = max(math.ceil(-math.log10(min(edf.alpha)) - 1e-9), _LEAST_DECADES)

    def place(value: float) -> float:
        value = min(value, 1.0)
        return 100 - 100 * min(-math.log10(value), decades) / decades if value > 0 else 0.0

    def points(rows: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{place(x):.2f},{100 - place(y):.2f}" for x, y in rows)

    lower = list(zip(edf.alpha, edf.low, strict=True))
    upper = list(zip(edf.alpha, edf.high, strict=True))[::-1]
    return EdfPlot(
        band=points(lower + upper),
        line=points(edf.hit),
        others=tuple(points(_edf(other).hit) for other in others),
        ticks=tuple(Tick(round(100 - 100 * k / decades, 2), -k) for k in range(decades + 1)),
    )
