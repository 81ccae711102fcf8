"""Scores of the same pairs under very many keys, compiled by numba: key -> word -> score -> sum.

No word is kept. Keys lie side by side in the lanes of the processor's vectors, so that the
branches (which lane of a Philox block, which score) are the same for all of them. Sums are
integers: neither the order of the pairs nor the number of threads changes a bit. Words are those
of `watermark.prf_reference`.

numba's cache looks at this file only, and what is inlined comes from `numba_prf` too: whoever
changes that file touches this one, or removes `__pycache__`; else old kernels go on running.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import float32, int32, njit, prange, uint32, uint64
from numpy.typing import NDArray

from watermark.kernels.grouped_pairs import (
    ONE_CELL,
    THRESHOLD,
    TWO_CELLS,
    GroupedPairs,
    Lookup,
)
from watermark.kernels.numba_prf import (
    _DD,
    _EE,
    _FOUR,
    _I0,
    _I1,
    _I2,
    _I3,
    _M0,
    _M1,
    _MASK32,
    _W0,
    _W1,
    _13,
    _16,
    _17,
    _21,
    _32,
    _56,
    _255,
    _rotl,
    _sip_round,
)  # fmt: skip

__all__ = ["key_sums"]

# Keys of one block: their hashes and sums stay in the nearest cache.
_LANES: Final = 256

_1U, _7U, _8U, _16U, _21U, _24U, _31U, _255U = (
    np.uint32(b) for b in (1, 7, 8, 16, 21, 24, 31, 255)
)
# 127 << 2: a float32 keeps its exponent, biased by 127, above two bits of fraction.
_BIAS = np.uint32(508)
_31I = np.int32(31)


@njit(inline="always")
def _four_rounds(v0, v1, v2, v3):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return _sip_round(v0, v1, v2, v3)


@njit
def _begin(k0, k1, begun):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Do what SipHash does before it has met the message: once for all contexts."""
    for j in range(_LANES):
        v0, v1 = _I0 ^ k0[j], _I1 ^ k1[j]
        v0 = v0 + v1
        begun[0, j], begun[1, j] = _rotl(v0, _32), _rotl(v1, _13) ^ v0
        begun[2, j], begun[3, j] = _I2 ^ k0[j], _I3 ^ k1[j]


@njit(inline="always")
def _message(context, b):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    h = context.shape[0]
    block = uint64(0)
    if 2 * b < h:
        block = uint64(context[2 * b])
    if 2 * b + 1 < h:
        block |= uint64(context[2 * b + 1]) << _32
    if b == h // 2:
        block |= ((uint64(h) * _FOUR) & _255) << _56
    return block


