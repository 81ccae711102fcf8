"""Where top-k, top-p and min-p cut whole vocabularies, without sorting them: on a processor.

What stands before a token in order of probability is a sum over the larger logits. One pass over
the row puts its probabilities into buckets by their logits; the sums over whole buckets say in
which of them the cut lies, and only its few tokens are sorted.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from watermark.kernels.numba_winners import _largest

__all__ = ["row_cutoffs"]

_BLOCK = 1024
# A vocabulary's logits lie within some twenty below the largest: a few dozen tokens a bucket.
# What is farther down shares the last one, and is sorted only if a cut lies among it.
_BUCKETS = 4096
_PER_LOGIT = np.float32(128)
_LAST = np.float32(_BUCKETS - 1)
_LOG2_E = np.float32(1 / math.log(2))
_LOWEST_EXPONENT = np.float32(-126)
_LOWEST = np.float32(np.finfo(np.float32).min)
# 2^f on [0, 1), interpolated at the six Chebyshev nodes: within 2e-7 of it, float32's own step.
_C0 = np.float32(0.9999999)
_C1 = np.float32(0.6931545)
_C2 = np.float32(0.24014182)
_C3 = np.float32(0.055860337)
_C4 = np.float32(0.008949591)
_C5 = np.float32(0.001893754)


@njit(inline="always")
def _bucket(logit, top):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return np.int32(min((top - logit) * _PER_LOGIT, _LAST))


@njit(inline="always")
def _weigh(part, top, weights):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Compute exp(l - top) of float32 logits, eight or sixteen at a time; 1e-38 for -inf."""
    bits = weights.view(np.int32)
    for j in range(part.shape[0]):
        exponent = max((part[j] - top) * _LOG2_E, _LOWEST_EXPONENT)
        # Towards zero, so that what is left is in (-1, 0]: one more makes it [0, 1).
        whole = np.int32(exponent) - np.int32(1)
        f = exponent - np.float32(whole)
        weights[j] = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * _C5))))
        bits[j] += max(whole, np.int32(-126)) << np.int32(23)


@njit(inline="always")
def _sorted_bucket(row, top, floor, bucket):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """List the logits of a bucket that are not cut yet, ascending."""
    n = 0
    for j in range(row.shape[0]):
        n += row[j] >= floor and _bucket(row[j], top) == bucket
    found = np.empty(n, np.float32)
    n = 0
    for j in range(row.shape[0]):
        if row[j] >= floor and _bucket(row[j], top) == bucket:
            found[n] = row[j]
            n += 1
    found.sort()
    return found


@njit(inline="always")
def _kth(row, top, floor, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Find the k-th largest logit, or `floor` if fewer are left."""
    counts = np.zeros(_BUCKETS, np.int64)
    for j in range(row.shape[0]):
        if row[j] >= floor:
            counts[_bucket(row[j], top)] += 1
    before = 0
    for bucket in range(_BUCKETS):
        if before + counts[bucket] >= k:
            found = _sorted_bucket(row, top, floor, bucket)
            return found[len(found) - (k - before)]
        before += counts[bucket]
    return floor


@njit(inline="always")
def _nucleus(row, top, floor, p):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Find the least logit of the fewest likeliest tokens of probability p among what is left."""
    sums = np.zeros(_BUCKETS)
    weights = np.empty(_BLOCK, np.float32)
    for start in range(0, row.shape[0], _BLOCK):
        part = row[start : start + _BLOCK]
        _weigh(part, top, weights)
        for j in range(part.shape[0]):
            if part[j] >= floor:
                sums[_bucket(part[j], top)] += weights[j]
    wanted = p * sums.sum()
    before = 0.0
    for bucket in range(_BUCKETS):
        if before + sums[bucket] >= wanted:
            found = _sorted_bucket(row, top, floor, bucket)
            for j in range(len(found) - 1, 0, -1):
                before += math.exp(float(found[j]) - float(top))
                if before >= wanted:
                    return found[j]
            return found[0]
        before += sums[bucket]
    return floor


@njit(cache=True, parallel=True)
def _cutoffs(logits, rows, cut, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_tokens = logits.shape[1]
    for i in prange(rows.shape[0]):
        row = logits[rows[i]]
        top = row[_largest(row)]
        if not math.isfinite(top):
            out[i] = -np.inf
            continue
        k, p, min_p = np.int64(cut[i, 0]), cut[i, 1], cut[i, 2]
        least = _LOWEST
        if min_p > 0:
            least = max(least, top + np.float32(math.log(min_p)))
        if k < n_tokens:
            least = _kth(row, top, least, k)
        if p < 1:
            least = _nucleus(row, top, least, p)
        out[i] = least if least > _LOWEST else -np.inf


def row_cutoffs(
    logits: NDArray[np.float32], rows: NDArray[np.int64], cut: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Find the least logit of each row that min-p, then top-k, then top-p leave.

    Args:
        logits: float32, shape (N, V), each row without a gap, temperature applied.
        rows: int64, shape (B,), rows of `logits`.
        cut: float64, shape (B, 3): k from 1 to V, top-p, min-p.

    Returns:
        float32, shape (B,): what is below is cut; of several tokens with that very logit all
        stay. -inf where nothing is cut, and for a row that holds NaN or +inf or nothing finite.
    """
    out = np.empty(len(rows), np.float32)
    _cutoffs(logits, rows, cut, out)
    return out
