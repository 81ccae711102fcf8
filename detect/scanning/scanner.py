"""The scanner's core: `init -> update -> merge -> finalise`, the same on every machine.

    part = scanner.init()
    part = scanner.update(part, texts)      any number of times, on any worker
    part = scanner.merge(parts)             any grouping, any order
    result = finalise(parts, ...)           `detect.scanning.summary`

Any split of a corpus gives the same result bit for bit; see `detect.scanning.parts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.scanning.batches import ScoredBatch, score_batch
from detect.scanning.encoding import encode_documents, fault_of
from detect.scanning.parts import (
    Bad,
    DocumentColumns,
    Part,
    PoolColumns,
    Sample,
    empty_part,
    least_places,
    merged,
)
from detect.scanning.plans import ScanPlan
from detect.tails.layers import layers_tail
from watermark.schemes.laws import LayeredBits
from watermark.tokens import TextTokenizer

__all__ = ["Located", "Scanner"]


class Located(NamedTuple):
    """A document: its piece, its line or row there, its name, and text or ids."""

    piece: int
    place: int
    name: str | None
    text: str | None
    ids: NDArray[np.int64] | None


@final
@dataclass(frozen=True)
class Scanner:
    """What turns documents into parts.

    Attributes:
        plan: deployment, key and score.
        tokenizer: the provider's.
    """

    plan: ScanPlan
    tokenizer: TextTokenizer

    def init(self) -> Part:
        """Return the part of no documents."""
        return empty_part(self.plan.config.context_width, self.plan.units_dtype)

    def update(self, part: Part, documents: Sequence[Located]) -> Part:
        """Add documents to a part; those with an id that the tokenizer lacks count as bad."""
        return self.merge([part, self.scan(documents)])

    def merge(self, parts: Sequence[Part]) -> Part:
        """Put parts together; see `detect.scanning.parts.merged`."""
        return merged([self.init(), *parts], self.plan.n_sampled)

    def scan(self, documents: Sequence[Located]) -> Part:
        """Score some documents.

        Args:
            documents: few enough to be tokenised together.

        Returns:
            Their part.
        """
        encoded = encode_documents(self.tokenizer, [(d.text, d.ids) for d in documents])
        texts: list[NDArray[np.int64]] = []
        kept: list[Located] = []
        bad: list[Bad] = []
        for document, ids in zip(documents, encoded, strict=True):
            if fault := fault_of(ids, self.tokenizer):
                bad.append(Bad(document.piece, document.place, fault.reason, str(fault)))
                continue
            texts.append(ids)
            kept.append(document)
        batch = score_batch(texts, self.plan, self.tokenizer.special_ids, self.tokenizer.vocab_size)
        return self._part(kept, batch, bad)

    def _part(self, documents: Sequence[Located], batch: ScoredBatch, bad: list[Bad]) -> Part:
        columns = DocumentColumns(
            np.array([d.piece for d in documents], np.int64),
            np.array([d.place for d in documents], np.int64),
            batch.n_tokens,
            batch.n_scored,
            batch.sums,
            self._own_log10_p(batch),
        )
        return Part(
            columns,
            [d.name for d in documents],
            PoolColumns(batch.hashes, batch.ranks, batch.units),
            _sample(batch, self.plan.n_sampled),
            batch.reasons,
            Counter(one.reason for one in bad),
            tuple(bad),
        )

    def _own_log10_p(self, batch: ScoredBatch) -> NDArray[np.float64]:
        """Of each document alone, where the source's layers give its null."""
        plan, law = self.plan, self.plan.scorer.law
        found = np.zeros(len(batch.n_tokens))
        if plan.config.source.null != "layers":
            return found
        if not isinstance(law, LayeredBits):
            raise TypeError(f"no null is known for {type(law).__name__} with these words")
        ends = np.cumsum(batch.n_scored)
        for i, (end, n, units) in enumerate(zip(ends, batch.n_scored, batch.sums, strict=True)):
            if n:
                pairs = batch.take(np.arange(end - n, end))
                layers = plan.config.source.layers(plan.key_integers, pairs, plan.seed)
                found[i] = layers_tail(law.weights, layers, int(units)).log10_p_ceiling
        return found


def _sample(batch: ScoredBatch, n: int) -> Sample:
    """The batch's least hashes with their pairs, which no other place keeps."""
    least = least_places(batch.hashes, n)
    pairs = batch.take(least)
    ranks = batch.ranks[least] if len(batch.ranks) else batch.ranks
    rows = np.column_stack([pairs.contexts, pairs.tokens])
    return Sample(batch.hashes[least], ranks, batch.units[least], rows)
