"""Where a long, mixed document is marked: segments, each with a p-value that pays for the search.

Claimed is "this window contains marking", for disjoint windows of the family of `windows`,
whose p-values hold all at once. Where in it the segment begins and ends is an estimate
(`detect.segments.edges`), and changes no p-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from detect.finding import Plan
from detect.key_floor import key_floor, with_floor
from detect.results import ALPHA, Tail, Verdict, decide, json_p, n_needed
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import (
    Selection,
    refuse_dependent_words,
    score_pairs,
    select_text,
)
from detect.segments.edges import estimate_segments
from detect.segments.skyline import skyline
from detect.segments.windows import Pairs, WindowTable, assess_windows, place_pairs
from detect.text import DIRECT_EFFECT, binding_limits, token_rows
from watermark.config import WatermarkConfig
from watermark.keys import Key
from watermark.schemes.laws import ScoreLaw
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = ["LocatedText", "Segment", "find_segments", "locate_text"]

_LIMITS: Final = (
    "A small p-value shows that the window contains text that depends on the key. It does not show "
    "who wrote it, with what intent, or in breach of what.",
    "Where a segment begins and ends is an estimate; the p-value belongs to its window.",
    "What is not listed is not cleared: short, edited, paraphrased or low-entropy passages, and "
    "passages that the document repeats, carry little evidence of their own.",
)


@final
@dataclass(frozen=True, slots=True)
class Segment:
    """A marked place: a window that is claimed, and edges that are estimated.

    Attributes:
        start: estimated first token.
        end: estimated token after the last.
        window_start: first token of the window.
        window_end: token after its last.
        n_scored: pairs that the window counts.
        statistic: their summed score.
        log10_p: of the window alone.
        log10_corrected: after paying for all windows: the claim.
    """

    start: int
    end: int
    window_start: int
    window_end: int
    n_scored: int
    statistic: float
    log10_p: float
    log10_corrected: float

    def to_dict(self, offsets: Sequence[int]) -> dict[str, Any]:
        """Return JSON values.

        Args:
            offsets: for each token, and for the end, the number of characters before it.
        """
        return {
            "p_value": json_p(self.log10_corrected),
            "log10_p": self.log10_corrected,
            "log10_p_uncorrected": self.log10_p,
            "n_scored": self.n_scored,
            "statistic": self.statistic,
            "window": _place(self.window_start, self.window_end, offsets),
            "estimate": _place(self.start, self.end, offsets),
        }


def _place(start: int, end: int, offsets: Sequence[int]) -> dict[str, list[int]]:
    """A half-open interval in tokens and in characters of the text."""
    return {"tokens": [start, end], "characters": [offsets[start], offsets[end]]}


@final
@dataclass(frozen=True)
class LocatedText:
    """The result for one document.

    Attributes:
        plan: what was fixed beforehand.
        selection: which tokens were scored, and why others were not.
        pairs: the scored pairs with their places.
        table: all windows that were searched.
        segments: what was found, in text order.
        verdict: on the whole document.
        n_powered: pairs that a segment needs to be found; with fewer in all, finding nothing
            means nothing.
        pieces: the text of each token; they join to the text.
        limits: what the result does not show.
    """

    plan: Plan
    selection: Selection
    pairs: Pairs
    table: WindowTable
    segments: tuple[Segment, ...]
    verdict: Verdict
    n_powered: int
    pieces: tuple[str, ...]
    limits: tuple[str, ...]

    def offsets(self) -> list[int]:
        """Count the characters before each token, and before the end."""
        return [0, *accumulate(map(len, self.pieces))]

    def to_dict(self, *, tokens: bool = False) -> dict[str, Any]:
        """Return the JSON result.

        Args:
            tokens: whether to list every token with its score.
        """
        offsets = self.offsets()
        payload = {
            "kind": "segments",
            "p_value": json_p(self.table.log10_global),
            "log10_p": self.table.log10_global,
            "method": "corrected",
            "verdict": self.verdict.value,
            "alpha": self.plan.alpha,
            "n_tokens": self.selection.n_tokens,
            "n_scored": self.selection.n_scored,
            "n_windows": len(self.table.start),
            "n_powered": self.n_powered,
            "segments": [segment.to_dict(offsets) for segment in self.segments],
            "evidence": skyline(self.table, self.selection.n_tokens).to_dict(),
            "reasons": self.selection.reason_counts(),
            "scheme": self.plan.config.scheme.name,
            "score": self.plan.scoring.score_name,
            "context_width": self.plan.config.context_width,
            "key_id": self.plan.key.key_id,
            "config_fingerprint": self.plan.config.fingerprint,
            "limits": list(self.limits),
        }
        if tokens:
            law = self.plan.scoring.law
            payload["tokens"] = token_rows(self.pieces, self.selection, self.pairs.scores, law)
        return payload


def locate_text(
    text: str,
    *,
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    alpha: float = ALPHA,
    score: str | None = None,
) -> LocatedText:
    """Find the marked segments of a document.

    H0 of the document: no part of it depends on the key. For the windows' H0, the alternative, and
    what is exact, see `detect.segments.windows`.

    Args:
        text: the document.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key.
        alpha: family-wise level over everything that is searched.
        score: name of the score (`detect.scoring.scorers.SCORES`); None is that for direct text.

    Returns:
        The result; an empty text is INCONCLUSIVE.

    Raises:
        ConfigError: a score that the scheme cannot have, or a mark whose words are dependent.
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(tokenizer, config.tokenizer)
    refuse_dependent_words(config.source)
    scorer = choose_scorer(score, config.scheme, "direct")
    plan = Plan(config, key, alpha, DIRECT_EFFECT, 0, 0, scorer)
    selection = select_text(
        tokenizer.encode(text), config, tokenizer.special_ids, drop_repeated_contexts=False
    )
    scores = score_pairs(selection, config, config.source.under(key), scorer)
    pairs = place_pairs(selection, scores, config.context_width, config.source)
    table = assess_windows(pairs, selection.n_tokens, scorer.law)
    corrected = with_floor(table.log10_corrected, key_floor(config.source))
    table = replace(table, log10_corrected=corrected)
    # Far below 1e-15 the normal quantile would see alpha as nothing.
    n_powered = n_needed(plan.effect, max(alpha / len(table.start), 1e-15))
    tail = Tail(table.log10_global, table.log10_global, "exact")
    return LocatedText(
        plan,
        selection,
        pairs,
        table,
        find_segments(pairs, table, scorer.law, alpha=alpha),
        decide(tail, selection.n_scored, alpha=alpha, n_powered=n_powered),
        n_powered,
        tuple(tokenizer.pieces(text)),
        (*_LIMITS, *binding_limits(config)),
    )