@njit
def _hash(begun, context, state, first, second):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """SipHash-2-4-128 of one context under a block of keys; `state` is scratch."""
    b0, b1, b2, b3 = begun[0], begun[1], begun[2], begun[3]
    v0, v1, v2, v3 = state[0], state[1], state[2], state[3]
    block = _message(context, 0)
    for j in range(_LANES):
        w0, w1, w3 = b0[j], b1[j], b3[j] ^ block
        w2 = b2[j] + w3
        w3 = _rotl(w3, _16) ^ w2
        w0 = w0 + w3
        w3 = _rotl(w3, _21) ^ w0
        w2 = w2 + w1
        w1 = _rotl(w1, _17) ^ w2
        w0, w1, w2, w3 = _sip_round(w0, w1, _rotl(w2, _32), w3)
        v0[j], v1[j], v2[j], v3[j] = w0 ^ block, w1, w2, w3
    for b in range(1, context.shape[0] // 2 + 1):
        block = _message(context, b)
        for j in range(_LANES):
            w0, w1, w2, w3 = _sip_round(v0[j], v1[j], v2[j], v3[j] ^ block)
            w0, w1, w2, w3 = _sip_round(w0, w1, w2, w3)
            v0[j], v1[j], v2[j], v3[j] = w0 ^ block, w1, w2, w3
    for j in range(_LANES):
        w0, w1, w2, w3 = _four_rounds(v0[j], v1[j], v2[j] ^ _EE, v3[j])
        first[j] = w0 ^ w1 ^ w2 ^ w3
        w0, w1, w2, w3 = _four_rounds(w0, w1 ^ _DD, w2, w3)
        second[j] = w0 ^ w1 ^ w2 ^ w3


@njit(inline="always")
def _philox_round(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    # Only the lower halves count; what is above them is cut off where it would matter.
    p0 = _M0 * (c0 & _MASK32)
    p1 = _M1 * (c2 & _MASK32)
    return (p1 >> _32) ^ c1 ^ k0, p1, (p0 >> _32) ^ c3 ^ k1, p0


@njit(inline="always")
def _word(first, second, block, stream, lane):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Philox4x32-10; with a constant lane, what only other lanes need is not computed."""
    c0, c1, c2, c3 = block, stream, second, second >> _32
    k0, k1 = first, first >> _32
    for _ in range(9):
        c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
        k0, k1 = k0 + _W0, k1 + _W1
    c0, c1, c2, c3 = _philox_round(c0, c1, c2, c3, k0, k1)
    if lane == 0:
        return uint32(c0)
    if lane == 1:
        return uint32(c1)
    if lane == 2:
        return uint32(c2)
    return uint32(c3)


@njit
def _one_stream(first, second, token, words):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    block, lane = uint64(token >> 2), token & 3
    zero = uint64(0)
    if lane == 0:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 0)
    elif lane == 1:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 1)
    elif lane == 2:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 2)
    else:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 3)


@njit
def _two_streams(first, second, token, words, others):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    block, lane = uint64(token >> 2), token & 3
    zero, one = uint64(0), uint64(1)
    if lane == 0:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 0)
            others[j] = _word(first[j], second[j], block, one, 0)
    elif lane == 1:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 1)
            others[j] = _word(first[j], second[j], block, one, 1)
    elif lane == 2:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 2)
            others[j] = _word(first[j], second[j], block, one, 2)
    else:
        for j in range(_LANES):
            words[j] = _word(first[j], second[j], block, zero, 3)
            others[j] = _word(first[j], second[j], block, one, 3)


@njit(inline="always")
def _fill_cells(words, cells, reals):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Find the cells of words; those of the upper half of the words have 128 added.

    The distance to the nearer end as a float32: its exponent and two bits of its fraction. Without
    the eighth bit below the highest one, rounding cannot carry up to those.
    """
    bits = reals.view(np.uint32)
    for j in range(_LANES):
        distance = uint32(uint32(words[j] ^ uint32(int32(words[j]) >> _31I)) + _1U)
        reals[j] = float32(uint32(distance & ~uint32(distance >> _8U)))
    for j in range(_LANES):
        upper = uint32(uint32(words[j] >> _31U) << _7U)
        cells[j] = uint32(uint32(uint32(bits[j] >> _21U) - _BIAS) + upper)


@njit
def _score(kind, table, words, others, reals, units):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Score words, which are then lost; `reals` is scratch."""
    if kind == THRESHOLD:
        first = uint32(table[0])
        for j in range(_LANES):
            units[j] = int32(words[j] < first)
    elif kind == ONE_CELL:
        _fill_cells(words, words, reals)
        for j in range(_LANES):
            units[j] = table[np.int64(words[j])]
    elif kind == TWO_CELLS:
        _fill_cells(words, words, reals)
        _fill_cells(others, others, reals)
        for j in range(_LANES):
            words[j] = uint32(uint32(words[j] << _8U) + others[j])
        for j in range(_LANES):
            units[j] = table[np.int64(words[j])]
    else:
        for j in range(_LANES):
            word = words[j]
            upper = table[np.int64(word >> _24U)]
            upper += table[256 + np.int64(uint32(word >> _16U) & _255U)]
            lower = table[512 + np.int64(uint32(word >> _8U) & _255U)]
            lower += table[768 + np.int64(word & _255U)]
            units[j] = int32(upper + lower)


@njit(cache=True, parallel=True)
def _key_sums(keys, contexts, pair_starts, tokens, sum_starts, sums, kind, table, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for g in prange(keys.shape[0]):
        begun, state = np.empty((4, _LANES), np.uint64), np.empty((4, _LANES), np.uint64)
        first, second = np.empty(_LANES, np.uint64), np.empty(_LANES, np.uint64)
        words, others = np.empty(_LANES, np.uint32), np.empty(_LANES, np.uint32)
        reals, units = np.empty(_LANES, np.float32), np.empty(_LANES, np.int32)
        total = np.zeros((out.shape[0], _LANES), np.int32)
        _begin(keys[g, 0], keys[g, 1], begun)
        for c in range(contexts.shape[0]):
            _hash(begun, contexts[c], state, first, second)
            for i in range(pair_starts[c], pair_starts[c + 1]):
                if kind == TWO_CELLS:
                    _two_streams(first, second, tokens[i], words, others)
                else:
                    _one_stream(first, second, tokens[i], words)
                _score(kind, table, words, others, reals, units)
                for n in range(sum_starts[i], sum_starts[i + 1]):
                    row = total[sums[n]]
                    for j in range(_LANES):
                        row[j] += units[j]
        for s in range(out.shape[0]):
            for j in range(_LANES):
                out[s, g, j] = total[s, j]


def key_sums(
    sip_keys: NDArray[np.uint64], pairs: GroupedPairs, lookup: Lookup
) -> NDArray[np.int32]:
    """Add up the scores of pairs under each of many keys.

    Args:
        sip_keys: uint64, shape (K, 2).
        pairs: distinct pairs; ids in [0, 2^32).
        lookup: what a word scores.

    Returns:
        int32, shape (n_sums, K).

    Raises:
        OverflowError: so many pairs that 32 bits might not hold a sum.
    """
    if len(pairs.sums) * lookup.largest >= 1 << 31:
        raise OverflowError(f"{len(pairs.sums)} pairs are too many for one call; cut them")
    n_blocks = -(-len(sip_keys) // _LANES)
    keys = np.zeros((n_blocks * _LANES, 2), np.uint64)
    keys[: len(sip_keys)] = sip_keys
    blocks = np.ascontiguousarray(keys.reshape(n_blocks, _LANES, 2).transpose(0, 2, 1))
    out = np.empty((pairs.n_sums, n_blocks, _LANES), np.int32)
    contexts, pair_starts, tokens, sum_starts, sums = map(np.ascontiguousarray, pairs[:-1])
    kind, table = lookup.kind, lookup.table
    _key_sums(blocks, contexts, pair_starts, tokens, sum_starts, sums, kind, table, out)
    return out.reshape(pairs.n_sums, -1)[:, : len(sip_keys)]
