"""Exact tails of sums of independent scores on one lattice, of one law or of several.

The law of the sum is a convolution, taken by FFT. Exponential tilting moves the statistic to the
middle of the law first, where the FFT's rounding (1e-16 of the largest probability) does not
matter; undoing the tilt gives the tail to rounding, however small it is. One tilt serves every
statistic within four deviations above its mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.laws import Tabulated

__all__ = ["MAX_LENGTH", "Part", "convolution_log_tails", "window_length"]

# -ln of the tilted mass outside the window, which comes back as aliasing.
_LN_OUTSIDE = 45.0
# Frequencies whose amplitude is below e^-50 are left out.
_LN_DROPPED = 50.0
_REACH = 4.0  # standard deviations
# Of the largest probability: above what a transform of any length loses. Next to the statistic
# probabilities are larger, but in sums of a few scores with gaps between their values.
_ROUNDING = 2.0**-51
_FIRST_TILT, _MAX_TILT = 1e-3, 1e3
_BISECTIONS = 24
MAX_LENGTH = 1 << 22


class Part(NamedTuple):
    """n independent scores of one law; all parts of a sum share the lattice's step."""

    law: Tabulated
    n: int


def window_length(parts: Sequence[Part]) -> int:
    """Tell how long an FFT the untilted sum needs; above `MAX_LENGTH` it is not attempted."""
    return _tilt(parts, 0.0).length


