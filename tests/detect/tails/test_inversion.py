"""Inverted tails of weighted exponential sums against closed forms in many digits."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc

from detect.tails import weighted as weighted_module
from detect.tails.inversion import Inverted, exponential_log_tail
from detect.tails.nulls import log_tails
from detect.tails.weighted import weighted_tail
from watermark.schemes.laws import Exponential

LEVELS = (0.9, 0.5, 0.1, 1e-3, 1e-6, 1e-12, 1e-50, 1e-300)
DEPTHS = (*(math.log(level) for level in LEVELS), -2302.6, -23026.0, -2.3e7)


def _partial_fractions(weights: NDArray[np.float64], s: float) -> float:
    """Exact ln P(sum w (E - 1) >= s) for distinct weights, by residues, in 50 digits or more.

    With x = s + sum w: sum over w_i > 0 of exp(-x / w_i) prod_{j != i} w_i / (w_i - w_j) where
    x >= 0; one minus the same over w_i < 0 elsewhere.
    """
    # Close weights cancel; the digits they cost are added.
    with mpmath.workdps(50 + 4 * len(weights)):
        ws = [mpmath.mpf(w) for w in weights.tolist()]
        x = mpmath.mpf(s) + mpmath.fsum(ws)
        sign = 1 if x >= 0 else -1
        total = mpmath.fsum(
            mpmath.exp(-x / a) * mpmath.fprod(a / (a - b) for b in ws if b != a)
            for a in ws
            if a * sign > 0
        )
        return float(mpmath.log(total) if sign > 0 else mpmath.log1p(-total))


def _statistic_at(weights: NDArray[np.float64], log_p: float) -> float:
    """Roughly where ln p is reached: by bisection over the inverted tail, checked by the caller."""
    low, high = -float(np.abs(weights).sum()), float(np.abs(weights).sum()) * (2 - 2 * log_p)
    for _ in range(60):
        middle = (low + high) / 2
        found = exponential_log_tail(weights, middle).log_p
        low, high = (low, middle) if found <= log_p else (middle, high)
    return (low + high) / 2


def _agree(found: Inverted, exact: float) -> None:
    """Far better than the 1e-9 promised, and no worse than the error it estimates."""
    assert abs(found.log_p - exact) <= 1e-12 * max(1.0, -exact)
    assert abs(found.log_p - exact) <= found.error < 1e-9 * max(1.0, -exact)


def _families() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(7)
    return {
        "two": np.array([1.0, 0.3]),
        "two signs": np.array([1.0, -0.4]),
        "opposite": np.array([1.0, -1.0]),
        "mostly negative": np.array([0.01, -1.0, -0.7]),
        "three close": np.array([1.0, 0.999, 0.998]),
        "one rules": np.append(rng.uniform(0.1, 0.3, 9), 1.0),
        "one rules below": np.append(rng.uniform(0.1, 0.3, 9), -5.0),
        "uniform": rng.uniform(0.1, 1, 40),
        "signed": rng.normal(size=60),
        "pareto": rng.pareto(1, 60) + 0.1,
        "pareto signed": rng.pareto(0.7, 40) * rng.choice([-1, 1], 40),
        "eight decades": rng.normal(size=12) * 10 ** rng.uniform(-4, 4, 12),
    }


@pytest.mark.parametrize("name", list(_families()))
def test_distinct_weights_agree_with_partial_fractions(name: str) -> None:
    weights = _families()[name]
    for depth in DEPTHS:
        s = _statistic_at(weights, depth)
        exact = _partial_fractions(weights, s)
        assert exact == pytest.approx(depth, rel=1e-6, abs=1e-6)
        _agree(exponential_log_tail(weights, s), exact)


def test_a_printed_vector() -> None:
    """weights 1, 1/2, 1/4, s = 9.25, x = 11: 8/3 e^-11 - 2 e^-22 + 1/3 e^-44.

    python -c "from mpmath import *; mp.dps = 50; x = 11; print(log(mpf(8) / 3 * exp(-x)
    - 2 * exp(-2 * x) + exp(-4 * x) / 3))" prints -10.01918327334232031029392803265...
    """
    found = exponential_log_tail(np.array([1.0, 0.5, 0.25]), 9.25)
    assert found.log_p == pytest.approx(-10.019183273342320310293928032653, rel=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 50, 100_000])
@pytest.mark.parametrize("weight", [1.0, 1e-5, 300.0])
def test_equal_weights_are_a_gamma_law(n: int, weight: float) -> None:
    for z in (-0.9, -0.1, 0.0, 0.3, 3.0, 40.0, 1e4):
        s = z * math.sqrt(n)
        exact = float(log_tails(Exponential(), np.array([n + s]), np.array([n]))[0])
        found = exponential_log_tail(np.full(n, weight), s * weight)
        assert found.log_p == pytest.approx(exact, rel=1e-12)
        assert found.error < 1e-9 * max(1.0, -exact)


@pytest.mark.parametrize("n", [1, 4, 1000])
def test_negative_weights_are_a_gamma_law_from_below(n: int) -> None:
    for share in (0.999, 0.5, 0.01):
        found = exponential_log_tail(-np.ones(n), n * (1 - share))
        with mpmath.workdps(50):
            exact = float(mpmath.log(mpmath.gammainc(n, 0, mpmath.mpf(n - n * (1 - share)),
                                                     regularized=True)))  # fmt: skip
        assert found.log_p == pytest.approx(exact, rel=1e-11)


def test_two_keys_of_many_tokens_agree_with_an_integral() -> None:
    """0.9 Gamma(n) + 0.1 Gamma(n): the inner tail in closed form, the outer sum by quadrature."""
    n, s = 30_000, 1_000.0
    x = np.linspace(n - 2_500, n + 2_500, 40_001)
    log_density = (n - 1) * np.log(x) - x - math.lgamma(n)
    inner = gammaincc(n, (s + n - 0.1 * x) / 0.9)
    exact = math.log(float(np.trapezoid(np.exp(log_density) * inner, x)))
    weights = np.repeat([0.9, 0.1], n)
    # Scipy's incomplete gamma function is good for nine digits here.
    assert exponential_log_tail(weights, s).log_p == pytest.approx(exact, rel=1e-8)


def test_below_the_mean_tiny_misses_of_one_are_kept() -> None:
    found = exponential_log_tail(np.ones(100), -80.0)
    assert found.log_p == pytest.approx(-float(gammainc(100, 20.0)), rel=1e-9)
    assert -1e-25 < found.log_p < 0


@pytest.mark.parametrize(
    ("weights", "s"), [([-1.0, -0.5], 1.5), ([-1.0, -0.5], 9.0), ([1.0, 0.5], -1.6), ([1.0], -1.0)]
)
def test_what_cannot_or_must_happen_is_left_to_the_caller(weights: list[float], s: float) -> None:
    assert exponential_log_tail(np.array(weights), s).error == math.inf


_WEIGHTS = st.lists(
    st.floats(-1e6, 1e6).filter(lambda w: abs(w) > 1e-6), min_size=1, max_size=40
).map(np.array)


@given(weights=_WEIGHTS, z=st.floats(-5, 300))
@settings(max_examples=300, deadline=None)
def test_inverted_tails_stay_below_the_ceiling_and_fall(
    weights: NDArray[np.float64], z: float
) -> None:
    scale = float(np.sqrt(weights @ weights))
    found = weighted_tail(Exponential(), weights, z * scale)
    assert found.log10_p <= found.log10_p_ceiling <= 0
    here, there = (exponential_log_tail(weights, x * scale) for x in (z, z + 0.1))
    if math.isfinite(here.error) and z >= 0:
        assert here.log_p / math.log(10) <= found.log10_p_ceiling + 1e-9
    if math.isfinite(there.error) and math.isfinite(here.error):
        assert there.log_p <= here.log_p + here.error + there.error


@given(weights=_WEIGHTS, z=st.floats(-5, 300))
@settings(max_examples=100, deadline=None)
def test_both_tails_make_one(weights: NDArray[np.float64], z: float) -> None:
    s = z * float(np.sqrt(weights @ weights))
    above, below = exponential_log_tail(weights, s), exponential_log_tail(-weights, -s)
    if math.isfinite(above.error) and math.isfinite(below.error):
        assert math.exp(above.log_p) + math.exp(below.log_p) == pytest.approx(1.0, abs=1e-10)


@given(s=st.floats(1e-3, 100), log_ratio=st.floats(-30, 30))
@settings(max_examples=100, deadline=None)
def test_two_weights_of_any_ratio(s: float, log_ratio: float) -> None:
    weights = np.array([1.0, -math.exp(log_ratio)])
    found = exponential_log_tail(weights, s)
    x = s + float(weights.sum())
    if x >= 0:
        _agree(found, -x - math.log1p(math.exp(log_ratio)))


@pytest.mark.parametrize("n", [3, 20])
def test_p_is_uniform_under_the_null(n: int) -> None:
    """Every rate within five binomial standard errors (a false alarm once in 1e5)."""
    rng, runs = np.random.default_rng(n), 1_000
    weights = rng.pareto(1.5, n) * rng.choice([-1, 1], n)
    sums = (rng.exponential(size=(runs, n)) - 1) @ weights
    p = np.array([weighted_tail(Exponential(), weights, s).p_value for s in sums.tolist()])
    for level in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95):
        assert abs((p <= level).mean() - level) < 5 * math.sqrt(level * (1 - level) / runs)


def test_an_inaccurate_or_impossible_inversion_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.array([1.0, 0.4, -0.3])
    good = weighted_tail(Exponential(), weights, 5.0)
    assert good.method == "inversion"
    ln_p, ceiling = good.log10_p * math.log(10), good.log10_p_ceiling * math.log(10)
    bad = (Inverted(ln_p, 1e-6), Inverted(ceiling + 0.1, 1e-15), Inverted(math.nan, math.inf))
    for result in bad:
        monkeypatch.setattr(weighted_module, "exponential_log_tail", lambda w, s, r=result: r)
        found = weighted_tail(Exponential(), weights, 5.0)
        assert found.method == "saddlepoint"
        assert found.log10_p_ceiling == good.log10_p_ceiling
        assert found.log10_p == pytest.approx(good.log10_p, abs=0.05)
