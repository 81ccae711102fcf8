"""Exact tails of sums of weighted fair bits (tournament scores), at any depth.

The sum over n tokens of sum_l w_l g_l lives on the integers. Exponential tilting moves the
statistic to the middle of the tilted law, where Fourier inversion loses nothing; undoing the tilt
gives the tail to rounding, however small it is. A tilted law is nearly Gaussian, so that a few
dozen frequencies carry all of it: one tilt serves every statistic within four deviations above
its mean, for the same n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.laws import LayeredBits

__all__ = ["lattice_log_tail", "lattice_log_tails"]

# -ln of the tilted mass that is left outside the window and comes back as aliasing.
_LN_OUTSIDE = 45.0
# Frequencies whose amplitude is below e^-50 are left out.
_LN_DROPPED = 50.0
_REACH = 4.0  # standard deviations
_MAX_TILT = 700.0
_CHUNK = 1 << 20


def lattice_log_tail(law: LayeredBits, statistic: int, n: int) -> float:
    """Compute ln P(S >= statistic) for the sum of n tokens.

    Exact up to rounding (measured: p to 1e-10 for n up to 10^8). The aliasing error is bounded by
    the tilted mass outside the window, 2 e^-45 by Bernstein's inequality.

    Args:
        law: the law of one token's score; positive weights.
        statistic: integer value of the sum.
        n: tokens; with none, p is 1.

    Returns:
        The natural logarithm; -inf above the largest possible sum.
    """
    return float(lattice_log_tails(law, np.array([statistic]), np.array([n]))[0])


def lattice_log_tails(
    law: LayeredBits, statistics: NDArray[np.int64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute `lattice_log_tail` for many sums.

    Args:
        law: the law of one token's score; positive weights.
        statistics: int64, shape (k,).
        n: int64, shape (k,).

    Returns:
        float64, shape (k,), natural logarithms.
    """
    step = math.gcd(*law.weights)
    weights = np.array(law.weights, np.int64) // step
    s = -(-np.asarray(statistics, np.int64) // step)
    out = np.zeros(len(n))
    largest = n * int(weights.sum())
    out[(s > largest) & (n > 0)] = -np.inf
    top = (s == largest) & (n > 0)
    out[top] = -n[top] * len(weights) * math.log(2)
    todo = np.flatnonzero((s > 0) & (s < largest))
    order = todo[np.lexsort((s[todo], n[todo]))]
    starts = np.flatnonzero(np.diff(n[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        if len(members):
            out[members] = _tails_of_one_length(weights, s[members], int(n[members[0]]))
    return out


def _tails_of_one_length(
    weights: NDArray[np.int64], s: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """Log tails of ascending sums of n tokens: as many tilts as it takes."""
    out, done = np.empty(len(s)), 0
    while done < len(s):
        tilted = _tilt(weights, int(s[done]), n)
        end = int(np.searchsorted(s, tilted.center + tilted.reach, side="right"))
        # The statistic that the tilt was made for is always within its reach.
        end = max(end, done + 1)
        out[done:end] = _tilted_log_tails(tilted, s[done:end])
        done = end
    return out


class _Tilted(NamedTuple):
    """Sum of n tokens under exponential tilting.

    `spread` bounds where it lives: center +- spread but for mass 2 e^-45. `reach`: how far above
    the center its tails are still precise.
    """

    weights: NDArray[np.int64]
    n: int
    tilt: float
    center: int
    spread: int
    reach: int


def _tilt(weights: NDArray[np.int64], statistic: int, n: int) -> _Tilted:
    """Move the mean of the sum to the statistic; no tilt below the mean."""
    # Here, since it takes as long to import as a text takes to test.
    from scipy.optimize import brentq

    half = weights / 2
    # The target is a multiple of 1 / (2n): computed in integers, precise near the mean.
    target = (2 * statistic - n * int(weights.sum())) / (2 * n)

    def excess(t: float) -> float:
        return float(half @ np.tanh(half * t)) - target

    tilt = 0.0
    if target > 0:
        tilt = brentq(excess, 0.0, _MAX_TILT, xtol=1e-15) if excess(_MAX_TILT) > 0 else _MAX_TILT
    green = _green(weights, tilt)
    deviation = math.sqrt(n * float(weights**2 @ (green * (1 - green))))
    b = _LN_OUTSIDE * int(weights.max()) / 3
    spread = math.ceil(b + math.sqrt(b * b + 2 * _LN_OUTSIDE * deviation**2)) + 1
    center = round(n * float(weights @ green))
    # Close to the largest sum the upper tail thins out faster than a Gaussian's.
    room = (n * int(weights.sum()) - center) // 2
    return _Tilted(weights, n, tilt, center, spread, min(math.ceil(_REACH * deviation), room))


def _green(weights: NDArray[np.int64], tilt: float) -> NDArray[np.float64]:
    """Probability of each bit under the tilt."""
    green: NDArray[np.float64] = 1 / (1 + np.exp(-np.minimum(weights * tilt, _MAX_TILT)))
    return green


def _tilted_log_tails(tilted: _Tilted, s: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ln of sum_{k >= s} P(S = k) = exp(n K - t k) P_tilted(k), all centred."""
    weights, n, t = tilted.weights, tilted.n, tilted.tilt
    # Odd, so that every frequency but 0 has a mirror image.
    length = (5 * tilted.spread + tilted.reach) | 1
    omega, coefficients = _fourier(tilted, length)
    total = np.empty(len(s))
    rows = max(_CHUNK // len(omega), 1)
    for start in range(0, len(s), rows):
        offset = (s[start : start + rows] - tilted.center).astype(np.float64)
        waves = np.exp(-1j * np.outer(offset, omega))
        total[start : start + rows] = (waves @ coefficients).real / length
    # Twice the distance from the mean, in integers; K is the centred log-MGF, ln cosh.
    above = (2 * s - n * int(weights.sum())) / 2
    centred = n * float(_log_cosh(weights * t / 2).sum()) - t * above
    # Far below the mean there is nothing but rounding between p and 1.
    certain = s < tilted.center - tilted.spread
    logs = centred + np.log(np.maximum(total, np.finfo(float).tiny))
    tails: NDArray[np.float64] = np.where(certain, 0.0, np.minimum(logs, 0.0))
    return tails


def _fourier(tilted: _Tilted, length: int) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Frequencies that matter, and the coefficients whose real sum is the weighted tail.

    The tail at s is sum_{j = 0 .. 2 spread} e^{-t j} P_tilted(s + j): a geometric sum for each
    frequency. No query s + j reaches the window's next copy.
    """
    weights, n = tilted.weights, tilted.n
    green = _green(weights, tilted.tilt)
    omega = 2 * np.pi * _candidates(weights, green, n, length) / length
    log_size, phase = np.zeros(len(omega)), np.zeros(len(omega))
    for w, g in zip(weights.tolist(), green.tolist(), strict=True):
        # A zero of one factor is a zero of the whole: ln 0 = -inf becomes e^-inf = 0.
        with np.errstate(divide="ignore"):
            log_size += np.log1p(-np.minimum(4 * g * (1 - g) * np.sin(w * omega / 2) ** 2, 1)) / 2
    kept = n * log_size > -_LN_DROPPED
    omega, log_size, phase = omega[kept], log_size[kept], phase[kept]
    for w, g in zip(weights.tolist(), green.tolist(), strict=True):
        phase += np.arctan2(g * np.sin(w * omega), 1 - g + g * np.cos(w * omega)) - g * w * omega
    drift = n * float(weights @ green) - tilted.center
    amplitudes = np.exp(n * log_size + 1j * (n * phase + drift * omega))
    # Real signals: each positive frequency stands for its mirror image too.
    amplitudes[omega > 0] *= 2
    return omega, amplitudes * _geometric(tilted.tilt, omega, 2 * tilted.spread + 1)


def _candidates(
    weights: NDArray[np.int64], green: NDArray[np.float64], n: int, length: int
) -> NDArray[np.float64]:
    """Frequency numbers 0 .. length / 2, cut where a bit of weight 1 alone rules them out."""
    highest = length // 2
    ones = green[weights == 1]
    if len(ones):
        # That bit's amplitude is at most exp(-2 g (1 - g) n sin^2(omega / 2)), falling in omega.
        sine = _LN_DROPPED / (2 * n * float((ones * (1 - ones)).sum()))
        if sine < 1:
            highest = min(highest, math.ceil(math.asin(math.sqrt(sine)) * length / math.pi))
    return np.arange(highest + 1, dtype=np.float64)


def _geometric(tilt: float, omega: NDArray[np.float64], terms: int) -> NDArray[np.complex128]:
    """1 + r + ... + r^(terms - 1) for r = exp(-tilt - i omega), precise near r = 1."""
    log_ratio = -tilt - 1j * omega
    one = log_ratio == 0
    safe = np.where(one, -1.0, log_ratio)
    total: NDArray[np.complex128] = np.where(one, terms, np.expm1(terms * safe) / np.expm1(safe))
    return total


def _log_cosh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln cosh x for x >= 0, precise near 0 and without overflow."""
    near = np.log1p(2 * np.sinh(np.minimum(x, 1.0) / 2) ** 2)
    return np.where(x < 1, near, x + np.log1p(np.exp(-2 * x)) - math.log(2))