def convolution_log_tails(
    parts: Sequence[Part], statistics: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute ln P(S >= s) for the sum S of all parts.

    H0: the scores are independent with their laws. Exact up to rounding and an aliasing error
    below 2 e^-45 of the tilted mass (Chernoff's bound).

    Args:
        parts: the laws and how many scores of each, none empty.
        statistics: int64, shape (k,), sums in steps of the lattice.

    Returns:
        float64, shape (k,), at most 0; -inf above the largest possible sum.
    """
    statistics = np.asarray(statistics, np.int64)
    out = np.zeros(len(statistics))
    highest = sum(part.n * int(part.law.values[-1]) for part in parts)
    lowest = sum(part.n * int(part.law.values[0]) for part in parts)
    out[statistics > highest] = -np.inf
    out[statistics == highest] = sum(p.n * math.log(p.law.probabilities[-1]) for p in parts)
    todo = np.flatnonzero((statistics > lowest) & (statistics < highest))
    order = todo[np.argsort(statistics[todo], kind="stable")]
    s, done = statistics[order], 0
    while done < len(s):
        tilted = _tilt(parts, _tilt_towards(parts, int(s[done])))
        # Close to the largest sum the upper tail thins out faster than a Gaussian's.
        room = (highest - tilted.center) // 2
        reach = tilted.center + min(math.ceil(_REACH * tilted.deviation), tilted.length // 16, room)
        # The statistic that the tilt was made for is always within its reach.
        end = max(int(np.searchsorted(s, reach, side="right")), done + 1)
        out[order[done:end]] = _tails(parts, tilted, s[done:end])
        done = end
    return out


class _Tilted(NamedTuple):
    """The tilted sum: where it lives, and the window that holds all of it but 2 e^-45."""

    tilt: float  # per step of the lattice
    center: int
    deviation: float
    spread: int
    length: int


def _tilted_mass(law: Tabulated, tilt: float) -> NDArray[np.float64]:
    exponents = tilt * law.values + np.log(law.probabilities)
    mass: NDArray[np.float64] = np.exp(exponents - exponents.max())
    mass /= mass.sum()
    return mass


def _moments(law: Tabulated, tilt: float) -> tuple[float, float]:
    mass = _tilted_mass(law, tilt)
    mean = float(mass @ law.values)
    return mean, float(mass @ (law.values - mean) ** 2)


def _tilt_towards(parts: Sequence[Part], statistic: int) -> float:
    """Find a tilt that moves the mean of the sum to the statistic; 0 below the mean.

    Bisection, since importing a root finder takes as long as testing a text; any tilt is exact.
    """

    def is_short(tilt: float) -> bool:
        return sum(p.n * _moments(p.law, tilt)[0] for p in parts) < statistic

    if not is_short(0.0):
        return 0.0
    low, high = 0.0, _FIRST_TILT
    while is_short(high) and high < _MAX_TILT:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_short(middle) else (low, middle)
    return high


def _tilt(parts: Sequence[Part], tilt: float) -> _Tilted:
    moments = [(part.n, *_moments(part.law, tilt)) for part in parts]
    mean = sum(n * m for n, m, _ in moments)
    variance = sum(n * v for n, _, v in moments)
    spread = math.ceil(_spread(parts, tilt, mean, variance)) + 1
    # A query up to `length / 16` above the center, and all mass above it, stay in the window.
    length = max(1 << (5 * spread // 2).bit_length(), 128)
    return _Tilted(tilt, round(mean), math.sqrt(variance), spread, length)


def _spread(parts: Sequence[Part], tilt: float, mean: float, variance: float) -> float:
    """Bound how far from its mean the tilted sum lives: Chernoff's bound, valid at any rate."""
    rates = np.geomspace(0.05, 1.5, 12) * math.sqrt(2 * _LN_OUTSIDE / max(variance, 1e-12))
    sides = []
    for sign in (1.0, -1.0):
        # ln E exp(rate (S - mean)) under the tilt, either side.
        moment = -sign * rates * mean
        for law, n in parts:
            exponents = np.log(_tilted_mass(law, tilt)) + sign * np.outer(rates, law.values)
            moment += n * _log_sum_exp(exponents)
        sides.append(float(np.min((moment + _LN_OUTSIDE) / rates)))
    return max(*sides, 1.0)


def _log_sum_exp(exponents: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    largest = exponents.max(axis=-1, keepdims=True)
    logs: NDArray[np.float64] = np.log(np.exp(exponents - largest).sum(axis=-1))
    logs += largest[..., 0]
    return logs


def _tails(
    parts: Sequence[Part], tilted: _Tilted, statistics: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Ln of sum_{k >= s} P(k), with P(k) = e^{K - t k} P_tilted(k); ascending statistics."""
    t, length = tilted.tilt, tilted.length
    mass, log_moment = _tilted_sum(parts, tilted)
    offsets = np.maximum(statistics - tilted.center, -(length // 2))
    # From the lowest query to the window's upper end; what rounding may have hidden is added.
    above = np.arange(int(offsets[0]), length // 2)
    logs = np.log(np.maximum(mass[above], 0.0) + _ROUNDING * mass.max()) - t * above
    upwards = np.logaddexp.accumulate(logs[::-1])[::-1]
    values = upwards[offsets - above[0]] + log_moment - t * tilted.center
    certain = statistics < tilted.center - tilted.spread
    tails: NDArray[np.float64] = np.where(certain, 0.0, np.minimum(values, 0.0))
    return tails


def _tilted_sum(parts: Sequence[Part], tilted: _Tilted) -> tuple[NDArray[np.float64], float]:
    """Probabilities of the tilted sum around its center (index 0, negative ones at the end)."""
    log_moment, shift = 0.0, -tilted.center
    # One transform at a time: hundreds of laws would not fit into memory together.
    product = np.ones(tilted.length // 2 + 1, np.complex128)
    size = np.zeros(len(product))
    for law, n in parts:
        mass = _tilted_mass(law, tilted.tilt)
        # Each law is centred, so that powers of its transform turn slowly and lose no digits.
        middle = round(float(mass @ law.values))
        shift += n * middle
        wrapped = np.zeros(tilted.length)
        np.add.at(wrapped, (law.values - middle) % tilted.length, mass)
        transform = np.fft.rfft(wrapped)
        with np.errstate(divide="ignore"):
            size += n * np.log(np.abs(transform))
        # Frequencies that have died out are left out.
        alive = size > -_LN_DROPPED
        product[alive] *= transform[alive] ** n
        product[~alive] = 0.0
        exponents = tilted.tilt * law.values + np.log(law.probabilities)
        log_moment += n * float(_log_sum_exp(exponents))
    around = np.fft.irfft(product, tilted.length)
    return np.roll(around, shift % tilted.length), log_moment
