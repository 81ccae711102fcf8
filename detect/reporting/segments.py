"""Draws where a document is marked, as one self-contained HTML page with inline SVG.

Evidence along the document, the claimed windows with their corrected p-values, the estimated
segments, and the text coloured by score. Positions in percent of the plot, as in `plots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.reporting.colours import ColouredToken, Colouring, colour_tokens
from detect.reporting.page import _environment
from detect.reporting.plots import Scale, Tick, _ticks, evidence_scale
from detect.reporting.reader import TokenView
from detect.reporting.words import reading, visible
from detect.scoring.scores import Reason
from detect.segments.localisation import LocatedText, Segment
from detect.segments.windows import WindowTable
from detect.tails.nulls import log_tails
from watermark.schemes.laws import Tabulated

__all__ = ["render_segments"]

_COLUMNS: Final = 480
# A page with more coloured tokens is slow to open; of longer documents the finds are shown.
_MOST_TOKENS: Final = 20_000
_AROUND: Final = 60
_HEADLINES: Final = MappingProxyType(
    {
        "signal": "This document contains marked text.",
        "no_signal": "No marked segment was found in this document.",
        "inconclusive": "This document cannot be judged either way.",
    }
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One find on the token axis: window and estimate, each as start and width in percent."""

    number: int
    segment: Segment
    characters: tuple[int, int]
    window: tuple[float, float]
    estimate: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Track:
    """Evidence along the document; `area` are SVG coordinates in a 100 x 100 box."""

    area: str
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
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


def render_segments(result: LocatedText) -> str:
    """Render where a document is marked.

    Args:
        result: the result; its text is treated as hostile and escaped.

    Returns:
        A complete HTML document without scripts, to be written as UTF-8.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    passages, colouring = _passages(result)
    return (
        _environment()
        .get_template("segments.html")
        .render(
            result=result,
            headline=_HEADLINES[result.verdict.value],
            reading=reading(result.verdict.value, result.table.log10_global),
            track=_track(result),
            passages=passages,
            n_shown=sum(passage.end - passage.start for passage in passages),
            colouring=colouring,
        )
    )


def _track(result: LocatedText) -> Track:
    n_tokens, alpha = max(result.selection.n_tokens, 1), result.plan.alpha
    x_scale = Scale(n_tokens)
    y_scale = evidence_scale([result.table.log10_global], alpha)
    offsets = result.offsets()
    return Track(
        _area(_skyline(result.table, n_tokens), y_scale),
        tuple(
            Bar(
                number,
                segment,
                (offsets[segment.start], offsets[segment.end]),
                _extent(segment.window_start, segment.window_end, x_scale),
                _extent(segment.start, segment.end, x_scale),
            )
            for number, segment in enumerate(result.segments, 1)
        ),
        _ticks(x_scale, 5),
        _ticks(y_scale, 5),
        round(100 - y_scale.percent(-np.log10(alpha)), 2),
    )


def _skyline(table: WindowTable, n_tokens: int) -> NDArray[np.float64]:
    """Return -log10 of the smallest corrected p of the windows over each column."""
    n_columns = min(n_tokens, _COLUMNS)
    first = table.start * n_columns // n_tokens
    beyond = -(-table.end * n_columns // n_tokens)
    height = np.zeros(n_columns)
    strong = np.flatnonzero(table.log10_corrected < 0)
    # The strongest last, so that it stays.
    for i in strong[np.argsort(-table.log10_corrected[strong], kind="stable")].tolist():
        height[first[i] : beyond[i]] = -table.log10_corrected[i]
    return height


def _area(heights: NDArray[np.float64], y_scale: Scale) -> str:
    width = 100 / len(heights)
    corners = ["0,100"]
    for i, height in enumerate(heights.tolist()):
        y = round(100 - y_scale.percent(height), 2)
        corners += [f"{i * width:.2f},{y:g}", f"{(i + 1) * width:.2f},{y:g}"]
    return " ".join([*corners, "100,100"])


def _extent(start: int, end: int, scale: Scale) -> tuple[float, float]:
    left = scale.percent(start)
    return left, round(scale.percent(end) - left, 2)


def _passages(result: LocatedText) -> tuple[tuple[Passage, ...], Colouring | None]:
    """Choose what is shown, and colour it."""
    stretches = _stretches(result.segments, result.selection.n_tokens)
    numbers = np.zeros(result.selection.n_tokens, np.int64)
    for number, segment in enumerate(result.segments, 1):
        numbers[segment.start : segment.end] = number
    views = _token_views(result)
    shown = [views[i] for start, end in stretches for i in range(start, end)]
    colouring = colour_tokens(shown, result.plan.config.scheme.name)
    coloured = iter(colouring.tokens if colouring else ())
    passages = []
    for start, end in stretches:
        pairs = zip(numbers[start:end].tolist(), coloured, strict=False)
        runs = groupby(pairs, key=lambda pair: pair[0])
        passages.append(
            Passage(start, end, tuple(Run(n, tuple(token for _, token in run)) for n, run in runs))
        )
    return tuple(passages), colouring


def _stretches(segments: Sequence[Segment], n_tokens: int) -> list[tuple[int, int]]:
    """Return the whole document if it is short, else what lies around the finds."""
    if n_tokens <= _MOST_TOKENS:
        return [(0, n_tokens)]
    stretches: list[tuple[int, int]] = []
    room = _MOST_TOKENS
    for segment in segments:
        start, end = max(segment.start - _AROUND, 0), min(segment.end + _AROUND, n_tokens)
        if stretches and start <= stretches[-1][1]:
            start = stretches[-1][1]
        end = min(end, start + room)
        if end > start:
            stretches.append((start, end))
            room -= end - start
    return stretches


def _token_views(result: LocatedText) -> list[TokenView]:
    scores, law = result.pairs.scores, result.plan.scoring.law
    nats: list[float | None] = [None] * len(scores)
    if isinstance(law, Tabulated):
        # A table's scores have a scale of their own: the chance of one as high says more.
        nats = (-log_tails(law, scores, np.ones(len(scores), np.int64))).tolist()
    scored = zip(scores.tolist(), nats, strict=True)
    views = []
    for piece, code in zip(result.pieces, result.selection.reasons.tolist(), strict=True):
        score, own_nats = next(scored) if code == Reason.SCORED else (None, None)
        views.append(TokenView(visible(piece), score, Reason(code).label, own_nats))
    return views
