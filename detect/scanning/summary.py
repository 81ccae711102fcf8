"""The end of a scan: parts in, the corpus's result out.

Memory does not grow with the tokens: pairs are added up bucket by bucket, the sample has a fixed
size, and of each document a few numbers are held (some 50 bytes).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from detect.finding import Curve, Finding, Plan, Sums, conclude, curve_of, curve_points, decoys_of
from detect.finding import null_tail as tail_of_pairs
from detect.key_floor import key_floor, with_floor
from detect.multiplicity import holm
from detect.results import Tail, Verdict, decide
from detect.scanning.parts import Bad, DocumentColumns, Part, Sample, first_bad, sampled
from detect.scanning.plans import ScanPlan
from detect.scanning.pool import BucketedPool, PoolSums, in_buckets
from detect.scanning.results import CorpusResult, Deduplication, DocumentResult, LeftOut
from detect.scoring.scores import Reason
from detect.tails.convolution import Part as LawPart
from detect.tails.mixed_sums import as_table, mixed_tail
from detect.tails.nulls import log_tails, tail
from detect.text import binding_limits
from watermark.schemes.laws import LayeredBits, ScoreLaw
from watermark.word_sources import Pairs

__all__ = ["MAX_LISTED", "HeldPart", "Naming", "PartView", "finalise", "pooled_sample"]

# Documents in the JSON result; the table of --documents has all.
MAX_LISTED: Final = 10_000
_IN_EARLIER_DOCUMENT: Final = "pair_in_earlier_document"
# Of a tournament no longer sum is convolved layer by layer.
_LONG: Final = 10_000_000
_LENGTHS_A_CHUNK: Final = 32
_LIMITS: Final = (
    "A small p-value shows that the corpus depends on the key. It does not show how the marked "
    "text came into it: public text of the provider's model is a rival explanation.",
    "A large p-value shows nothing: edited, paraphrased or low-entropy text carries little of "
    "the mark, and few marked documents drown in many unmarked ones.",
)


class Totals(Protocol):
    """Counts of a part."""

    @property
    def reasons(self) -> NDArray[np.int64]:
        """Tokens by reason."""

    @property
    def bad(self) -> Counter[str]:
        """Documents that could not be read, by reason."""

    @property
    def examples(self) -> tuple[Bad, ...]:
        """The first of them."""

    @property
    def lines(self) -> Counter[int]:
        """Lines or rows read, by piece."""


class PartView(Protocol):
    """A part in memory or on disk."""

    @property
    def documents(self) -> DocumentColumns:
        """Its documents, in the order of the corpus."""

    @property
    def names(self) -> Sequence[str | None]:
        """Their ids."""

    @property
    def sample(self) -> Sample:
        """The sampled pairs."""

    @property
    def pool(self) -> BucketedPool:
        """Its pairs."""

    def totals(self) -> Totals:
        """Its counts."""


@final
class HeldPart:
    """A part in memory, whose documents may come in any order."""

    def __init__(self, part: Part) -> None:
        order = np.lexsort((part.documents.place, part.documents.piece))
        self._part = part
        in_order: list[Any] = [column[order] for column in part.documents]
        self.documents = DocumentColumns(*in_order)
        self.names: Sequence[str | None] = [part.names[i] for i in order.tolist()]
        self.sample = part.sample
        self.pool = in_buckets(part.pool)

    def totals(self) -> Totals:
        """Its counts."""
        return self._part


class Naming(Protocol):
    """Says where documents stand."""

    def source(self, piece: int, place: int) -> str:
        """Of a line or row of a piece, say where it stands in the corpus."""

    def message(self, bad: Bad) -> str:
        """Complete a message."""


Spread = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]


def finalise(
    parts: Sequence[PartView],
    pool: PoolSums,
    *,
    plan: Plan,
    scan: ScanPlan,
    naming: Callable[[Counter[int]], Naming],
    on_documents: Callable[[Iterator[DocumentResult]], Iterator[DocumentResult]] = iter,
    spread: Spread = map,
) -> CorpusResult:
    """Put the result together.

    H0 of the pool: no document depends on the key; the scores of its distinct pairs are then
    independent with the scheme's law, or have the null that their source gives. H0 of a document:
    it does not depend on the key; Holm's method controls the error over all documents.

    Args:
        parts: all of them, each in the order of the corpus.
        pool: their distinct pairs, from `detect.scanning.pool`.
        plan: what was fixed beforehand.
        scan: the same for the workers.
        naming: makes names from the lines read of each piece.
        on_documents: passes all documents on, in order, and may write them down.
        spread: a `map` that may use several processes.

    Returns:
        The result; an empty corpus is INCONCLUSIVE.
    """
    totals = [part.totals() for part in parts]
    named = naming(sum((t.lines for t in totals), Counter[int]()))
    sample = pooled_sample(parts, scan)
    finding = _assess(plan, scan, pool, sample)
    columns = [part.documents for part in parts]
    numbers = _tested(columns, scan, plan, spread)
    listed = _strongest(numbers.log10_p)
    every = on_documents(_rows(parts, numbers, plan, scan, named))
    n_significant, documents = 0, []
    for row, is_listed in zip(every, listed.tolist(), strict=True):
        n_significant += row.verdict == Verdict.SIGNAL
        if is_listed:
            documents.append(row)
    examples = first_bad(bad for t in totals for bad in t.examples)
    return CorpusResult(
        finding,
        tuple(documents),
        len(listed),
        n_significant,
        sum(int(column.n_tokens.sum()) for column in columns),
        _reasons(totals, pool),
        Deduplication(pool.n_pairs, pool.n_distinct, len(sample.hashes)),
        LeftOut(
            sum((t.bad for t in totals), Counter[str]()),
            tuple(named.message(bad) for bad in examples),
        ),
        (*_LIMITS, *binding_limits(plan.config)),
    )


def _reasons(totals: Sequence[Totals], pool: PoolSums) -> dict[str, int]:
    counts = np.sum([np.zeros(len(Reason), np.int64), *(t.reasons for t in totals)], axis=0)
    found = {r.label: int(counts[r]) for r in Reason if r is not Reason.SCORED and counts[r]}
    if repeats := pool.n_pairs - pool.n_distinct:
        found[_IN_EARLIER_DOCUMENT] = repeats
    return found


def pooled_sample(parts: Sequence[PartView], scan: ScanPlan) -> Sample:
    """Draw the sample of all parts from theirs, one after the other.

    Args:
        parts: all of them.
        scan: what was fixed beforehand.

    Returns:
        At most `scan.n_sampled` pairs.
    """
    h = scan.config.context_width
    none = np.empty(0, np.uint64)
    held = Sample(none, none, np.empty(0, scan.units_dtype), np.empty((0, h + 1), np.int64))
    for part in parts:
        both = zip(held, part.sample, strict=True)
        held = sampled(Sample(*(np.concatenate(pair) for pair in both)), scan.n_sampled)
    return held


def _assess(plan: Plan, scan: ScanPlan, pool: PoolSums, sample: Sample) -> Finding:
    """Test the pool; a source whose words depend on each other is tested on the sample."""
    pairs = Pairs(sample.rows[:, :-1], sample.rows[:, -1])
    statistic = int(sample.units.sum(dtype=np.int64)) * scan.step
    decoys = decoys_of(plan, pairs, statistic)
    if plan.config.source.null != "independent":
        null = tail_of_pairs(plan, pairs.contexts, pairs.tokens, statistic)
        finding = conclude(plan, Sums(len(pairs.tokens), statistic, null), decoys, None)
        return _with_warnings(finding, len(pairs.tokens), pool.n_distinct)
    null = _pool_tail(plan.scoring.law, pool.units, pool.n_distinct, scan.step)
    sums = Sums(pool.n_distinct, pool.units * scan.step, null)
    sample_null = tail(plan.scoring.law, statistic, len(pairs.tokens)) if decoys else None
    return conclude(plan, sums, decoys, _curve(plan, scan, pool), decoys_null=sample_null)


def _with_warnings(finding: Finding, n_tested: int, n_distinct: int) -> Finding:
    if n_tested == n_distinct:
        return finding
    return replace(
        finding,
        warnings=(
            *finding.warnings,
            f"The words of {finding.plan.config.source.name} depend on each other, so that pairs "
            f"are tested together: {n_tested:,} of {n_distinct:,} distinct ones, chosen by their "
            "hashes. --sample takes more.",
        ),
    )


def _pool_tail(law: ScoreLaw, units: int, n: int, step: float) -> Tail:
    table = as_table(law) if isinstance(law, LayeredBits) and n > _LONG else None
    return mixed_tail([LawPart(table, n)], units) if table else tail(law, units * step, n)


def _curve(plan: Plan, scan: ScanPlan, pool: PoolSums) -> Curve | None:
    """Evidence against pairs in the order of their hashes, which is as good as a random one."""
    n_points = curve_points(plan, pool.n_distinct)
    if not n_points:
        return None
    if isinstance(plan.scoring.law, LayeredBits) and pool.n_distinct > _LONG:
        return None
    ends, sums = np.cumsum(pool.counts), np.cumsum(np.array(pool.sums, object))
    wanted = np.linspace(1, pool.n_distinct, n_points).round().astype(np.int64)
    # A point at the end of each bucket that holds a wanted place.
    places = np.unique(np.searchsorted(ends, wanted))
    return curve_of(plan, ends[places], (sums[places] * scan.step).astype(np.float64))


class _Numbers(NamedTuple):
    """Of all documents, in order; float64, shape (D,)."""

    log10_p: NDArray[np.float64]
    log10_p_holm: NDArray[np.float64]


def _tested(
    columns: Sequence[DocumentColumns], scan: ScanPlan, plan: Plan, spread: Spread
) -> _Numbers:
    # Decoys are drawn for the pool only: a document alone then has no p-value, which is one of 1.
    if scan.config.source.null != "independent":
        log10_p = np.concatenate([np.empty(0), *(c.own_log10_p for c in columns)])
        return _Numbers(log10_p, holm(log10_p))
    none = np.empty(0, np.int64)
    n = np.concatenate([none, *(c.n_scored for c in columns)])
    units = np.concatenate([none, *(c.units for c in columns)])
    log10_p = np.zeros(len(n))
    order = np.argsort(n, kind="stable")
    starts = np.flatnonzero(np.diff(n[order], prepend=-1))
    cuts = [*starts[::_LENGTHS_A_CHUNK].tolist(), len(n)]
    chunks = [order[a:b] for a, b in pairwise(cuts)]
    tasks = (_Sums(scan, n[chunk], units[chunk]) for chunk in chunks)
    for chunk, found in zip(chunks, spread(_document_tails, tasks), strict=True):
        log10_p[chunk] = found
    return _Numbers(log10_p, with_floor(holm(log10_p), key_floor(scan.config.source)))


@final
@dataclass(frozen=True)
class _Sums:
    scan: ScanPlan
    n: NDArray[np.int64]
    units: NDArray[np.int64]


def _document_tails(sums: _Sums) -> NDArray[np.float64]:
    statistics = (sums.units * sums.scan.step).astype(np.float64)
    return log_tails(sums.scan.scorer.law, statistics, sums.n) / math.log(10)


def _strongest(log10_p: NDArray[np.float64]) -> NDArray[np.bool_]:
    listed = np.zeros(len(log10_p), np.bool_)
    listed[np.argsort(log10_p, kind="stable")[:MAX_LISTED]] = True
    return listed


def _rows(
    parts: Sequence[PartView], numbers: _Numbers, plan: Plan, scan: ScanPlan, named: Naming
) -> Iterator[DocumentResult]:
    is_tested, n_powered = plan.config.source.null != "decoys", plan.n_powered
    at = iter(zip(*(column.tolist() for column in numbers), strict=True))
    for part in parts:
        columns = part.documents
        table = zip(*(column.tolist() for column in columns[:-1]), part.names, strict=True)
        for piece, place, n_tokens, n_scored, units, name in table:
            p, p_holm = next(at)
            verdict = Verdict.INCONCLUSIVE
            if is_tested:
                own = Tail(p, p_holm, "exact")
                verdict = decide(own, n_scored, alpha=plan.alpha, n_powered=n_powered)
            source = named.source(piece, place)
            yield DocumentResult(
                source.rpartition("/")[2] if name is None else name,
                source,
                n_tokens,
                n_scored,
                units * scan.step,
                p,
                p_holm,
                verdict,
            )
