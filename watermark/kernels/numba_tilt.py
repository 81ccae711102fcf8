"""Green tilts of whole vocabularies, in place, on all cores: `heirmark-1` on a processor.

A word is below a threshold or not: nothing else is computed, and nothing of the size of the
logits is stored. Where all of a block is forbidden its words are not computed either.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, uint64
from numpy.typing import NDArray

from watermark.kernels.numba_prf import _philox

__all__ = ["block_words", "is_empty", "tilt_green"]

# Tokens of one task, and of one block of words.
_PART = 16_384
_TOKENS = 256


@njit(inline="always")
def is_empty(part):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """True if all of float32 numbers are -inf."""
    bits = part.view(np.int32)
    other = np.int32(0)
    for j in range(bits.shape[0]):
        other |= bits[j] ^ np.int32(-8388608)
    return other == 0


@njit(inline="always")
def block_words(first, second, stream, start, words):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Fill uint32 `words` with those of the tokens from `start` on, both multiples of four."""
    block = uint64(start >> 2)
    for j in range(words.shape[0] >> 2):
        c0, c1, c2, c3 = _philox(first, second, block + uint64(j), stream)
        words[4 * j] = np.uint32(c0)
        words[4 * j + 1] = np.uint32(c1)
        words[4 * j + 2] = np.uint32(c2)
        words[4 * j + 3] = np.uint32(c3)


@njit(cache=True, parallel=True)
def _tilt(hashes, streams, logits, rows, biases, last_green):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_tokens = logits.shape[1]
    n_parts = (n_tokens + _PART - 1) // _PART
    for task in prange(rows.shape[0] * n_parts):
        i, part = task // n_parts, task % n_parts
        row, bias = logits[rows[i]], biases[i]
        words = np.empty(_TOKENS, np.uint32)
        end = min((part + 1) * _PART, n_tokens)
        for start in range(part * _PART, end, _TOKENS):
            block = row[start : min(start + _TOKENS, end)]
            if is_empty(block):
                continue
            block_words(hashes[i, 0], hashes[i, 1], streams[i], start, words)
            for j in range(block.shape[0]):
                block[j] += bias if words[j] <= last_green else np.float32(0)


def tilt_green(
    hashes: NDArray[np.uint64],
    streams: NDArray[np.uint64],
    logits: NDArray[np.float32],
    rows: NDArray[np.int64],
    biases: NDArray[np.float32],
    first_red: int,
) -> None:
    """Add a row's bias to its green logits, in place.

    Args:
        hashes: uint64, shape (B, 2), of the rows' contexts.
        streams: uint64, shape (B,), which word stream each row takes.
        logits: float32, shape (N, V), each row without a gap; -inf, +inf and NaN stay.
        rows: int64, shape (B,), distinct rows of `logits`.
        biases: float32, shape (B,).
        first_red: in (0, 2^32): words below it are green.
    """
    _tilt(hashes, streams, logits, rows, biases, np.uint32(first_red - 1))
