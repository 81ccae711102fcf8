"""The windows of a document, all of them tested: the search that localisation pays for.

The family is fixed by the number of tokens alone: lengths 32 * 2^(j/2) and the whole document, each
length at every quarter of itself (a geometric cover as in TextSeal 2026; it loses little against
all intervals, Rivera and Walther, Scand. J. Statist. 40, 2013). Every window that could matter has
the exact tail of `detect.tails.nulls`, the others a bound above it. The correction is Bonferroni's
with weights: each length gets the same share of the level and its windows divide that evenly
(Walther and Perry, JRSS B 84, 2022). The whole document so pays for the number of lengths only, not
for the many short windows.

What a window counts depends on the text alone, by two rules:

1. A context counts where it occurs first *in the window*: that is how a response is marked, and in
   a document of many parts the contexts of one part have often occurred in another.
2. A pair counts only if all its occurrences in the document lie in the window. Whoever writes
   around marked text repeats some of its pairs (names, phrases, quotations), whose words are high:
   without this rule an innocent passage that echoes marked text would be accused.

H0 of a window: its tokens were chosen independently of the key, given the rest of the text.
Alternative: part of the window was marked under the key. Under H0, given the whole text, the words
that the window counts are independent and uniform, or smaller where marked text elsewhere had the
choice of them and took another. The family-wise error is so at most alpha under any dependence, for
the unmarked windows of a document that is marked elsewhere too. That step (Harris' inequality)
needs that raising a token's words never raises another token's chance: true for Gumbel, dual Gumbel
and red-green, with any score that rises with the words. For tournament marks only the global answer
is proved: H0 of the document, that no part of it depends on the key.

A passage that stands in the document twice counts only in windows that hold both places. With
context width 0 nearly all pairs are repeated, and little can be localised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.scores import Reason, Selection
from detect.tails.nulls import log_tails
from watermark import word_sources
from watermark.contexts import group_rows, windows
from watermark.prf import NATIVE
from watermark.schemes.laws import ScoreLaw
from watermark.word_sources import WordSource

__all__ = ["Pairs", "WindowTable", "assess_windows", "place_pairs"]

_SHORTEST: Final = 32
_STARTS_PER_LENGTH: Final = 4
_LN10: Final = math.log(10)
# A Chernoff bound is above the tail by 2 to 3 nats where a document's windows decide: one that is
# e^4 after correction cannot hide a corrected p-value below 1.
_LN_SPARE: Final = 4.0


@final
@dataclass(frozen=True, slots=True)
class Pairs:
    """The scored pairs of a document, and what decides which windows count them.

    Attributes:
        positions: int64, shape (n,), ascending: the token at which each pair occurs first.
        previous: int64, shape (n,), the last earlier token with the same context; -1 for none.
        last: int64, shape (n,), the token at which the same pair occurs last.
        scores: float64, shape (n,).
    """

    positions: NDArray[np.int64]
    previous: NDArray[np.int64]
    last: NDArray[np.int64]
    scores: NDArray[np.float64]

    def within(self, start: int, end: int) -> NDArray[np.int64]:
        """Return the indices of the pairs that the window [start, end) counts."""
        low, high = np.searchsorted(self.positions, [start, end])
        counted = (self.previous[low:high] < start) & (self.last[low:high] < end)
        return np.arange(low, high)[counted]


@final
@dataclass(frozen=True, slots=True)
class WindowTable:
    """All windows that were searched, as columns of equal length m.

    Attributes:
        start: int64, first token.
        end: int64, token after the last.
        n_scored: int64, pairs counted.
        statistic: float64, their summed score.
        log10_p: float64, of the window alone.
        log10_corrected: float64, after paying for all windows.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    n_scored: NDArray[np.int64]
    statistic: NDArray[np.float64]
    log10_p: NDArray[np.float64]
    log10_corrected: NDArray[np.float64]

    @property
    def log10_global(self) -> float:
        """Log10 p of the whole document: that of its best window, corrected for all."""
        return float(self.log10_corrected.min(initial=0.0))


