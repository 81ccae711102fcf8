"""The Gumbel-max winner of whole vocabularies, without their noise: `heirmark-1` on a processor.

The winner of l + G, G = -log(-log u), is sought as in `watermark.schemes.gumbel`, and is the same
token. Two logarithms a token would cost several times the PRF itself. But a token can only beat
the best so far, of value M, if 1 - u <= -log u < exp(l - M), and the logarithm of that is compared
by its bits; the few tokens that pass, about one in the vocabulary, are compared exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange, uint64
from numpy.typing import NDArray

from watermark.kernels.numba_prf import _philox

__all__ = ["gumbel_winners"]

_TOKENS = 1024
_BLOCKS = _TOKENS // 4
_FOUR = np.uint64(4)
_LOG2_E = np.float32(1 / math.log(2))
# The bits of a float32, read as an integer, are 2^23 (127 + log2 x) or less: the logarithm is
# concave, and linear interpolation between powers of two lies below it.
_PER_BIT = np.float32(2.0**-23)
# 127 of the format, 32 because tails are in units of 2^-32. The slack is far above what float32
# rounding can do to the comparison, so that no winner is ever missed.
_OFFSET = np.float32(127 + 32)
_SLACK = np.float32(1e-3)


@njit(inline="always")
def _gumbel(word):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return -math.log(-math.log((float(word) + 0.5) / 4294967296.0))


@njit(inline="always")
def _largest(row):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Find the largest of float32 numbers by their bits: integers are compared eight at a time."""
    bits = row.view(np.int32)
    largest = np.int32(-2147483648)
    for j in range(bits.shape[0]):
        # Ordered as the numbers are; NaN stands beyond +inf, or, if its sign is set, before -inf.
        largest = max(largest, bits[j] ^ ((bits[j] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    for j in range(bits.shape[0]):
        if bits[j] ^ ((bits[j] >> np.int32(31)) & np.int32(0x7FFFFFFF)) == largest:
            return j
    return 0


@njit(cache=True, parallel=True)
def _winners(hashes, streams, logits, rows, least, forces, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_tokens = logits.shape[1]
    for i in prange(rows.shape[0]):
        row = logits[rows[i]]
        winner = np.int64(_largest(row))
        # All bounds are relative to the largest logit, where float32 differences are exact enough.
        top = row[winner]
        if not math.isfinite(top):
            out[i] = -1
            continue
        floor = least[i]
        words = np.empty(_TOKENS, np.uint32)
        tails = np.empty(_TOKENS, np.float32)
        bits = tails.view(np.int32)
        block = _philox(hashes[i, 0], hashes[i, 1], uint64(winner >> 2), streams[i])
        best = float(top) + _gumbel(block[winner & 3])
        for start in range(0, n_tokens, _TOKENS):
            first = uint64(start >> 2)
            for j in range(_BLOCKS):
                c0, c1, c2, c3 = _philox(hashes[i, 0], hashes[i, 1], first + uint64(j), streams[i])
                words[4 * j] = np.uint32(c0)
                words[4 * j + 1] = np.uint32(c1)
                words[4 * j + 2] = np.uint32(c2)
                words[4 * j + 3] = np.uint32(c3)
            for j in range(_TOKENS):
                tails[j] = np.float32(np.uint32(0xFFFFFFFF) - words[j]) + np.float32(0.5)
            part = row[start : min(start + _TOKENS, n_tokens)]
            gap = np.float32(best - float(top))
            passed = np.int32(0)
            for j in range(part.shape[0]):
                bound = np.float32(bits[j]) * _PER_BIT - _OFFSET
                passed |= np.int32((part[j] - top - gap) * _LOG2_E + _SLACK >= bound)
            if passed == 0:
                continue
            for j in range(part.shape[0]):
                bound = np.float32(bits[j]) * _PER_BIT - _OFFSET
                if (part[j] - top - gap) * _LOG2_E + _SLACK >= bound and part[j] >= floor:
                    value = float(part[j]) + _gumbel(words[j])
                    token = start + j
                    if value > best or (value == best and token < winner):
                        best = value
                        winner = np.int64(token)
        out[i] = winner
        if forces:
            # While the row is still in the cache: memory is what the rest of this costs.
            row[:] = -np.inf
            row[winner] = np.float32(0)


def gumbel_winners(
    hashes: NDArray[np.uint64],
    streams: NDArray[np.uint64],
    logits: NDArray[np.float32],
    rows: NDArray[np.int64],
    least: NDArray[np.float32],
    *,
    forces: bool = False,
) -> NDArray[np.int64]:
    """Find the keyed winner of rows.

    Args:
        hashes: uint64, shape (B, 2), of the rows' contexts.
        streams: uint64, shape (B,), which word stream each row takes.
        logits: float32, shape (N, V), each row without a gap; -inf for forbidden tokens.
        rows: int64, shape (B,), distinct rows of `logits`.
        least: float32, shape (B,): logits below it are forbidden as well, -inf forbids none.
        forces: whether the winner's row is left with the winner alone, at 0, in place.

    Returns:
        int64, shape (B,), token ids, never forbidden ones; -1 where a row holds +inf or NaN or
        nothing but -inf, and is left as it is. (A NaN with its sign bit set counts as -inf.)
    """
    out = np.empty(len(rows), np.int64)
    _winners(hashes, streams, logits, rows, least, forces, out)
    return out
