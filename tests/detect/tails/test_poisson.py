"""Poisson and binomial terms against mpmath; series against their closed forms."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from detect.tails.poisson import log_binomial_term, log_poisson_term, log_series


# 15 and 16 lie on both sides of the switch to Stirling's series.
@pytest.mark.parametrize("k", [0, 1, 2, 7, 15, 16, 17, 40, 1000, 10**9])
@pytest.mark.parametrize("share", [0.2, 0.89, 0.9, 1.0, 1.0001, 1.1, 1.11, 5.0])
def test_poisson_term(k: int, share: float) -> None:
    m = share * max(k, 1)
    # -m + k ln m - ln k!: mpmath, 60 digits
    with mpmath.workdps(60):
        exact = -mpmath.mpf(m) + k * mpmath.log(mpmath.mpf(m)) - mpmath.loggamma(k + 1)
        found = float(log_poisson_term(np.array([float(k)]), np.array([m - k]))[0])
        assert abs(found - exact) < 1e-13 + 1e-14 * abs(exact)


@pytest.mark.parametrize("n", [1, 20, 3000])
@pytest.mark.parametrize("p", [0.5, 0.1, 0.999])
def test_binomial_terms_sum_to_one_and_agree_with_comb(n: int, p: float) -> None:
    k = np.arange(n + 1.0)
    logs = log_binomial_term(k, np.full(n + 1, float(n)), p)
    assert math.fsum(np.exp(logs)) == pytest.approx(1, rel=1e-12)
    with mpmath.workdps(60):
        for i in (0, n // 3, n):
            exact = mpmath.log(mpmath.binomial(n, i))
            exact += i * mpmath.log(mpmath.mpf(p)) + (n - i) * mpmath.log1p(-mpmath.mpf(p))
            assert abs(logs[i] - exact) < 1e-12 + 1e-14 * abs(exact)


def test_series_of_slow_and_quick_rows() -> None:
    # Geometric series 1 / (1 - r), and one that ends after its third term.
    ratios = np.array([0.0, 0.5, 0.9999, 2.0])

    def ratio(rows: np.ndarray, j: np.ndarray) -> np.ndarray:
        value = np.broadcast_to(ratios[rows, None], (len(rows), len(j)))
        return np.where(rows[:, None] == 3, value * (2 - j), value)

    found = np.exp(log_series(ratio, 4))
    # 1 + 4 + 4 * 2 + 0
    assert found == pytest.approx([1.0, 2.0, 10_000.0, 13.0], rel=1e-12)
    assert len(log_series(ratio, 0)) == 0
