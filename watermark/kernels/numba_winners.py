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


@njit(cache=True, parallel=True)
def _winners(hashes, streams, logits, likeliest, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_tokens = logits.shape[1]
    for i in prange(logits.shape[0]):
        row = logits[i]
        # All bounds are relative to the largest logit, where float32 differences are exact enough.
        top = row[likeliest[i]]
        words = np.empty(_TOKENS, np.uint32)
        tails = np.empty(_TOKENS, np.float32)
        bits = tails.view(np.int32)
        winner = np.int64(likeliest[i])
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
                if (part[j] - top - gap) * _LOG2_E + _SLACK >= bound:
                    value = float(part[j]) + _gumbel(words[j])
                    token = start + j
                    if value > best or (value == best and token < winner):
                        best = value
                        winner = np.int64(token)
        out[i] = winner


def gumbel_winners(
    hashes: NDArray[np.uint64],
    streams: NDArray[np.uint64],
    logits: NDArray[np.float32],
    likeliest: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Find the keyed winner of every row.

    Args:
        hashes: uint64, shape (B, 2), of the rows' contexts.
        streams: uint64, shape (B,), which word stream each row takes.
        logits: float32, shape (B, V), -inf for forbidden tokens; no NaN, no +inf.
        likeliest: int64, shape (B,), a column of each row with its largest logit, finite.

    Returns:
        int64, shape (B,), token ids: never a forbidden one.
    """
    out = np.empty(len(logits), np.int64)
    _winners(hashes, streams, logits, likeliest, out)
    return out
