"""Exact tails of sums of weighted fair bits (tournament scores), at any depth.

The sum over n tokens of sum_l w_l g_l lives on the integers. Exponential tilting moves the
statistic to the middle of the tilted law, where a Fourier inversion loses nothing; undoing the
tilt gives the tail to rounding, however small it is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from watermark.schemes.laws import LayeredBits

__all__ = ["lattice_log_tail", "lattice_log_tails"]

# Mass of the tilted law outside the Fourier window, which comes back as aliasing.
_LN_OUTSIDE = 70.0
# Up to this many tokens one table of all tails is quicker than one inversion a statistic.
_TABLE_TOKENS = 400
# Below this a double has lost the tail of the table.
_TABLE_FLOOR = 1e-280


def lattice_log_tail(law: LayeredBits, statistic: int, n: int) -> float:
    """Compute ln P(S >= statistic) for the sum of n tokens.

    Exact up to rounding: the aliasing error is below e^-70 of the tilted mass (Bernstein's
    inequality), the rounding error of the Fourier transform near 1e-13.

    Args:
        law: the law of one token's score.
        statistic: integer value of the sum.
        n: tokens, >= 1.

    Returns:
        The natural logarithm; -inf above the largest possible sum.
    """
    largest = n * sum(law.weights)
    if statistic <= 0:
        return 0.0
    if statistic > largest:
        return -math.inf
    if statistic == largest:
        return -n * len(law.weights) * math.log(2)
    tilt = _tilt(law, statistic / n)
    value, first, second = (float(x[0]) * n for x in law.cumulants(np.array([tilt])))
    center, half = round(first), _half_window(math.sqrt(second), max(law.weights))
    if statistic < center - half:
        return 0.0
    pmf = _tilted_pmf(law, n, tilt, center - half, 2 * half + 1)
    beyond = np.arange(statistic, center + half + 1) - statistic
    total = float(np.sum(pmf[statistic - (center - half) :] * np.exp(-tilt * beyond)))
    return min(value - tilt * statistic + math.log(total), 0.0)


def _tilt(law: LayeredBits, per_token: float) -> float:
    """Solve K'(t) = statistic / n; no tilt below the mean."""
    if per_token <= law.mean:
        return 0.0

    def excess(t: float) -> float:
        return float(law.cumulants(np.array([t])).first[0]) - per_token

    high = 1.0
    while excess(high) < 0 and high < 512:
        high *= 2
    return float(brentq(excess, 0.0, high)) if excess(high) > 0 else high


def _half_window(deviation: float, largest_step: int) -> int:
    """Half-width beyond which the tilted law holds less than e^-70 (Bernstein)."""
    b = largest_step / 3
    reach = _LN_OUTSIDE * b + math.sqrt((_LN_OUTSIDE * b) ** 2 + 2 * _LN_OUTSIDE * deviation**2)
    return math.ceil(reach) + 1


def _tilted_pmf(
    law: LayeredBits, n: int, tilt: float, start: int, length: int
) -> NDArray[np.float64]:
    """Invert the tilted law's characteristic function on start .. start + length - 1."""
    omega = 2 * np.pi * np.arange(length // 2 + 1) / length
    log_phi = np.zeros(len(omega), np.complex128)
    for w in law.weights:
        green = 1 / (1 + math.exp(-min(w * tilt, 700.0)))
        # A zero of one factor is a zero of the whole: ln 0 = -inf becomes e^-inf = 0.
        with np.errstate(divide="ignore"):
            log_phi += np.log(1 - green + green * np.exp(1j * w * omega))
    # numpy's inverse transform has e^{+i}; the inversion formula e^{-i}: hence the conjugate.
    phi = np.exp(n * log_phi.conj() + 1j * omega * start)
    pmf: NDArray[np.float64] = np.fft.irfft(phi, length)
    return np.maximum(pmf, 0.0)


def lattice_log_tails(
    law: LayeredBits, statistics: NDArray[np.int64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute `lattice_log_tail` for many sums.

    Args:
        law: the law of one token's score.
        statistics: int64, shape (k,).
        n: int64, shape (k,).

    Returns:
        float64, shape (k,), natural logarithms.
    """
    out = np.zeros(len(n))
    small = (n > 0) & (n <= _TABLE_TOKENS)
    if small.sum() > 50:
        out[small] = _from_tables(law, statistics[small], n[small])
        todo = np.isnan(out) | ((n > 0) & ~small)
    else:
        todo = n > 0
    pairs, inverse = np.unique(np.stack([statistics[todo], n[todo]]), axis=1, return_inverse=True)
    values = np.array([lattice_log_tail(law, int(s), int(m)) for s, m in pairs.T])
    out[todo] = values[inverse.ravel()] if len(values) else 0.0
    return out


def _from_tables(
    law: LayeredBits, statistics: NDArray[np.int64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Read tails off exact tables, token by token; NaN where a double is too short.

    Adding a bit of weight w is p(k) <- (p(k) + p(k - w)) / 2: sums of positive numbers, which
    keep their relative precision in the tail.
    """
    out = np.full(len(n), np.nan)
    order = np.argsort(n, kind="stable")
    pmf = np.ones(1)
    built = 0
    for tokens, members in _runs(n, order):
        while built < tokens:
            for w in law.weights:
                pmf = (np.pad(pmf, (0, w)) + np.pad(pmf, (w, 0))) / 2
            built += 1
        tail = np.append(np.cumsum(pmf[::-1])[::-1], 0.0)
        picked = tail[np.clip(statistics[members], 0, len(pmf))]
        known = picked > _TABLE_FLOOR
        out[members[known]] = np.minimum(np.log(picked[known]), 0.0)
    return out


def _runs(n: NDArray[np.int64], order: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Split the sorted order into runs of equal n."""
    values, starts = np.unique(n[order], return_index=True)
    return list(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
