"""Exact tails, against mpmath and exact enumeration, at any depth."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.lattice import lattice_log_tail, lattice_log_tails
from detect.nulls import log_tails, tail
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


def _enumerated(law: LayeredBits, n: int) -> list[int]:
    """Counts of each sum among all 2^(n m) outcomes, by exact integers."""
    counts = [1]
    for _ in range(n):
        for w in law.weights:
            longer = [0] * (len(counts) + w)
            for i, c in enumerate(counts):
                longer[i] += c
                longer[i + w] += c
            counts = longer
    return counts


@pytest.mark.parametrize("n", [1, 2, 8])
def test_lattice_tail_is_exact_by_both_paths(n: int) -> None:
    counts = _enumerated(LAYERS, n)
    total_bits = n * len(LAYERS.weights)
    points = sorted({1, len(counts) // 3, len(counts) // 2, len(counts) - 30, len(counts) - 1})
    expected = [math.log(sum(counts[s:])) - total_bits * math.log(2) for s in points]
    by_fourier = [lattice_log_tail(LAYERS, s, n) for s in points]
    # More than fifty sums take the table.
    repeated = np.repeat(points, 20)
    by_table = lattice_log_tails(LAYERS, repeated, np.full(len(repeated), n))[::20]
    assert by_fourier == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert by_table == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_lattice_with_unit_weights_is_binomial() -> None:
    law = LayeredBits((1, 1, 1))
    for s, n in ((20, 10), (29, 10), (1_000, 400), (160_000, 100_000)):
        assert lattice_log_tail(law, s, n) == pytest.approx(
            _one(Bernoulli(0.5), s, 3 * n), rel=1e-9
        )


def test_deep_lattice_sums_fall_back_from_the_table() -> None:
    n = 60
    deep = round(0.97 * n * sum(LAYERS.weights))
    many = lattice_log_tails(LAYERS, np.full(60, deep), np.full(60, n))
    assert many[0] < math.log(1e-280)
    assert many == pytest.approx(lattice_log_tail(LAYERS, deep, n), rel=1e-12)


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