def place_pairs(
    selection: Selection,
    scores: NDArray[np.float64],
    context_width: int,
    source: WordSource = NATIVE,
) -> Pairs:
    """Find out where the contexts and pairs of a document recur.

    Args:
        selection: made with `drop_repeated_contexts=False`: windows have a rule of their own.
        scores: float64, shape (n,), of the selected pairs.
        context_width: h.
        source: what makes the words; pairs that are one piece of evidence to it are the same pair.

    Returns:
        The pairs.
    """
    h = context_width
    contexts, tokens = windows(selection.token_ids, h), selection.token_ids[h:]
    at = np.arange(len(tokens))
    previous = np.full(len(tokens), -1 - h)
    if h:
        _, context = group_rows(contexts)
        order = np.argsort(context, kind="stable")
        same = np.flatnonzero(np.diff(context[order]) == 0)
        previous[order[same + 1]] = order[same]
    same_words = source.canonical(word_sources.Pairs(contexts, tokens))
    _, pair = group_rows(source.evidence(same_words))
    last = np.zeros(len(tokens), np.int64)
    np.maximum.at(last, pair, at)
    positions = np.flatnonzero(selection.reasons == Reason.SCORED)
    kept = positions - h
    return Pairs(positions, previous[kept] + h, last[pair[kept]] + h, scores)


class _Cover(NamedTuple):
    """The windows of one length: window k is [k * step, k * step + length)."""

    length: int
    step: int
    n_windows: int


def _covers(n_tokens: int) -> list[_Cover]:
    grid = (round(_SHORTEST * 2 ** (j / 2)) for j in count())
    lengths = [*takewhile(lambda length: length < n_tokens, grid), n_tokens]
    steps = [max(length // _STARTS_PER_LENGTH, 1) for length in lengths]
    return [
        _Cover(length, step, -((length - n_tokens) // step) + 1)
        for length, step in zip(lengths, steps, strict=True)
    ]


def _window_sums(pairs: Pairs, cover: _Cover) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count and sum the pairs of every window of one length, in time O(n).

    A pair is counted by a run of windows: those that start after `previous`, at or before
    `positions`, and end after `last`. Its score is added where the run begins and taken off where
    it ends.
    """
    first = np.maximum(
        pairs.previous // cover.step + 1, -((cover.length - 1 - pairs.last) // cover.step)
    )
    final = np.minimum(pairs.positions // cover.step, cover.n_windows - 1)
    kept = first <= final
    first, beyond, scores = first[kept], final[kept] + 1, pairs.scores[kept]
    size = cover.n_windows + 1
    counts = np.bincount(first, minlength=size) - np.bincount(beyond, minlength=size)
    sums = np.bincount(first, scores, size) - np.bincount(beyond, scores, size)
    return np.cumsum(counts)[:-1], np.cumsum(sums)[:-1]


def assess_windows(pairs: Pairs, n_tokens: int, law: ScoreLaw) -> WindowTable:
    """Test every window of the family.

    H0, alternative and correction: see the module. Exact for each window (for Gumbel schemes a
    bound within 1e-9, see `watermark.schemes.gumbel.upper_tail`) but for those that are far from
    any evidence; a bound after the correction.

    Args:
        pairs: the scored pairs.
        n_tokens: length of the document; it alone fixes the family.
        law: null law of a score.

    Returns:
        The windows, by length and place; the last is the whole document.
    """
    covers = _covers(n_tokens)
    starts = [cover.step * np.arange(cover.n_windows) for cover in covers]
    ends = [np.minimum(s + c.length, n_tokens) for s, c in zip(starts, covers, strict=True)]
    sums = [_window_sums(pairs, cover) for cover in covers]
    n_scored = np.concatenate([n for n, _ in sums])
    statistic = np.concatenate([s for _, s in sums])
    price = np.concatenate([np.full(c.n_windows, len(covers) * c.n_windows) for c in covers])
    log10_p = _log_p(law, statistic, n_scored, np.log(price)) / _LN10
    return WindowTable(
        np.concatenate(starts),
        np.concatenate(ends),
        n_scored,
        statistic,
        log10_p,
        np.minimum(log10_p + np.log10(price), 0.0),
    )


def _log_p(
    law: ScoreLaw,
    statistic: NDArray[np.float64],
    n_scored: NDArray[np.int64],
    log_price: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Ln p of windows: exact where it may survive its price, else the Chernoff bound.

    Any t gives a bound, n K(t) - t s; the best of a grid is at most z^2 / 50 nats above the best of
    all. Exact tails on a lattice take long, and nearly all windows of a document are ordinary.
    """
    grid = 2.0 ** np.arange(-10, 3, 0.5) / math.sqrt(law.variance)
    grid = grid[grid < law.t_max]
    log_p = np.zeros(len(statistic))
    for t, cumulant in zip(grid, law.cumulants(grid).value, strict=True):
        np.minimum(log_p, n_scored * cumulant - t * statistic, out=log_p)
    near = log_p + log_price < _LN_SPARE
    log_p[near] = log_tails(law, statistic[near], n_scored[near])
    return log_p
