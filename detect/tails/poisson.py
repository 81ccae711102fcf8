"""Log probabilities of Poisson kind, and series of positive terms, to full relative precision.

Differences of log-gamma functions lose six digits at n = 10^9. The deviance form loses none:
ln Poisson(k; m) = -D - g(k), with D = k ln(k / m) + m - k computed from m - k, and g(k) Stirling's
error (C. Loader, "Fast and accurate computation of binomial probabilities", 2000). Binomial and
gamma terms are sums of such logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = ["log_binomial_term", "log_poisson_term", "log_series"]

# Below this the Taylor series of x - ln(1 + x) is the more precise one.
_TAYLOR_BELOW = 0.1
_TAYLOR = np.array([(-1) ** j / j if j > 1 else 0.0 for j in range(19)])
# From here on Stirling's series is exact to rounding.
_STIRLING_FROM = 16
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_SPLIT_BITS = 22
_BLOCK_TERMS = 1 << 16


def log_poisson_term(k: NDArray[np.float64], excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ln(e^-m m^k / k!) for m = k + excess.

    Args:
        k: float64, any shape, whole numbers >= 0.
        excess: float64, m - k, given by itself because subtraction would lose it; m > 0.

    Returns:
        float64, the same shape.
    """
    ratio = np.divide(excess, k, out=np.zeros_like(excess), where=k > 0)
    deviance = np.where(k > 0, k * _minus_log1p(ratio), excess)
    return -deviance - _stirling_error(k)


def log_binomial_term(
    k: NDArray[np.float64], n: NDArray[np.float64], probability: float
) -> NDArray[np.float64]:
    """Compute ln P(Binomial(n, probability) = k).

    A binomial is a Poisson pair given its total: Poisson(k; np) Poisson(n - k; nq) / Poisson(n; n).

    Args:
        k: float64, shape (r,), whole numbers in [0, n].
        n: float64, shape (r,), whole numbers up to 2^30.
        probability: in (0, 1).

    Returns:
        float64, shape (r,).
    """
    # np in two parts, the larger one exact, so that np - k keeps all its digits.
    high = math.ldexp(math.floor(math.ldexp(probability, _SPLIT_BITS)), -_SPLIT_BITS)
    excess = (n * high - k) + n * (probability - high)
    return log_poisson_term(k, excess) + log_poisson_term(n - k, -excess) + _stirling_error(n)


def log_series(
    ratio: Callable[[NDArray[np.intp], NDArray[np.float64]], NDArray[np.float64]], rows: int
) -> NDArray[np.float64]:
    """Compute ln(1 + r0 + r0 r1 + r0 r1 r2 + ...) for many rows: positive terms only.

    Rows that have converged drop out; the fewer remain, the longer the blocks of terms.

    Args:
        ratio: called with row numbers, shape (a,), and term numbers j, shape (b,); gives the
            ratios r_j as float64, shape (a, b), falling in j and eventually below 1.
        rows: number of series.

    Returns:
        float64, shape (rows,).
    """
    total, term = np.ones(rows), np.ones(rows)
    live, done = np.arange(rows), 0
    while len(live):
        block = min(max(_BLOCK_TERMS // len(live), 1), 4096)
        j = np.arange(done, done + block, dtype=np.float64)
        # A negative ratio lies beyond the last term, which was zero.
        terms = term[live, None] * np.cumprod(np.maximum(ratio(live, j), 0.0), axis=1)
        total[live] += terms.sum(axis=1)
        term[live] = terms[:, -1]
        done += block
        live = live[term[live] > 1e-18 * total[live]]
    return np.log(total)


def _minus_log1p(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """X - ln(1 + x), precise near 0; x >= -1 (infinite at -1)."""
    near = np.abs(x) < _TAYLOR_BELOW
    with np.errstate(divide="ignore"):
        direct = x - np.log1p(x)
    return np.where(near, np.polynomial.polynomial.polyval(np.where(near, x, 0.0), _TAYLOR), direct)


def _stirling_error(k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln k! - (k ln k - k): what the deviance leaves out; 0 at k = 0."""
    k_ = np.maximum(k, 1.0)
    large = np.maximum(k_, _STIRLING_FROM)
    series = sum(c / large ** (2 * i + 1) for i, c in enumerate(_STIRLING))
    series = series + 0.5 * np.log(2 * math.pi * large)
    small = np.minimum(k_, _STIRLING_FROM)
    direct = gammaln(small + 1) - small * np.log(small) + small
    return np.where(k == 0, 0.0, np.where(k >= _STIRLING_FROM, series, direct))