def find_segments(
    pairs: Pairs, table: WindowTable, law: ScoreLaw, *, alpha: float
) -> tuple[Segment, ...]:
    """Choose disjoint windows, best first, and estimate the edges of what each has found.

    A window that overlaps a chosen one may be significant only through it, and is passed over. A
    window that spans several estimated segments is given up for windows on each side of the gaps,
    as far as there are any. All are claims that hold together with probability 1 - alpha.

    Args:
        pairs: the scored pairs.
        table: their windows.
        law: null law of a score.
        alpha: family-wise level; windows above it are not claimed.

    Returns:
        The segments in text order; they are disjoint, and so are their windows.
    """
    n_tokens = int(table.end[-1])
    claims = _Claims.of(table, alpha)
    found, stretches = [], [(0, n_tokens)]
    while stretches:
        low, high = stretches.pop()
        window = claims.best(low, high)
        if window is None:
            continue
        place = int(table.start[window]), int(table.end[window])
        spots = estimate_segments(pairs, law, place, (low, high), n_tokens=n_tokens)
        parts = _parts(claims, low, high, spots)
        if len(parts) > 1:
            stretches += parts
        else:
            touching = [spot for spot in spots if spot[0] < place[1] and place[0] < spot[1]]
            start, end = (touching[0][0], touching[-1][1]) if touching else place
            found.append(_segment(table, window, start, end))
            stretches += [(low, min(start, place[0])), (max(end, place[1]), high)]
    return tuple(sorted(found, key=lambda segment: segment.start))


class _Claims(NamedTuple):
    """Windows that may be claimed, the best first: row in the table, start and end."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, table: WindowTable, alpha: float) -> Self:
        rows = np.flatnonzero(table.log10_corrected <= math.log10(alpha))
        rows = rows[np.argsort(table.log10_corrected[rows], kind="stable")]
        return cls(rows, table.start[rows], table.end[rows])

    def best(self, low: int, high: int) -> int | None:
        """Row of the best window inside [low, high), if there is one."""
        inside = (self.starts >= low) & (self.ends <= high)
        return int(self.rows[np.argmax(inside)]) if inside.any() else None


def _parts(
    claims: _Claims, low: int, high: int, spots: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Cut a stretch in the middle of its gaps, as far as every part has a claim of its own."""
    cuts = [(before[1] + after[0]) // 2 for before, after in pairwise(spots)]
    parts, start = [], low
    for cut in [*cuts, high]:
        if claims.best(start, cut) is not None:
            parts.append((start, cut))
            start = cut
    return [*parts[:-1], (parts[-1][0], high)]


def _segment(table: WindowTable, window: int, start: int, end: int) -> Segment:
    return Segment(
        start,
        end,
        int(table.start[window]),
        int(table.end[window]),
        int(table.n_scored[window]),
        float(table.statistic[window]),
        float(table.log10_p[window]),
        float(table.log10_corrected[window]),
    )
