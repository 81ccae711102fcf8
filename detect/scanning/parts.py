"""Parts of a scan: what a few documents give, and how parts are put together.

Parts form a commutative monoid: `merged` of any parts in any grouping and order stands for the
same scan, since nothing in it is a rounded sum. Scores are integers (`ScanPlan.units`), and which
of several equal pairs counts is told by the pairs, not by who came first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.scores import Reason

__all__ = [
    "DAMAGED",
    "MAX_EXAMPLES",
    "Bad",
    "DocumentColumns",
    "Part",
    "PoolColumns",
    "Sample",
    "empty_part",
    "first_bad",
    "least_places",
    "merged",
    "sampled",
]

# Bad documents that are named; all are counted.
MAX_EXAMPLES: Final = 20
# The reason of what is no document: a file's rest that cannot be read.
DAMAGED: Final = "damaged_file"


class DocumentColumns(NamedTuple):
    """Documents, a column each; D of them.

    Attributes:
        piece: int64, the piece of the corpus that it stands in.
        place: int64, its line or row in the piece, from 1; 0 for a whole file.
        n_tokens: int64.
        n_scored: int64.
        units: int64, its statistic in steps of the score.
        own_log10_p: float64, where the source's layers give its null, else 0.
    """

    piece: NDArray[np.int64]
    place: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    n_scored: NDArray[np.int64]
    units: NDArray[np.int64]
    own_log10_p: NDArray[np.float64]


class PoolColumns(NamedTuple):
    """Scored pairs of all documents, equal ones among them; columns as in `ScoredBatch`."""

    hashes: NDArray[np.uint64]
    ranks: NDArray[np.uint64]
    units: NDArray[np.signedinteger]


class Sample(NamedTuple):
    """Pairs with the least hashes: a choice that no key has a part in.

    Of a part of few documents as they come, with repeats; of merged parts distinct, ascending.

    Attributes:
        hashes: uint64, shape (m,).
        ranks: uint64, shape (m,) or (0,).
        units: int32 or int64, shape (m,).
        rows: int64, shape (m, h + 1), context and token.
    """

    hashes: NDArray[np.uint64]
    ranks: NDArray[np.uint64]
    units: NDArray[np.signedinteger]
    rows: NDArray[np.int64]


class Bad(NamedTuple):
    """A document that could not be read."""

    piece: int
    place: int
    reason: str
    message: str


@final
@dataclass(frozen=True)
class Part:
    """What some of a corpus's documents give.

    Attributes:
        documents: one row each.
        names: their ids; None for one that has none.
        pool: their scored pairs.
        sample: the sampled ones among these.
        reasons: int64, shape (len(Reason),), tokens by reason.
        bad: documents that could not be read, by reason.
        examples: the first `MAX_EXAMPLES` of them.
        lines: lines or rows read, by piece.
    """

    documents: DocumentColumns
    names: Sequence[str | None]
    pool: PoolColumns
    sample: Sample
    reasons: NDArray[np.int64]
    bad: Counter[str] = field(default_factory=Counter)
    examples: tuple[Bad, ...] = ()
    lines: Counter[int] = field(default_factory=Counter)


def empty_part(context_width: int, units_dtype: np.dtype[Any]) -> Part:
    """Make the part of no documents.

    Args:
        context_width: h.
        units_dtype: of the scores.

    Returns:
        The neutral element of `merged`.
    """
    none, hashes = np.empty(0, np.int64), np.empty(0, np.uint64)
    units = np.empty(0, units_dtype)
    rows = np.empty((0, context_width + 1), np.int64)
    return Part(
        DocumentColumns(none, none, none, none, none, np.empty(0)),
        (),
        PoolColumns(hashes, hashes, units),
        Sample(hashes, hashes, units, rows),
        np.zeros(len(Reason), np.int64),
    )


def merged(parts: Sequence[Part], n_sampled: int) -> Part:
    """Put parts together.

    Args:
        parts: at least one.
        n_sampled: pairs of the sample.

    Returns:
        The part of all their documents.
    """
    names = [name for part in parts for name in part.names]
    return Part(
        _stacked(DocumentColumns, (part.documents for part in parts)),
        names,
        _stacked(PoolColumns, (part.pool for part in parts)),
        sampled(_stacked(Sample, (part.sample for part in parts)), n_sampled),
        np.sum([part.reasons for part in parts], axis=0),
        sum((part.bad for part in parts), Counter[str]()),
        first_bad(bad for part in parts for bad in part.examples),
        sum((part.lines for part in parts), Counter[int]()),
    )


def first_bad(every: Iterable[Bad]) -> tuple[Bad, ...]:
    """Choose what is named: damaged files, which hide any number of documents, before all else.

    Args:
        every: in any order.

    Returns:
        At most `MAX_EXAMPLES`; the same if some were chosen by this before.
    """
    ordered = sorted(every, key=lambda bad: (bad.reason != DAMAGED, bad))
    return tuple(ordered[:MAX_EXAMPLES])


def _stacked(kind: Any, columns: Iterable[tuple[NDArray[Any], ...]]) -> Any:
    return kind(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def sampled(records: Sample, n: int) -> Sample:
    """Keep the distinct records with the least hashes.

    Of records with one hash that of the least rank is kept, then of the least pair.

    Args:
        records: in any order, with repeats.
        n: how many are kept.

    Returns:
        At most n records, ascending.
    """
    kept = _sorted_distinct(_picked(records, least_places(records.hashes, n)))
    return _picked(kept, np.arange(min(n, len(kept.hashes))))


def least_places(hashes: NDArray[np.uint64], n: int) -> NDArray[np.int64]:
    """Find places that hold the n least distinct hashes, every place of each.

    Args:
        hashes: uint64, in any order, with repeats.
        n: how many distinct hashes are needed.

    Returns:
        int64, ascending; few more than needed.
    """
    if n == 0:
        return np.empty(0, np.int64)
    for n_places in (2 * n, 8 * n):
        if len(hashes) <= n_places:
            break
        low = np.flatnonzero(hashes < np.partition(hashes, n_places)[n_places])
        if len(np.unique(hashes[low])) >= n:
            return low
    return np.arange(len(hashes))


def _sorted_distinct(records: Sample) -> Sample:
    by_rank = (records.ranks,) if len(records.ranks) else ()
    order = np.lexsort((*records.rows.T[::-1], *by_rank, records.hashes))
    ordered = _picked(records, order)
    new = np.ones(len(order), np.bool_)
    new[1:] = ordered.hashes[1:] != ordered.hashes[:-1]
    return _picked(ordered, np.flatnonzero(new))


def _picked(records: Sample, which: NDArray[np.int64]) -> Sample:
    ranks = records.ranks[which] if len(records.ranks) else records.ranks
    return Sample(records.hashes[which], ranks, records.units[which], records.rows[which])
