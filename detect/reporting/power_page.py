"""Reads a power analysis for its page: needs by marked share, and what is out of reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from detect.reporting.exhibits import Figure, scheme_name
from detect.reporting.fields import Fields
from detect.reporting.plots import Tick
from detect.reporting.words import TOPICS, percent, plain, visible

__all__ = ["CaseView", "NeedsPlot", "PowerView", "read_power"]

_ACCESS: Final = MappingProxyType(
    {
        "direct": "a text itself",
        "text": "a suspect model, by its answers",
        "weights": "a suspect model, by its weights",
    }
)
_UNITS: Final = MappingProxyType({"direct": "tokens", "text": "answers", "weights": "tokens read"})
_LEAST_DECADES: Final = 2


@dataclass(frozen=True, slots=True)
class NeedsPlot:
    """Needs against marked share, both axes logarithmic; SVG coordinates in a 100 x 100 box."""

    points: str
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    budget_percent: float


@dataclass(frozen=True, slots=True)
class CaseView:
    """One case, what it needs (None: more than can be had), and whether the budget reaches it."""

    what: str
    n_tokens: int | None
    n_answers: int | None
    detectable: bool


@dataclass(frozen=True, slots=True)
class PowerView:
    """What the template reads."""

    topic: str
    headline: str
    lede: str
    access: str
    unit: str
    detectable: bool
    figures: tuple[Figure, ...]
    plot: NeedsPlot | None
    shares: tuple[CaseView, ...]
    prospects: tuple[CaseView, ...]
    budget: int
    answer_tokens: int
    assumptions: tuple[str, ...]
    basis: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def read_power(fields: Fields) -> PowerView:
    """Read what `heirmark power` answered.

    Args:
        fields: the result.

    Returns:
        What the page shows.

    Raises:
        ResultError: a field is missing or malformed.
    """
    access = fields.choice("access", _ACCESS)
    budget, length = fields.count("budget"), max(fields.count("answer_tokens"), 1)
    shares = tuple(_share_case(case, budget) for case in fields.objects("by_share"))
    n_tokens = fields.maybe_count("n_tokens")
    detectable = n_tokens is not None and n_tokens <= budget
    return PowerView(
        topic=TOPICS["power"],
        headline=_headline(n_tokens, detectable),
        lede=_lede(fields, access),
        access=_ACCESS[access],
        unit=_UNITS[access],
        detectable=detectable,
        figures=_figures(fields, access, budget),
        plot=_plot(fields, access, budget / length if access == "text" else budget),
        shares=shares,
        prospects=tuple(_prospect(case, budget) for case in fields.objects("prospects")),
        budget=budget,
        answer_tokens=length,
        assumptions=fields.sentences("assumptions"),
        basis=fields.inner("basis").facts(),
        limits=fields.sentences("limits"),
        facts=_facts(fields),
    )


def _headline(n_tokens: int | None, detectable: bool) -> str:
    if n_tokens is None:
        return "No amount that can be had would do."
    return f"About {_count(n_tokens)} tokens are needed" + (
        "; the budget has them." if detectable else "; the budget has fewer."
    )


def _lede(fields: Fields, access: str) -> str:
    return (
        f"To find the mark in {_ACCESS[access]}, where {percent(fields.number('share'))} of the "
        f"{'text' if access == 'direct' else 'training data'} is marked, with a chance of "
        f"{percent(fields.number('power'))} at a level of "
        f"{plain(math.log10(_positive(fields, 'alpha')))}."
    )


def _figures(fields: Fields, access: str, budget: int) -> tuple[Figure, ...]:
    length = fields.count("answer_tokens")
    least = fields.maybe_number("least_share")
    reach = "none" if least is None else f"from {percent(least)} up"
    read = "one text" if access == "direct" else "in all"
    pooled = Figure(
        "Answers" if access == "text" else "Texts pooled",
        _count(fields.maybe_count("n_answers")),
        f"of {length:,} tokens{_range(fields, 'n_answers')}",
    )
    return (
        Figure("Tokens", _count(fields.maybe_count("n_tokens")), read + _range(fields, "n_tokens")),
        pooled,
        Figure("Marked shares found", reach, f"with a budget of {budget:,} tokens"),
    )


def _range(fields: Fields, name: str) -> str:
    ends = fields.items(f"{name}_range")
    if not ends:
        return ""
    if len(ends) != 2 or not all(end is None or type(end) is int for end in ends):
        raise fields.refusal(f"{name}_range", "two whole numbers, or null for more than can be had")
    return f"; by the pilot {_count(ends[0])} to {_count(ends[1])}"


def _share_case(case: Fields, budget: int) -> CaseView:
    share, n_tokens = _positive(case, "share"), case.maybe_count("n_tokens")
    reached = n_tokens is not None and n_tokens <= budget
    return CaseView(percent(share), n_tokens, case.maybe_count("n_answers"), reached)


def _prospect(case: Fields, budget: int) -> CaseView:
    n_tokens = case.maybe_count("n_tokens")
    reached = n_tokens is not None and n_tokens <= budget
    return CaseView(case.text("what"), n_tokens, None, reached)


def _plot(fields: Fields, access: str, budget: float) -> NeedsPlot | None:
    name = "n_answers" if access == "text" else "n_tokens"
    rows = [(_positive(c, "share"), c.maybe_count(name)) for c in fields.objects("by_share")]
    known = [(math.log10(share), math.log10(max(n, 1))) for share, n in rows if n is not None]
    if len(known) < 2 or len({x for x, _ in known}) < 2:
        return None
    left = min(math.log10(share) for share, _ in rows)
    heights = [y for _, y in known] + [math.log10(max(budget, 1.0))]
    low = math.floor(min(heights))
    high = max(math.ceil(max(heights)), low + _LEAST_DECADES)

    def x(value: float) -> float:
        return round(100 * (value - left) / -left, 2)

    def y(value: float) -> float:
        return round(100 * (high - value) / (high - low), 2)

    step = math.ceil((high - low) / 6)
    dots = tuple((x(a), y(b)) for a, b in sorted(known))
    return NeedsPlot(
        points=" ".join(f"{a:g},{b:g}" for a, b in dots),
        dots=dots,
        x_ticks=tuple(Tick(x(math.log10(share)), share) for share, _ in reversed(rows)),
        y_ticks=tuple(Tick(100 - y(k), k) for k in range(low, high + 1, step)),
        budget_percent=y(heights[-1]),
    )


def _facts(fields: Fields) -> tuple[tuple[str, str], ...]:
    facts = [
        ("scheme", scheme_name(fields)),
        ("score", fields.text("score", "")),
        ("context width", str(fields.count("context_width"))),
        ("config fingerprint", fields.text("config_fingerprint", "")),
        ("effect", f"{fields.number('effect'):.3g} null standard deviations a scored pair"),
        ("scored pairs", _count(fields.maybe_count("n_scored"))),
    ]
    if fields.has("expected_stopping_n_scored"):
        stopping = fields.number("expected_stopping_n_scored")
        facts.append(("if sequential", f"stops after {_count(stopping)} scored pairs on average"))
    return tuple((name, visible(value)) for name, value in facts if value)


def _positive(fields: Fields, name: str) -> float:
    value = fields.number(name)
    if not 0.0 < value <= 1.0:
        raise fields.refusal(name, "a number above 0 and at most 1")
    return value


def _count(number: float | None) -> str:
    """Write a count to three digits; beyond reach in words."""
    if number is None or number > 1e9:
        return "more than 10⁹"
    return f"{float(f'{number:.3g}'):,.0f}"
