"""Corpus scans compiled by numba, on one core each: selection, words, scores, distinct pairs."""

from __future__ import annotations

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from watermark.kernels.numba_prf import _hash_one, _lane, _philox

__all__ = ["bucketed", "distinct_sums", "pair_words", "select", "table_units"]

_33 = np.uint64(33)
_C1, _C2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SEED = np.uint64(0x9E3779B97F4A7C15)


@njit(inline="always")
def _mix(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    x ^= x >> _33
    x *= _C1
    x ^= x >> _33
    x *= _C2
    return x ^ (x >> _33)


@njit(inline="always")
def _same(ids, first, second, width):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for j in range(width):
        if ids[first + j] != ids[second + j]:
            return False
    return True


@njit(cache=True)
def _select(ids, starts, h, special, unusable, drop_contexts, reasons, hashes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    longest = 0
    for d in range(starts.shape[0] - 1):
        longest = max(longest, starts[d + 1] - starts[d])
    size = 2
    while size < 2 * longest:
        size *= 2
    places, stamps = np.zeros(size, np.int64), np.full(size, -1, np.int64)
    for d in range(starts.shape[0] - 1):
        start, stop = starts[d], starts[d + 1]
        # A short text uses the front of the table only, which then stays in the cache.
        mask = 1
        while mask < 2 * (stop - start):
            mask *= 2
        mask -= 1
        last_unusable = start - 1
        for i in range(start, min(start + h, stop)):
            reasons[i] = 1
            if unusable[ids[i]]:
                last_unusable = i
        for i in range(start + h, stop):
            x = _SEED
            for j in range(i - h, i):
                x = _mix(x ^ uint64(ids[j]))
            pair = _mix(x ^ uint64(ids[i]))
            hashes[i] = pair
            reason = 0
            if special[ids[i]]:
                reason = 2
            elif last_unusable >= i - h:
                reason = 3
            if unusable[ids[i]]:
                last_unusable = i
            if drop_contexts or reason == 0:
                # Met before: the same window (and token), compared id by id.
                width = h if drop_contexts else h + 1
                slot = np.int64((x if drop_contexts else pair) & uint64(mask))
                met = False
                while stamps[slot] == d:
                    if _same(ids, places[slot], i - h, width):
                        met = True
                        break
                    slot = (slot + 1) & mask
                if not met:
                    stamps[slot], places[slot] = d, i - h
                elif reason == 0:
                    reason = 4 if drop_contexts else 5
            reasons[i] = reason


@njit(cache=True)
def _pair_words(k0, k1, ids, places, h, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for n in range(places.shape[0]):
        i = places[n]
        first, second = _hash_one(k0, k1, ids[i - h : i])
        block, lane = uint64(ids[i] >> 2), ids[i] & 3
        for stream in range(out.shape[0]):
            out[stream, n] = np.uint32(_lane(_philox(first, second, block, uint64(stream)), lane))


@njit(inline="always")
def _cell(word, last):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    upper = word >= 0x80000000
    distance = (0xFFFFFFFF - word if upper else word) + 1
    exponent, rest = 0, distance
    for bits in (16, 8, 4, 2, 1):
        if rest >> bits:
            rest >>= bits
            exponent += bits
    fraction = (distance >> (exponent - 2) if exponent >= 2 else distance << (2 - exponent)) & 3
    side = 4 * exponent + fraction
    return last - side if upper else side


@njit(cache=True)
def _table_units(words, table, n_cells, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    last = n_cells - 1
    for n in range(words.shape[1]):
        place = _cell(np.int64(words[0, n]), last)
        if words.shape[0] == 2:
            place = place * n_cells + _cell(np.int64(words[1, n]), last)
        out[n] = table[place]


@njit(cache=True)
def _bucketed(hashes, shift, starts, order):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(hashes.shape[0]):
        starts[np.int64(hashes[i] >> shift) + 1] += 1
    for b in range(starts.shape[0] - 1):
        starts[b + 1] += starts[b]
    free = starts.copy()
    for i in range(hashes.shape[0]):
        bucket = np.int64(hashes[i] >> shift)
        order[free[bucket]] = i
        free[bucket] += 1


@njit(cache=True)
def _distinct_sums(hashes, units, ranks, shift, counts, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    size = 2
    while size < 2 * hashes.shape[0]:
        size *= 2
    mask = size - 1
    kept = np.full(size, -1, np.int64)
    ranked = ranks.shape[0] > 0
    for i in range(hashes.shape[0]):
        slot = np.int64(hashes[i] & uint64(mask))
        while kept[slot] >= 0 and hashes[kept[slot]] != hashes[i]:
            slot = (slot + 1) & mask
        b, other = np.int64(hashes[i] >> shift), kept[slot]
        if other < 0:
            kept[slot] = i
            counts[b] += 1
            sums[b] += units[i]
        else:
            lower = units[i] < units[other]
            if ranked and ranks[i] != ranks[other]:
                lower = ranks[i] < ranks[other]
            if lower:
                kept[slot] = i
                sums[b] += np.int64(units[i]) - np.int64(units[other])


def select(
    ids: NDArray[np.int64],
    starts: NDArray[np.int64],
    context_width: int,
    special: NDArray[np.bool_],
    unusable: NDArray[np.bool_],
    *,
    drop_contexts: bool,
) -> tuple[NDArray[np.int8], NDArray[np.uint64]]:
    """Decide which tokens of many texts are scored, each text by itself.

    Args:
        ids: int64, shape (T,), the texts one after another, ids in [0, V).
        starts: int64, shape (D + 1,), where each text begins, and T.
        context_width: h.
        special: bool, shape (V,), ids that are not scored.
        unusable: bool, shape (V,), ids in whose context nothing is scored.
        drop_contexts: whether a context that has occurred in the text is dropped (h > 0), or only
            a pair that has.

    Returns:
        reasons: int8, shape (T,): 0 scored, 1 no context, 2 special token, 3 special context,
            4 context dropped, 5 pair dropped; the first that applies.
        hashes: uint64, shape (T,), public hashes of the pairs; of tokens with a context only.
    """
    reasons, hashes = np.empty(len(ids), np.int8), np.zeros(len(ids), np.uint64)
    _select(ids, starts, context_width, special, unusable, drop_contexts, reasons, hashes)
    return reasons, hashes


def pair_words(
    sip_key: NDArray[np.uint64],
    ids: NDArray[np.int64],
    places: NDArray[np.int64],
    context_width: int,
    n_streams: int,
) -> NDArray[np.uint32]:
    """Compute words of `heirmark-1` for tokens where they stand.

    Args:
        sip_key: uint64, shape (2,).
        ids: int64, shape (T,).
        places: int64, shape (n,), of the tokens, each at least `context_width`.
        context_width: h.
        n_streams: streams 0 .. n_streams - 1 are computed.

    Returns:
        uint32, shape (n_streams, n).
    """
    out = np.empty((n_streams, len(places)), np.uint32)
    _pair_words(sip_key[0], sip_key[1], ids, places, context_width, out)
    return out


def table_units(
    words: NDArray[np.uint32], table: NDArray[np.int32], n_cells: int
) -> NDArray[np.int32]:
    """Look scores up; see `detect.scoring.score_tables.ScoreTable.units_of`.

    Args:
        words: uint32, shape (1 or 2, n).
        table: int32, shape (n_cells,) or (n_cells ** 2,).
        n_cells: cells of a word.

    Returns:
        int32, shape (n,).
    """
    out = np.empty(words.shape[1], np.int32)
    _table_units(words, table, n_cells, out)
    return out


def bucketed(
    hashes: NDArray[np.uint64], n_bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Order hashes by their upper bits; within a bucket they keep their order.

    Args:
        hashes: uint64, shape (n,).
        n_bits: upper bits that name the bucket, 1 to 20.

    Returns:
        starts: int64, shape (2^n_bits + 1,), where each bucket begins, and n.
        order: int64, shape (n,), a permutation.
    """
    starts, order = np.zeros((1 << n_bits) + 1, np.int64), np.empty(len(hashes), np.int64)
    _bucketed(hashes, np.uint64(64 - n_bits), starts, order)
    return starts, order


def distinct_sums(
    hashes: NDArray[np.uint64],
    units: NDArray[np.signedinteger],
    ranks: NDArray[np.uint64],
    n_bits: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count distinct hashes and add up their units, bucket by bucket, in whatever order they come.

    Args:
        hashes: uint64, shape (n,).
        units: int32 or int64, shape (n,).
        ranks: uint64, shape (n,) or (0,): of records with one hash that of the least rank counts,
            then that of the least units.
        n_bits: upper bits that name the bucket.

    Returns:
        counts: int64, shape (2^n_bits,).
        sums: int64, shape (2^n_bits,).
    """
    counts, sums = np.zeros(1 << n_bits, np.int64), np.zeros(1 << n_bits, np.int64)
    _distinct_sums(hashes, units, ranks, np.uint64(64 - n_bits), counts, sums)
    return counts, sums
