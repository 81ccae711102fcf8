"""Exact tails, against mpmath and exact enumeration, at any depth."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.tails.nulls import log_tails, tail
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits, ScoreLaw

mpmath.mp.dps = 60
LAYERS = LayeredBits(tuple(range(30, 0, -1)))


def _one(law: ScoreLaw, s: float, n: int) -> float:
    return float(log_tails(law, np.array([s]), np.array([n]))[0])


@pytest.mark.parametrize(
    ("s", "n", "p"),
    [(1, 1, 0.5), (3, 50, 0.5), (60, 100, 0.5), (100, 100, 0.25), (700, 1000, 0.25),
     (9_000, 10_000, 0.5), (99_999, 100_000, 0.25)],
)  # fmt: skip
def test_binomial_tail_is_the_incomplete_beta_function(s: int, n: int, p: float) -> None:
    # mpmath.log(mpmath.betainc(s, n - s + 1, 0, p, regularized=True)), mp.dps = 60
    expected = float(mpmath.log(mpmath.betainc(s, n - s + 1, 0, p, regularized=True)))
    assert _one(Bernoulli(p), s, n) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(
    ("s", "n"),
    [
        (0.1, 1),
        (5, 10),
        (150, 100),
        (3_000, 100),
        (12_000, 100),
        (1e5, 10_000),
        (1.02e6, 1_000_000),
    ],
)
def test_gamma_tail_is_the_incomplete_gamma_function(s: float, n: int) -> None:
    # mpmath.log(mpmath.gammainc(n, s, regularized=True)), mp.dps = 60; the deepest is 1e-5000
    expected = float(mpmath.log(mpmath.gammainc(n, s, regularized=True)))
    assert _one(Exponential(), s, n) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("law", [Bernoulli(0.25), Exponential(), LAYERS])
def test_edges(law: ScoreLaw) -> None:
    assert _one(law, 3.0, 0) == 0.0
    assert _one(law, 0.0, 5) == 0.0
    assert _one(law, -1.0, 5) == 0.0
    if not isinstance(law, Exponential):
        largest = 5 * (1 if isinstance(law, Bernoulli) else sum(LAYERS.weights))
        assert _one(law, largest + 1, 5) == -math.inf
        assert -math.inf < _one(law, largest, 5) < -3
    nothing = tail(law, 0.0, 0)
    assert (nothing.log10_p, nothing.method) == (0.0, "none")


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="numbers"):
        _one(Exponential(), math.nan, 3)
    with pytest.raises(ValueError, match="at least 0"):
        _one(Exponential(), 1.0, -1)


@given(
    law=st.sampled_from([Bernoulli(0.5), Exponential(), LAYERS]),
    n=st.integers(1, 300),
    share=st.floats(0.0, 3.0),
    more=st.floats(0.0, 50.0),
)
@settings(max_examples=150, deadline=None)
def test_a_larger_sum_is_never_less_significant(
    law: ScoreLaw, n: int, share: float, more: float
) -> None:
    s = share * n * law.mean
    low, high = log_tails(law, np.array([s, s + more]), np.array([n, n]))
    assert high <= low + 1e-9
    assert low <= 0


@pytest.mark.parametrize(
    "law", [Bernoulli(0.5), Bernoulli(0.1), Exponential(), LayeredBits((3, 2, 1))]
)
def test_p_values_are_super_uniform_under_the_null(law: ScoreLaw) -> None:
    """H0 simulated: P(p <= a) <= a within 6 binomial standard errors (false alarms 1e-8)."""
    rng, runs, n = np.random.default_rng(3), 200_000, 40
    if isinstance(law, Bernoulli):
        sums = rng.binomial(n, law.probability, runs).astype(np.float64)
    elif isinstance(law, Exponential):
        sums = rng.gamma(n, size=runs)
    else:
        sums = sum(w * rng.binomial(n, 0.5, runs) for w in law.weights).astype(np.float64)  # type: ignore[attr-defined]
    p = np.exp(log_tails(law, sums, np.full(runs, n)))
    for alpha in (0.5, 0.1, 1e-2, 1e-3, 1e-4):
        excess = (p <= alpha).mean() - alpha
        assert excess < 6 * (alpha / runs) ** 0.5
        if isinstance(law, Exponential):
            assert excess > -6 * (alpha / runs) ** 0.5


def _binomial_reference(k: int, n: int, p: float) -> mpmath.mpf:
    """Ln P(Binomial(n, p) >= k) above the mean, term by term with 60 digits."""
    p_, total, term, j = mpmath.mpf(p), mpmath.mpf(1), mpmath.mpf(1), 0
    while term > mpmath.mpf(10) ** -25 * total:
        term *= (n - k - j) * p_ / ((k + j + 1) * (1 - p_))
        total, j = total + term, j + 1
    choose = mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)
    return choose + k * mpmath.log(p_) + (n - k) * mpmath.log1p(-p_) + mpmath.log(total)


def _gamma_reference(x: float, n: int) -> mpmath.mpf:
    """Ln P(Gamma(n) >= x) above the mean, as a Poisson sum with 60 digits."""
    x_, total, term, j = mpmath.mpf(x), mpmath.mpf(1), mpmath.mpf(1), 0
    while term > mpmath.mpf(10) ** -25 * total:
        term *= (n - 1 - j) / x_
        total, j = total + term, j + 1
    return (n - 1) * mpmath.log(x_) - x_ - mpmath.loggamma(n) + mpmath.log(total)


# 35 deviations: just past what a double holds; 215: near 1e-10000.
@pytest.mark.parametrize("z", [10, 33, 35, 60, 215, 300])
@pytest.mark.parametrize("n", [10**5, 10**7, 10**9])
def test_p_is_right_to_ten_digits_at_any_depth(n: int, z: int) -> None:
    for p in (0.5, 0.25, 0.1):
        k = round(n * p + z * math.sqrt(n * p * (1 - p)))
        error = mpmath.expm1(_one(Bernoulli(p), k, n) - _binomial_reference(k, n, p))
        assert abs(error) < 1e-10
    x = n + z * math.sqrt(n)
    assert abs(mpmath.expm1(_one(Exponential(), x, n) - _gamma_reference(x, n))) < 1e-10


def test_far_below_the_mean_p_falls_short_of_one_by_the_right_amount() -> None:
    # mpmath.log1p(-t) with t = exp(n log(x) - x - loggamma(n + 1)) (1 + x / (n + 1) + ...)
    n = 10**9
    x = n - 4.6 * math.sqrt(n)
    total = term = mpmath.mpf(1)
    j = 0
    while term > mpmath.mpf(10) ** -12 * total:
        j += 1
        term *= mpmath.mpf(x) / (n + j)
        total += term
    missing = mpmath.exp(n * mpmath.log(x) - x - mpmath.loggamma(n + 1)) * total
    assert _one(Exponential(), x, n) == pytest.approx(float(mpmath.log1p(-missing)), rel=1e-8)


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_small_binomials_are_enumerated(p: float) -> None:
    n = 12
    pmf = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    for s in range(n + 1):
        assert _one(Bernoulli(p), s, n) == pytest.approx(math.log(math.fsum(pmf[s:])), abs=1e-13)
    assert _one(Bernoulli(p), 2.5, n) == _one(Bernoulli(p), 3, n)


def test_many_texts_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(5)
    n = rng.integers(0, 900, 400)
    for law in (Bernoulli(0.25), Exponential(), LayeredBits((5, 3, 2, 1))):
        s = np.floor(n * law.mean * rng.uniform(0.5, 2.5, len(n)))
        alone = [_one(law, a, b) for a, b in zip(s, n, strict=True)]
        assert log_tails(law, s, n) == pytest.approx(alone, rel=1e-11, abs=1e-11)
