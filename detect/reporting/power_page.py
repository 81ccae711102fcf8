"""Reads a power analysis for its page: needs by marked share, and what is out of reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from detect.reporting.exhibits import Figure, scheme_name
from detect.reporting.fields import Fields
from detect.reporting.plots import Tick
from detect.reporting.rerun import Command, command_of
from detect.reporting.shown import Words, count, digits, exact, large, percent, probability, say
from detect.reporting.sourced import SourcedCount
from detect.reporting.words import TOPICS

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

    what: Words
    n_tokens: int | None
    n_answers: int | None
    detectable: bool


@dataclass(frozen=True, slots=True)
class PowerView:
    """What the template reads."""

    topic: str
    headline: Words
    lede: Words
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
    basis: tuple[tuple[str, Words], ...]
    limits: tuple[str, ...]
    facts: tuple[tuple[str, Words], ...]
    command: Command


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
    budget, length = fields.count("budget"), fields.count("answer_tokens")
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
        plot=_plot(fields, access, budget / max(length, 1) if access == "text" else budget),
        shares=shares,
        prospects=tuple(_prospect(case, budget) for case in fields.objects("prospects")),
        budget=budget,
        answer_tokens=length,
        assumptions=fields.sentences("assumptions"),
        basis=fields.inner("basis").facts(),
        limits=fields.sentences("limits"),
        facts=_facts(fields),
        command=command_of(fields),
    )


def _headline(n_tokens: int | None, detectable: bool) -> Words:
    if n_tokens is None:
        return "No amount that can be had would do."
    budget = "has them" if detectable else "has fewer"
    return say(f"About {{}} tokens are needed; the budget {budget}.", large(n_tokens))


def _lede(fields: Fields, access: str) -> Words:
    return say(
        f"To find the mark in {_ACCESS[access]}, where {{}} of the "
        f"{'text' if access == 'direct' else 'training data'} is marked, with a chance of {{}} at "
        "a level of {}.",
        percent(fields.number("share")),
        percent(fields.number("power")),
        probability(_positive(fields, "alpha")),
    )


def _figures(fields: Fields, access: str, budget: int) -> tuple[Figure, ...]:
    length = fields.count("answer_tokens")
    least = fields.maybe_number("least_share")
    reach = "none" if least is None else say("from {} up", percent(least))
    read = "one text" if access == "direct" else "in all"
    needs = _range(fields, "n_tokens")
    pooled = Figure(
        "Answers" if access == "text" else "Texts pooled",
        large(fields.maybe_count("n_answers")),
        say("of {} tokens{}", count(length), _range(fields, "n_answers")),
    )
    return (
        Figure("Tokens", large(fields.maybe_count("n_tokens")), say("{}{}", read, needs)),
        pooled,
        Figure("Marked shares found", reach, say("with a budget of {} tokens", count(budget))),
    )


def _range(fields: Fields, name: str) -> Words:
    ends = fields.items(f"{name}_range")
    if not ends:
        return ""
    if len(ends) != 2 or not all(end is None or type(end) is int for end in ends):
        raise fields.refusal(f"{name}_range", "two whole numbers, or null for more than can be had")
    path = fields.path(f"{name}_range")
    low, high = (
        large(None if end is None else SourcedCount(end, f"{path}[{i}]"))
        for i, end in enumerate(ends)
    )
    return say("; by the pilot {} to {}", low, high)


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


def _facts(fields: Fields) -> tuple[tuple[str, Words], ...]:
    effect = digits(fields.number("effect"))
    facts: list[tuple[str, Words]] = [
        ("scheme", scheme_name(fields)),
        ("score", fields.text("score", "")),
        ("context width", exact(fields.count("context_width"))),
        ("config fingerprint", fields.text("config_fingerprint", "")),
        ("effect", say("{} null standard deviations a scored pair", effect)),
        ("scored pairs", large(fields.maybe_count("n_scored"))),
    ]
    if fields.has("expected_stopping_n_scored"):
        stopping = large(fields.number("expected_stopping_n_scored"))
        facts.append(("if sequential", say("stops after {} scored pairs on average", stopping)))
    return tuple((name, value) for name, value in facts if value != "")


def _positive(fields: Fields, name: str) -> float:
    value = fields.number(name)
    if not 0.0 < value <= 1.0:
        raise fields.refusal(name, "a number above 0 and at most 1")
    return value
