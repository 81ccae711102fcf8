"""The search itself: every document and the pool of all, under every key, block by block.

H0 of a key: what is searched does not depend on it; the scores of distinct pairs under it are then
independent with the scheme's law, and its p-value is exact. That holds for a key nobody used and
for an innocent account alike: a pair that another account's key has chosen is nothing special under
this one. So every key is tested by itself, also where several have signed, and Bonferroni's bound
over keys (and documents) needs nothing about how their statistics depend on each other.

A document has two p-values under each key: that of its sum, exact, and one for passages among what
others wrote or replaced (`detect.tracing.texts.passages`, `detect.tracing.texts.passage_draws`).
The smaller counts, with both looks paid for by fixed shares of the level. Passages are looked for
under the keys with the largest sums only; the others' p-value is 1, and the chance of a small one
is only smaller.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.key_sums import group_pairs, key_units
from detect.scanning.hashing import pair_hashes
from detect.scanning.summary import MAX_LISTED
from detect.scoring.scores import Selection, select_text
from detect.tails.nulls import log_tails
from detect.tracing.texts.hash_sets import HashSet
from detect.tracing.texts.passage_draws import log_p_values
from detect.tracing.texts.passages import log_ratios
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.reading import TokenizedDocument
from watermark.schemes.laws import ScoreLaw
from watermark.word_sources import Pairs

__all__ = ["Listed", "Search", "best_tails"]

# Documents and pairs of one block: what a sum each under every key takes stays near 50 MB.
_BLOCK_DOCUMENTS: Final = 256
_BLOCK_PAIRS: Final = 1 << 16
# Pairs that fresh keys are tried on.
_SAMPLED: Final = 1 << 16
# Passages are looked for under one key in so many, and under this many at least.
_PASSAGE_KEYS: Final = 4
_LEAST_PASSAGE_KEYS: Final = 256
# Decades around the level of one document in which draws can decide: they win some 1.5, and of
# many documents the level is lower.
_BELOW: Final = 6.0
_ABOVE: Final = 3.0
# Sums whose tails are computed together at first.
_FIRST_TAILS: Final = 16
_IN_EARLIER_DOCUMENT: Final = "pair_in_earlier_document"
_LN10: Final = math.log(10)


class Listed(NamedTuple):
    """One document: its place in the order, name, size, and its best keys, best first.

    Attributes:
        number: from 0.
        id: its name.
        source: where it stands.
        n_tokens: its tokens.
        n_scored: distinct pairs.
        keys: numbers of the keys that it could name, and of the best one.
        log10_p: of these.
        statistic: summed score of the best one.
        by_passages: whether the best one's p-value is that of passages, not of the sum.
    """

    number: int
    id: str
    source: str
    n_tokens: int
    n_scored: int
    keys: tuple[int, ...]
    log10_p: tuple[float, ...]
    statistic: float
    by_passages: bool = False


def best_tails(
    law: ScoreLaw, statistics: NDArray[np.float64], n: int, threshold: float, at_least: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the largest of many sums of n scores, and their tails: all that reach a level.

    Args:
        law: of one score.
        statistics: float64, shape (K,).
        n: scores in each.
        threshold: log10 p; every sum with a tail of at most this is found.
        at_least: how many are found anyway, if there are so many.

    Returns:
        Their places, int64, largest sum first (of equal ones the first), and log10 p; as many as it
        takes, and few more.
    """
    size = max(at_least, _FIRST_TAILS)
    while True:
        size = min(size, len(statistics))
        top = np.argpartition(-statistics, size - 1)[:size]
        top = top[np.lexsort((top, -statistics[top]))]
        logs = log_tails(law, statistics[top], np.full(size, n)) / _LN10
        if size == len(statistics) or logs[-1] > threshold:
            return top, logs
        size *= 4


