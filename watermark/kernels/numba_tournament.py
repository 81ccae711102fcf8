"""Tournament marking of whole vocabularies, in place, on all cores: `heirmark-1` on a processor.

Tokens with the same bits in k layers get the same factor in all of them. The masses of the 2^k
patterns are therefore enough to play k layers, and a row is passed through three times for 30
layers, not thirty times: once a group of layers, with one addition and one look-up a token. What
a thread needs beside the row are its words and its weights.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from watermark.kernels.numba_tilt import block_words, is_empty
from watermark.kernels.numba_winners import _largest

__all__ = ["play_tournament"]

_TOKENS = 256
# Masses of 2^11 patterns stay in the nearest cache.
_LAYERS_A_GROUP = 11
_LOG2_E = np.float32(1 / math.log(2))
_LEAST = np.float32(-126)
# Adding it rounds to an integer.
_ROUND = np.float32(3 << 22)
# 2^f for f in [-1/2, 1/2], to 2e-7 of itself: Taylor's series, whose terms fall by 3 and more.
_SERIES = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = _SERIES
_127, _23 = np.int32(127), np.int32(23)


@njit(inline="always")
def _weigh(block, top, powers, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Compute exp(l - top) of a block; `powers` is scratch, int32."""
    scale = powers.view(np.float32)
    for j in range(block.shape[0]):
        x = max((block[j] - top) * _LOG2_E, _LEAST)
        whole = (x + _ROUND) - _ROUND
        f = x - whole
        powers[j] = (np.int32(whole) + _127) << _23
        weights[j] = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6)))))
    for j in range(block.shape[0]):
        weights[j] *= scale[j]


@njit(inline="always")
def _play(masses, first, n_layers, width, factors, logs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Play the layers of one group on the masses of its patterns; fill each one's factor."""
    total = masses.sum()
    exact = np.ones(masses.shape[0])
    for b in range(masses.shape[0]):
        masses[b] /= total
    for layer in range(first, min(first + width, n_layers)):
        shift = width - 1 - (layer - first)
        mass = 0.0
        for b in range(masses.shape[0]):
            mass += masses[b] * ((b >> shift) & 1)
        mass = min(mass, 1.0)
        for b in range(masses.shape[0]):
            step = 1.0 + ((b >> shift) & 1) - mass
            exact[b] *= step
            masses[b] *= step
    for b in range(masses.shape[0]):
        factors[b] = np.float32(exact[b])
        logs[b] = np.float32(math.log(exact[b])) if exact[b] > 0.0 else np.float32(-np.inf)
    return total


@njit(cache=True, parallel=True)
def _tournament(hashes, streams, logits, rows, n_layers, width):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_tokens = logits.shape[1]
    n_blocks = (n_tokens + _TOKENS - 1) // _TOKENS
    n_groups = (n_layers + width - 1) // width
    n_patterns = 1 << width
    last = np.uint32(n_patterns - 1)
    for i in prange(rows.shape[0]):
        row = logits[rows[i]]
        top = row[_largest(row)]
        words, weights = np.empty(n_blocks * _TOKENS, np.uint32), np.empty(n_tokens, np.float32)
        powers, live = np.empty(_TOKENS, np.int32), np.empty(n_blocks, np.int64)
        masses, factors = np.zeros(n_patterns), np.empty(n_patterns, np.float32)
        logs = np.empty((n_groups, n_patterns), np.float32)
        n_live = 0
        shift = np.uint32(32 - width)
        for start in range(0, n_tokens, _TOKENS):
            end = min(start + _TOKENS, n_tokens)
            if is_empty(row[start:end]):
                continue
            live[n_live] = start
            n_live += 1
            block_words(
                hashes[i, 0], hashes[i, 1], streams[i], start, words[start : start + _TOKENS]
            )
            _weigh(row[start:end], top, powers, weights[start:end])
            for j in range(start, end):
                masses[words[j] >> shift] += weights[j]
        total = _play(masses, 0, n_layers, width, factors, logs[0])
        for group in range(1, n_groups):
            masses[:] = 0.0
            before = np.uint32(32 - width * group)
            # The last group may reach beyond the word: what is missing are zeros.
            after = 32 - width * (group + 1)
            right, left = np.uint32(max(after, 0)), np.uint32(max(-after, 0))
            for n in range(n_live):
                for j in range(live[n], min(live[n] + _TOKENS, n_tokens)):
                    word = words[j]
                    weights[j] *= factors[(word >> before) & last]
                    masses[((word >> right) << left) & last] += weights[j]
            _play(masses, group * width, n_layers, width, factors, logs[group])
        # With the likeliest token at 0 these are logarithms of probabilities.
        logs[0] -= np.float32(math.log(total))
        for n in range(n_live):
            start, end = live[n], min(live[n] + _TOKENS, n_tokens)
            row[start:end] -= top
            for group in range(n_groups):
                after = 32 - width * (group + 1)
                right, left = np.uint32(max(after, 0)), np.uint32(max(-after, 0))
                table = logs[group]
                for j in range(start, end):
                    row[j] += table[((words[j] >> right) << left) & last]


def play_tournament(
    hashes: NDArray[np.uint64],
    streams: NDArray[np.uint64],
    logits: NDArray[np.float32],
    rows: NDArray[np.int64],
    n_layers: int,
) -> None:
    """Replace the logits of rows by the logarithms of the tournament's probabilities, in place.

    Args:
        hashes: uint64, shape (B, 2), of the rows' contexts.
        streams: uint64, shape (B,), which word stream each row takes.
        logits: float32, shape (N, V), each row without a gap; no NaN, no +inf, something finite
            in each row.
        rows: int64, shape (B,), distinct rows of `logits`.
        n_layers: m, 1 to 32.
    """
    n_groups = -(-n_layers // _LAYERS_A_GROUP)
    _tournament(hashes, streams, logits, rows, n_layers, -(-n_layers // n_groups))
