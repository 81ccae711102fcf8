"""Many texts at once: which of their tokens are scored, and what each scores.

The rules are those of `detect.scoring.scores.select_pairs`, text by text. A short batch goes
through it; a long one through compiled kernels that give the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.scanning.hashing import pair_hashes
from detect.scanning.plans import ScanPlan
from detect.scoring.cells import N_CELLS
from detect.scoring.score_tables import ScoreTable
from detect.scoring.scores import Reason, join_pairs, select_text
from watermark.word_sources import Pairs

__all__ = ["COMPILE_FROM", "ScoredBatch", "score_batch"]

# Below this many tokens numpy is done before numba has been imported (0.5 s).
COMPILE_FROM: Final = 100_000
# What the kernel's numbers mean, in its order.
_KERNEL_REASONS: Final = np.array(
    [
        Reason.SCORED,
        Reason.NO_CONTEXT,
        Reason.SPECIAL_TOKEN,
        Reason.SPECIAL_CONTEXT,
        Reason.REPEATED_CONTEXT,
        Reason.REPEATED_PAIR,
    ],
    np.int8,
)


@final
@dataclass(frozen=True)
class ScoredBatch:
    """The scored pairs of a batch of D texts, in order.

    Attributes:
        n_tokens: int64, shape (D,).
        n_scored: int64, shape (D,).
        reasons: int64, shape (len(Reason),), tokens by reason.
        hashes: uint64, shape (n,), of what each pair is evidence of.
        ranks: uint64, shape (n,): of pairs that are one piece of evidence that of the least rank
            counts; shape (0,) where a pair is evidence of itself.
        units: int32 or int64, shape (n,), scores in steps.
        take: gives the pairs of such indices, as `select_pairs` does.
    """

    n_tokens: NDArray[np.int64]
    n_scored: NDArray[np.int64]
    reasons: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    ranks: NDArray[np.uint64]
    units: NDArray[np.signedinteger]
    take: Callable[[NDArray[np.int64]], Pairs]

    @property
    def sums(self) -> NDArray[np.int64]:
        """Int64, shape (D,), each text's units added up."""
        ends = np.cumsum(self.n_scored)
        totals = np.append(np.int64(0), np.cumsum(self.units, dtype=np.int64))
        sums: NDArray[np.int64] = totals[ends] - totals[ends - self.n_scored]
        return sums


def score_batch(
    texts: Sequence[NDArray[np.int64]], plan: ScanPlan, special_ids: Iterable[int], vocab_size: int
) -> ScoredBatch:
    """Score texts.

    Args:
        texts: int64 each, ids in [0, vocab_size).
        plan: deployment, key and score.
        special_ids: ids that carry no text.
        vocab_size: of the tokenizer.

    Returns:
        Their scored pairs.
    """
    n_tokens = np.array([len(text) for text in texts], np.int64)
    # The kernels know no borders.
    compiles = plan.keeps_pairs and plan.config.reasoning is None
    if compiles and n_tokens.sum() >= COMPILE_FROM:
        return _compiled(texts, n_tokens, plan, frozenset(special_ids), vocab_size)
    return _one_by_one(texts, n_tokens, plan, special_ids)


def _one_by_one(
    texts: Sequence[NDArray[np.int64]],
    n_tokens: NDArray[np.int64],
    plan: ScanPlan,
    special_ids: Iterable[int],
) -> ScoredBatch:
    config, source = plan.config, plan.config.source
    selections = [select_text(text, config, special_ids) for text in texts]
    reasons = np.zeros(len(Reason), np.int64)
    for selection in selections:
        reasons += np.bincount(selection.reasons, minlength=len(Reason))
    pairs = join_pairs(selections, config.context_width)
    n_scored = np.array([s.n_scored for s in selections], np.int64)
    hashes, ranks = pair_hashes(source.evidence(pairs)), np.empty(0, np.uint64)
    if not plan.keeps_pairs:
        ranks = pair_hashes(np.column_stack(pairs))
    units = _units(pairs, plan)

    def take(which: NDArray[np.int64]) -> Pairs:
        return Pairs(pairs.contexts[which], pairs.tokens[which])

    return ScoredBatch(n_tokens, n_scored, reasons, hashes, ranks, units, take)


def _units(pairs: Pairs, plan: ScanPlan) -> NDArray[np.signedinteger]:
    key, source = plan.key_integers, plan.config.source
    streams = range(plan.scorer.n_streams)
    return plan.units(np.stack([source.scan_words(key, pairs, s) for s in streams]))


def _compiled(
    texts: Sequence[NDArray[np.int64]],
    n_tokens: NDArray[np.int64],
    plan: ScanPlan,
    special_ids: frozenset[int],
    vocab_size: int,
) -> ScoredBatch:
    from watermark.kernels import numba_scan

    h = plan.config.context_width
    ids, starts = np.concatenate(texts), np.append(np.int64(0), np.cumsum(n_tokens))
    special = _flags(special_ids, vocab_size)
    unusable = _flags(special_ids | plan.config.source.unkeyed_ids, vocab_size)
    reasons, hashes = numba_scan.select(
        ids, starts, h, special, unusable, drop_contexts=plan.drops_contexts
    )
    reasons = _KERNEL_REASONS[reasons]
    places = np.flatnonzero(reasons == Reason.SCORED)
    scored_before = np.searchsorted(places, starts)

    def take(which: NDArray[np.int64]) -> Pairs:
        at = places[which]
        # A token that is scored has all of its context before it.
        contexts = np.lib.stride_tricks.sliding_window_view(ids, max(h, 1))[at - h, :h]
        return Pairs(contexts, ids[at])

    return ScoredBatch(
        n_tokens,
        np.diff(scored_before),
        np.bincount(reasons, minlength=len(Reason)),
        hashes[places],
        np.empty(0, np.uint64),
        _compiled_units(ids, places, plan, take),
        take,
    )


def _compiled_units(
    ids: NDArray[np.int64],
    places: NDArray[np.int64],
    plan: ScanPlan,
    take: Callable[[NDArray[np.int64]], Pairs],
) -> NDArray[np.signedinteger]:
    from watermark.kernels import numba_scan

    if not plan.is_native:
        return _units(take(np.arange(len(places))), plan)
    h, scorer = plan.config.context_width, plan.scorer
    words = numba_scan.pair_words(plan.key_integers, ids, places, h, scorer.n_streams)
    if not isinstance(scorer, ScoreTable):
        return plan.units(words)
    return numba_scan.table_units(words, scorer.units.reshape(-1).astype(np.int32), N_CELLS)


@lru_cache(maxsize=4)
def _flags(ids: frozenset[int], vocab_size: int) -> NDArray[np.bool_]:
    flags = np.zeros(vocab_size, np.bool_)
    flags[[i for i in ids if i < vocab_size]] = True
    return flags
