"""Tails of sums of n independent null scores, in log space at any depth.

H0: the n words are independent and uniform; then the scores are independent with the scheme's law.
Alternative: scores tend to be larger. The laws have exact tails:

- Bernoulli: binomial upper tail.
- Exponential: gamma upper tail.
- LayeredBits: lattice convolution (`detect.tails.lattice`).
- Tabulated: convolution by FFT (`detect.tails.convolution`).

The regularised incomplete beta and gamma functions of scipy serve as long as a double holds them;
beyond, series of positive terms take over. Sums with weights are in `detect.tails.weighted`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, gammaincc

from detect.results import Tail
from detect.tails.convolution import MAX_LENGTH, Part, convolution_log_tails, window_length
from detect.tails.lattice import lattice_log_tails
from detect.tails.mixed_sums import MixedLaw, mixed_tail
from detect.tails.poisson import log_binomial_term, log_poisson_term, log_series
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits, ScoreLaw, Tabulated

__all__ = ["log_tails", "tail"]

# Below this the special functions near the end of a double's range; series take over.
_SERIES_BELOW = 1e-250
# Above this shape scipy's gammaincc is wrong by up to 1e-6 where p is near 1.
_FLAT_FROM = 1e5
_LN10 = math.log(10)


def tail(law: ScoreLaw, statistic: float, n: int) -> Tail:
    """Compute P(S >= statistic) for the sum S of n independent null scores. Exact.

    Args:
        law: law of one score.
        statistic: the observed sum.
        n: number of scores; with none, p is 1.

    Returns:
        The tail; its ceiling equals its value.
    """
    if n == 0:
        return Tail(0.0, 0.0, "none")
    if isinstance(law, MixedLaw):
        if n != law.n:
            raise ValueError(f"the law is that of {law.n} scores together, not of {n}")
        return law.tail(statistic)
    if isinstance(law, Tabulated):
        return mixed_tail([Part(law, n)], round(statistic / law.step))
    log10_p = float(log_tails(law, np.array([statistic]), np.array([n]))[0]) / _LN10
    return Tail(log10_p, log10_p, "exact")


def log_tails(
    law: ScoreLaw, statistics: NDArray[np.float64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute ln P(S >= statistic) for many sums at once.

    Args:
        law: law of one score.
        statistics: float64, shape (k,), observed sums.
        n: int64, shape (k,), number of scores in each; 0 gives ln p = 0.

    Returns:
        float64, shape (k,), natural logarithms, at most 0; -inf for impossible sums.

    Raises:
        TypeError: a law without an exact tail.
        ValueError: NaN statistics or negative n.
    """
    statistics = np.asarray(statistics, np.float64)
    n = np.asarray(n, np.int64)
    if np.isnan(statistics).any() or (n < 0).any():
        raise ValueError("statistics must be numbers and n at least 0")
    match law:
        case Bernoulli(probability):
            return _log_binomial(np.ceil(statistics - 1e-9), n, probability)
        case Exponential():
            return _log_gamma(statistics, n)
        case LayeredBits():
            return lattice_log_tails(law, np.ceil(statistics - 1e-9).astype(np.int64), n)
        case Tabulated():
            return _log_tabulated(law, np.rint(statistics / law.step).astype(np.int64), n)
        case _:
            raise TypeError(f"no exact tail is known for {type(law).__name__}")


def _log_tabulated(
    law: Tabulated, units: NDArray[np.int64], n: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums of one length share their convolutions."""
    out = np.zeros(len(n))
    for length in np.unique(n[n > 0]).tolist():
        members = np.flatnonzero(n == length)
        part = Part(law, length)
        if window_length([part]) <= MAX_LENGTH:
            out[members] = convolution_log_tails([part], units[members])
        else:
            tails = [mixed_tail([part], unit) for unit in units[members].tolist()]
            out[members] = [t.log10_p_ceiling * _LN10 for t in tails]
    return out


def _log_binomial(
    s: NDArray[np.float64], n: NDArray[np.int64], probability: float
) -> NDArray[np.float64]:
    """Ln P(Binomial(n, p) >= s) = ln I_p(s, n - s + 1)."""
    out = np.zeros(len(n))
    out[(s > n) & (n > 0)] = -np.inf
    inside = (s >= 1) & (s <= n)
    k, m = s[inside], n[inside].astype(np.float64)
    direct = betainc(k, m - k + 1, probability)
    value = np.log(np.maximum(direct, _SERIES_BELOW))
    deep = direct < _SERIES_BELOW
    k, m, odds = k[deep], m[deep], probability / (1 - probability)
    value[deep] = log_binomial_term(k, m, probability) + log_series(
        lambda i, j: (m[i, None] - k[i, None] - j) / (k[i, None] + j + 1) * odds, len(k)
    )
    out[inside] = value
    return out


def _log_gamma(statistics: NDArray[np.float64], n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Ln P(Gamma(n, 1) >= s) = ln P(Poisson(s) <= n - 1)."""
    out = np.zeros(len(n))
    inside = (n > 0) & (statistics > 0)
    shape, x = n[inside].astype(np.float64), statistics[inside]
    direct = gammaincc(shape, x)
    value = np.log(np.maximum(direct, _SERIES_BELOW))
    deep = direct < _SERIES_BELOW
    value[deep] = _log_poisson_at_most(shape[deep] - 1, x[deep])
    # Where p is near 1 and n large, scipy's series stops before it has converged.
    flat = (shape > _FLAT_FROM) & (x < shape - 4 * np.sqrt(shape))
    value[flat] = _log_poisson_below_all(shape[flat], x[flat])
    out[inside] = value
    return out


def _log_poisson_at_most(k: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln P(Poisson(mean) <= k), mean above k: the terms k, k - 1, ..."""
    return log_poisson_term(k, mean - k) + log_series(
        lambda i, j: (k[i, None] - j) / mean[i, None], len(k)
    )


def _log_poisson_below_all(
    k: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ln P(Poisson(mean) <= k - 1), mean below k: one minus the terms k, k + 1, ..."""
    beyond = log_poisson_term(k, mean - k) + log_series(
        lambda i, j: mean[i, None] / (k[i, None] + 1 + j), len(k)
    )
    return np.log1p(-np.exp(beyond))
