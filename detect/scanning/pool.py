"""Distinct pairs of a whole corpus, counted and added up in constant memory.

Each part stands on disk with its pairs in buckets of the upper hash bits. A few buckets of all
parts together fit into memory; equal pairs are in the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.scanning.parts import PoolColumns

__all__ = [
    "BUCKET_BITS",
    "BucketedPool",
    "PoolSums",
    "add_pools",
    "in_buckets",
    "joined",
    "pool_groups",
]

BUCKET_BITS: Final = 12
_N_BUCKETS: Final = 1 << BUCKET_BITS
# Pairs looked at together: their hash table stays in the processor's cache.
_GROUP_PAIRS: Final = 1 << 17
# Below this many pairs numpy is done before numba has been imported.
_COMPILE_FROM: Final = 1 << 18


class BucketedPool(NamedTuple):
    """Pairs in order of their bucket; starts int64, shape (2^BUCKET_BITS + 1,)."""

    starts: NDArray[np.int64]
    columns: PoolColumns


@final
@dataclass(frozen=True)
class PoolSums:
    """Distinct pairs.

    Attributes:
        counts: int64, shape (2^BUCKET_BITS,), by bucket.
        sums: their units, by bucket; Python's integers, which do not overflow.
        n_pairs: all pairs, equal ones among them.
    """

    counts: NDArray[np.int64]
    sums: tuple[int, ...]
    n_pairs: int

    @property
    def n_distinct(self) -> int:
        """Distinct pairs."""
        return int(self.counts.sum())

    @property
    def units(self) -> int:
        """Their units added up."""
        return sum(self.sums)


def in_buckets(columns: PoolColumns) -> BucketedPool:
    """Order pairs by bucket.

    Args:
        columns: in any order.

    Returns:
        The same pairs.
    """
    if len(columns.hashes) < _COMPILE_FROM:
        buckets = (columns.hashes >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
        order = np.argsort(buckets, kind="stable")
        starts = np.append(np.int64(0), np.cumsum(np.bincount(buckets, minlength=_N_BUCKETS)))
    else:
        from watermark.kernels import numba_scan

        starts, order = numba_scan.bucketed(columns.hashes, BUCKET_BITS)
    ranks = columns.ranks[order] if len(columns.ranks) else columns.ranks
    return BucketedPool(starts, PoolColumns(columns.hashes[order], ranks, columns.units[order]))


def pool_groups(pools: Sequence[BucketedPool]) -> list[tuple[int, int]]:
    """Cut the buckets into runs that fit into memory.

    Args:
        pools: of all parts.

    Returns:
        Ranges of buckets, first and end; without empty ones.
    """
    sizes = np.zeros(_N_BUCKETS, np.int64)
    for pool in pools:
        sizes += np.diff(pool.starts)
    groups: list[tuple[int, int]] = []
    first, held = 0, 0
    for bucket, size in enumerate(sizes.tolist()):
        if held and held + size > _GROUP_PAIRS:
            groups.append((first, bucket))
            first, held = bucket, 0
        held += size
    return [*groups, (first, _N_BUCKETS)] if held else groups


def add_pools(
    pools: Sequence[BucketedPool],
    groups: Iterable[tuple[int, int]],
    on_group: Callable[[int], object] = lambda n_pairs: None,
) -> PoolSums:
    """Count and add up the distinct pairs of some buckets.

    Of pairs with one hash that of the least rank counts, then that of the least score: in any
    order of the parts the same, and never a larger sum than that of a choice made by text alone.

    Args:
        pools: of all parts.
        groups: ranges of buckets.
        on_group: called after each with its number of pairs.

    Returns:
        The sums; 0 in all other buckets.
    """
    counts, n_pairs = np.zeros(_N_BUCKETS, np.int64), 0
    sums = [0] * _N_BUCKETS
    for first, end in groups:
        columns = _gathered(pools, first, end)
        found, added = _distinct(columns)
        counts += found
        for bucket in np.flatnonzero(added).tolist():
            sums[bucket] += int(added[bucket])
        n_pairs += len(columns.hashes)
        on_group(len(columns.hashes))
    return PoolSums(counts, tuple(sums), n_pairs)


def _gathered(pools: Sequence[BucketedPool], first: int, end: int) -> PoolColumns:
    cuts = [(pool, slice(pool.starts[first], pool.starts[end])) for pool in pools]
    cuts = [(pool, cut) for pool, cut in cuts if cut.stop > cut.start]
    hashes = np.concatenate([pool.columns.hashes[cut] for pool, cut in cuts])
    units = np.concatenate([pool.columns.units[cut] for pool, cut in cuts])
    ranked = [pool.columns.ranks[cut] for pool, cut in cuts if len(pool.columns.ranks)]
    ranks = np.concatenate(ranked) if ranked else np.empty(0, np.uint64)
    return PoolColumns(hashes, ranks, units)


def _distinct(columns: PoolColumns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    hashes, ranks, units = columns
    if len(hashes) >= _GROUP_PAIRS // 2:
        from watermark.kernels import numba_scan

        return numba_scan.distinct_sums(hashes, units, ranks, BUCKET_BITS)
    order = np.lexsort((units, *((ranks,) if len(ranks) else ()), hashes))
    new = np.ones(len(order), np.bool_)
    new[1:] = hashes[order][1:] != hashes[order][:-1]
    kept = order[new]
    buckets = (hashes[kept] >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    sums = np.zeros(_N_BUCKETS, np.int64)
    np.add.at(sums, buckets, units[kept].astype(np.int64))
    return np.bincount(buckets, minlength=_N_BUCKETS), sums


def joined(sums: Sequence[PoolSums]) -> PoolSums:
    """Add what different groups of buckets gave."""
    return PoolSums(
        np.sum([one.counts for one in sums], axis=0),
        tuple(map(sum, zip(*(one.sums for one in sums), strict=True))),
        sum(one.n_pairs for one in sums),
    )
