"""Shows where a document is marked: evidence along it, the claimed windows, and its text.

Positions in percent of the plot, as in `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from detect.reporting.colours import ColouredToken, Colouring, colour_tokens
from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.plots import Scale, Tick, axis_ticks, evidence_scale
from detect.reporting.reader import TokenView, read_log10_p, read_tokens
from detect.reporting.shown import count, probability, say
from detect.reporting.sourced import SourcedCount, derived

__all__ = ["Bar", "SegmentsView", "Track", "read_segments"]

# A page with more coloured tokens is slow to open; of longer documents the finds are shown.
_MOST_TOKENS: Final = 20_000
_AROUND: Final = 60


@dataclass(frozen=True, slots=True)
class Bar:
    """One find: its p-value and places, tokens and characters as (start, end).

    The window, which is claimed, and the segment estimated in it are also start and width in
    percent of the token axis.
    """

    number: int
    log10_p: float
    n_scored: int
    window: tuple[int, int]
    estimate: tuple[int, int]
    characters: tuple[int, int]
    window_percent: tuple[float, float]
    estimate_percent: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Track:
    """Evidence along the document; `area` are SVG coordinates in a 100 x 100 box, "" for none."""

    area: str
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    alpha: float
    alpha_percent: float


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens that are all in the same segment (its number), or in none (0)."""

    number: int
    tokens: tuple[ColouredToken, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of the text that is shown: its first token, the token after its last, its runs."""

    start: int
    end: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class SegmentsView:
    """What the template reads; without listed tokens there are no passages and no colouring."""

    track: Track
    passages: tuple[Passage, ...]
    colouring: Colouring | None
    is_cut: bool


def read_segments(fields: Fields) -> Exhibit:
    """Read what `heirmark locate` found.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    n_tokens, alpha = fields.count("n_tokens"), fields.number("alpha")
    x_scale = Scale(max(n_tokens, 1))
    objects = fields.objects("segments")
    bars = tuple(_bar(i, s, n_tokens, x_scale, alpha) for i, s in enumerate(objects, 1))
    tokens = read_tokens(fields)
    if tokens and len(tokens) != n_tokens:
        raise fields.refusal("tokens", f"a list of {n_tokens} tokens, as many as n_tokens")
    passages, colouring = _passages(fields, tokens, bars)
    n_found = count(derived(len(bars), f"len({fields.path('segments')})"))
    note = say("at a family-wise level of {}", probability(alpha))
    searched = Figure("Windows searched", count(fields.count("n_windows")), "all are paid for")
    return Exhibit(
        "segments.html",
        (Figure("Segments found", n_found, note), searched),
        SegmentsView(
            _track(fields, bars, x_scale, alpha),
            passages,
            colouring,
            is_cut=sum(p.end - p.start for p in passages) < len(tokens),
        ),
    )


def _bar(number: int, segment: Fields, n_tokens: int, scale: Scale, alpha: float) -> Bar:
    log10_p = read_log10_p(segment, "log10_p")
    if log10_p is None or log10_p > math.log10(alpha) + 1e-9:
        raise segment.refusal("log10_p", f"at most log10 of alpha, {math.log10(alpha):g}")
    window = _extent(segment.inner("window"), "tokens", n_tokens)
    estimate = _extent(segment.inner("estimate"), "tokens", n_tokens)
    return Bar(
        number,
        log10_p,
        segment.count("n_scored"),
        window,
        estimate,
        _extent(segment.inner("estimate"), "characters", None),
        _placed(window, scale),
        _placed(estimate, scale),
    )


def _extent(place: Fields, name: str, most: int | None) -> tuple[int, int]:
    ends = place.items(name)
    whole = len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole or not 0 <= ends[0] <= ends[1] or (most is not None and ends[1] > most):
        inside = "" if most is None else f" within 0 and {most}"
        raise place.refusal(name, f"two ascending whole numbers{inside}")
    first, last = (SourcedCount(end, f"{place.path(name)}[{i}]") for i, end in enumerate(ends))
    return first, last


def _placed(extent: tuple[int, int], scale: Scale) -> tuple[float, float]:
    left = scale.percent(extent[0])
    return left, round(scale.percent(extent[1]) - left, 2)


def _track(fields: Fields, bars: tuple[Bar, ...], x_scale: Scale, alpha: float) -> Track:
    y_scale = evidence_scale([fields.maybe_number("log10_p")], alpha)
    return Track(
        _area(fields.inner("evidence"), x_scale, y_scale),
        bars,
        axis_ticks(x_scale, 5),
        axis_ticks(y_scale, 5),
        alpha,
        round(100 - y_scale.percent(-math.log10(alpha)), 2),
    )


def _area(evidence: Fields, x_scale: Scale, y_scale: Scale) -> str:
    ends, log10_p = evidence.numbers("end"), evidence.numbers("log10_p")
    if len(ends) != len(log10_p):
        raise evidence.refusal("log10_p", f"a list of {len(ends)} numbers, as long as end")
    if not ends:
        return ""
    if any(later <= earlier for earlier, later in pairwise([0.0, *ends])):
        raise evidence.refusal("end", "a list in ascending order")
    corners = ["0,100"]
    for (start, end), value in zip(pairwise([0.0, *ends]), log10_p, strict=True):
        y = round(100 - y_scale.percent(-value), 2)
        corners += [f"{x_scale.percent(x):.2f},{y:g}" for x in (start, end)]
    return " ".join([*corners, "100,100"])


def _passages(
    fields: Fields, tokens: Sequence[TokenView], bars: Sequence[Bar]
) -> tuple[tuple[Passage, ...], Colouring | None]:
    """Choose what is shown, and colour it."""
    stretches = _stretches(bars, len(tokens))
    numbers = [0] * len(tokens)
    for bar in bars if tokens else ():
        start, end = bar.estimate
        numbers[start:end] = [bar.number] * (end - start)
    shown = [token for start, end in stretches for token in tokens[start:end]]
    colouring = colour_tokens(shown, fields)
    coloured = iter(colouring.tokens if colouring else ())
    passages = []
    for start, end in stretches:
        pairs = zip(numbers[start:end], coloured, strict=False)
        runs = groupby(pairs, key=lambda pair: pair[0])
        passages.append(
            Passage(start, end, tuple(Run(n, tuple(token for _, token in run)) for n, run in runs))
        )
    return tuple(passages), colouring


def _stretches(bars: Sequence[Bar], n_tokens: int) -> list[tuple[int, int]]:
    """Return the whole document if it is short, else what lies around the finds."""
    if n_tokens <= _MOST_TOKENS:
        return [(0, n_tokens)] if n_tokens else []
    stretches: list[tuple[int, int]] = []
    room = _MOST_TOKENS
    for bar in bars:
        start, end = max(bar.estimate[0] - _AROUND, 0), min(bar.estimate[1] + _AROUND, n_tokens)
        if stretches and start <= stretches[-1][1]:
            start = stretches[-1][1]
        end = min(end, start + room)
        if end > start:
            stretches.append((start, end))
            room -= end - start
    return stretches