@final
class Search:
    """Adds up documents under all keys.

    Attributes:
        units: int64, shape (K,), sums of the pool's distinct pairs.
        n_distinct: these pairs.
        n_pairs: pairs of all documents, equal ones among them.
        n_tokens: tokens of all documents.
        n_scored: each document's pairs, 4 bytes a document.
        best: float64, shape (K,), smallest log10 p of a document whose best key it is, or that
            could name it; else 0.
        by_passages: bool, shape (K,), whether that p-value is one of passages, not of a sum.
    """

    def __init__(self, plan: TracePlan, special_ids: Iterable[int]) -> None:
        self._plan, self._special = plan, tuple(special_ids)
        n_keys, h = len(plan.family), plan.config.context_width
        self.units = np.zeros(n_keys, np.int64)
        self.n_distinct = self.n_pairs = self.n_tokens = 0
        self.n_scored = array("i")
        self.best, self.by_passages = np.zeros(n_keys), np.zeros(n_keys, np.bool_)
        self._keys, self._logs, self._firsts = array("i"), array("d"), array("d")
        # No document alone can be named that is not below this: more documents lower it.
        self._threshold = math.log10(plan.alpha) - math.log10(n_keys)
        self._reasons: Counter[str] = Counter()
        self._seen = HashSet()
        self._sample = (np.empty(0, np.uint64), np.empty((0, h + 1), np.int64))
        self._waiting: list[tuple[TokenizedDocument, Selection]] = []
        self._n_waiting = 0
        self._listed: list[tuple[float, int, Listed]] = []

    @property
    def n_documents(self) -> int:
        """Documents that were added up."""
        return len(self.n_scored)

    @property
    def statistics(self) -> NDArray[np.float64]:
        """Float64, shape (K,), summed scores of the pool's distinct pairs."""
        return self._scores(self.units)

    @property
    def reasons(self) -> dict[str, int]:
        """Unscored tokens by reason, and repeats in the pool."""
        found = dict(self._reasons)
        if repeats := self.n_pairs - self.n_distinct:
            found[_IN_EARLIER_DOCUMENT] = repeats
        return found

    @property
    def sample(self) -> Pairs:
        """The pool's pairs, or those with the least hashes: a choice that no key has a part in."""
        rows = self._sample[1]
        return Pairs(rows[:, :-1], rows[:, -1])

    @property
    def candidates(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Keys that a document could name, and log10 p of each: 12 bytes are held for one."""
        return np.array(self._keys, np.int64), np.array(self._logs, np.float64)

    @property
    def candidate_documents(self) -> NDArray[np.float64]:
        """Smallest log10 p, under keys that were not revoked, of documents that could name one."""
        return np.array(self._firsts, np.float64)

    @property
    def listed(self) -> list[Listed]:
        """Documents in order; of many those with the smallest p-values."""
        return sorted(row for _, _, row in self._listed)

    def select(
        self, document: TokenizedDocument, prompt_ids: NDArray[np.int64] | None = None
    ) -> Selection:
        """Choose a document's pairs, as a scan does."""
        return select_text(
            document.token_ids, self._plan.config, self._special, prompt_ids=prompt_ids
        )

    def add(self, document: TokenizedDocument, selection: Selection) -> None:
        """Add a document; it is searched when its block is full, or by `flush`."""
        self._waiting.append((document, selection))
        self._n_waiting += selection.n_scored
        if len(self._waiting) >= _BLOCK_DOCUMENTS or self._n_waiting >= _BLOCK_PAIRS:
            self.flush()

    def flush(self) -> None:
        """Search what is waiting."""
        if not self._waiting:
            return
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        chosen = [selection for _, selection in waiting]
        pairs = Pairs(
            np.concatenate([selection.contexts for selection in chosen]),
            np.concatenate([selection.tokens for selection in chosen]),
        )
        sizes = [selection.n_scored for selection in chosen]
        own = np.repeat(np.arange(len(chosen)) + 1, sizes)
        new = self._first_met(pairs)
        # The pool is sum 0; a word that both need is made once.
        both = Pairs(
            np.concatenate([pairs.contexts[new], pairs.contexts]),
            np.concatenate([pairs.tokens[new], pairs.tokens]),
        )
        sums = np.concatenate([np.zeros(len(new), np.int64), own])
        plan = self._plan
        units = key_units(
            plan.scorer,
            plan.family.integers,
            group_pairs(both, sums, len(chosen) + 1),
            plan.config.source,
        )
        self.units += units[0]
        for (document, selection), row in zip(waiting, units[1:], strict=True):
            self._rank(document, selection, row)

    def _first_met(self, pairs: Pairs) -> NDArray[np.int64]:
        """Find the pairs that no earlier document has, each once; they join the pool."""
        hashes = pair_hashes(self._plan.config.source.evidence(pairs))
        distinct, first = np.unique(hashes, return_index=True)
        new = np.sort(first[self._seen.add(distinct)])
        self.n_pairs += len(hashes)
        self.n_distinct += len(new)
        rows = np.column_stack([pairs.contexts[new], pairs.tokens[new]])
        held, held_rows = self._sample
        hashes, rows = np.append(held, hashes[new]), np.concatenate([held_rows, rows])
        least = np.argsort(hashes, kind="stable")[:_SAMPLED]
        self._sample = (hashes[least], rows[least])
        return new

    def _rank(
        self, document: TokenizedDocument, selection: Selection, units: NDArray[np.int64]
    ) -> None:
        number, n = len(self.n_scored), selection.n_scored
        self.n_scored.append(n)
        self.n_tokens += selection.n_tokens
        self._reasons.update(selection.reason_counts())
        size = selection.n_tokens
        listed = Listed(number, document.id, document.source, size, n, (), (), 0.0)
        if n:
            keys, logs, by_passages = self._tails(selection, units)
            kept = max(int((logs <= self._threshold).sum()), 1)
            better = np.flatnonzero(logs[:kept] < self.best[keys[:kept]])
            self.best[keys[better]] = logs[better]
            self.by_passages[keys[better]] = by_passages[better]
            if logs[0] <= self._threshold:
                own = ~self._plan.family.is_revoked[keys[:kept]]
                self._firsts.append(float(logs[:kept].min(where=own, initial=0.0)))
                self._keys.extend(keys[:kept].tolist())
                self._logs.extend(logs[:kept].tolist())
            listed = listed._replace(
                keys=tuple(keys[:kept].tolist()),
                log10_p=tuple(logs[:kept].tolist()),
                statistic=float(self._scores(units[keys[:1]])[0]),
                by_passages=bool(by_passages[0]),
            )
        self._list(listed)

    def _tails(
        self, selection: Selection, units: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Find the keys that a document could name, and the best one, with log10 p, best first.

        Last is whether each one's p-value is that of passages.
        """
        plan, n = self._plan, selection.n_scored
        keys, logs = best_tails(plan.scorer.law, self._scores(units), n, self._threshold)
        if plan.passages is None:
            return keys, logs, np.zeros(len(keys), np.bool_)
        n_sums = len(keys)
        size = min(max(len(units) // _PASSAGE_KEYS, _LEAST_PASSAGE_KEYS), len(units))
        tried = np.argsort(-units, kind="stable")[:size]
        pairs = Pairs(selection.contexts, selection.tokens)
        integers, source = plan.family.integers[tried], plan.config.source
        ratios = log_ratios(plan.passages, integers, pairs, source)
        bounds = plan.passage_cost - ratios / _LN10
        near = (bounds > self._threshold - _BELOW) & (bounds < self._threshold + _ABOVE)
        if near.any():
            sharper = log_p_values(plan.passages, ratios[near], n) / _LN10
            bounds[near] = plan.passage_cost + sharper
        keys = np.concatenate([keys, tried])
        logs = np.concatenate([logs + plan.sum_cost, bounds])
        order = np.lexsort((np.arange(len(keys)), logs))
        # Of a key's two p-values the smaller.
        first = np.sort(np.unique(keys[order], return_index=True)[1])
        order = order[first]
        return keys[order], np.minimum(logs[order], 0.0), order >= n_sums

    def _scores(self, units: NDArray[np.int64]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = units.astype(np.float64) * self._plan.step
        return scores

    def _list(self, row: Listed) -> None:
        # Least evidence first in the heap; of equal evidence the later document goes.
        item = (-(row.log10_p[0] if row.log10_p else 0.0), -row.number, row)
        if len(self._listed) < MAX_LISTED:
            heapq.heappush(self._listed, item)
        else:
            heapq.heappushpop(self._listed, item)
