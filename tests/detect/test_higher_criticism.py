"""Higher criticism: its exact null, its monotonicity, and the sparse marks that it finds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from detect.higher_criticism import higher_criticism, log_crossing
from detect.tails.nulls import log_tails
from watermark.schemes.laws import Bernoulli


def _exact_crossing(statistic: float, n: int) -> float:
    """1 - n! times the volume of {b_i < u_i < u_(i+1) < 1}, by polynomials over the rationals."""
    polynomial = [Fraction(1)]
    for bound in _latest_times(statistic, n):
        integral = [Fraction(0), *(c / (k + 1) for k, c in enumerate(polynomial))]
        integral[0] = -sum((c * bound**k for k, c in enumerate(integral)), Fraction(0))
        polynomial = integral
    return float(1 - math.factorial(n) * sum(polynomial))


def _latest_times(statistic: float, n: int) -> list[Fraction]:
    """By bisection: the latest t in [1/n, 1/2] where count i reaches the boundary, or 0."""

    def crosses(i: int, t: float) -> bool:
        return i - n * t >= statistic * math.sqrt(n * t * (1 - t)) * (1 - 1e-12)

    times = []
    for i in range(1, n + 1):
        low, high = 1 / n, 0.5
        if not crosses(i, low):
            times.append(Fraction(0))
            continue
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if crosses(i, middle) else (low, middle)
        times.append(Fraction(0.5 if crosses(i, 0.5) else low))
    return times


@pytest.mark.parametrize("n", [2, 3, 7, 25])
@pytest.mark.parametrize("statistic", [0.2, 1.0, math.sqrt(2), 2.2, 3.5])
def test_the_null_is_exact(n: int, statistic: float) -> None:
    found = math.exp(log_crossing(statistic, n))
    assert found == pytest.approx(_exact_crossing(statistic, n), rel=1e-8, abs=1e-15)


def test_two_p_values_by_hand() -> None:
    """Only t = 1/2 is looked at, and both must lie below it: probability 1/4."""
    assert higher_criticism(np.log10([0.5, 0.1])).log10_p == pytest.approx(math.log10(0.25))
    assert higher_criticism(np.log10([0.6, 0.1])).log10_p == 0.0
    assert log_crossing(1.5, 2) == -math.inf


def test_the_count_at_one_over_n_dominates_deep_tails() -> None:
    """With n = 1000 and statistic 30 some 31 of 1000 must lie below 0.001: binomial, alone."""
    limit = math.ceil(1 + 30 * math.sqrt(0.999))
    alone = binom.logsf(limit - 1, 1000, 0.001)
    assert alone <= log_crossing(30.0, 1000) < alone + math.log(5)


@pytest.mark.parametrize("n", [10, 60])
def test_p_values_are_uniform_under_the_null(n: int) -> None:
    """2,500 runs; each rate within 4.4 binomial deviations (false alarm 1e-5)."""
    rng = np.random.default_rng(n)
    found = np.array([higher_criticism(np.log10(rng.random(n))).log10_p for _ in range(2500)])
    for alpha in (0.3, 0.1, 0.01):
        rate = (found <= math.log10(alpha)).mean()
        assert abs(rate - alpha) < 4.4 * math.sqrt(alpha * (1 - alpha) / 2500)


def test_discrete_p_values_are_conservative() -> None:
    """Binomial documents of 12 tokens: p-values are larger than uniform, and so is the test's."""
    rng, found = np.random.default_rng(3), []
    n = np.full(60, 12)
    for _ in range(1500):
        green = rng.binomial(12, 0.5, 60).astype(np.float64)
        log10_p = log_tails(Bernoulli(0.5), green, n) / math.log(10)
        found.append(higher_criticism(log10_p).log10_p)
    for alpha in (0.3, 0.1, 0.01):
        rate = (np.array(found) <= math.log10(alpha)).mean()
        assert rate < alpha + 4.4 * math.sqrt(alpha * (1 - alpha) / 1500)
    assert (np.array(found) <= math.log10(0.3)).mean() < 0.3


@given(
    st.lists(st.floats(1e-9, 1), min_size=2, max_size=30),
    st.integers(0, 29),
    st.floats(0, 1),
)
def test_a_smaller_p_value_never_lowers_the_statistic(
    p: list[float], index: int, factor: float
) -> None:
    """HC+ breaks this by skipping p-values below 1/n; then discrete laws would lack a bound."""
    before = higher_criticism(np.log10(p))
    smaller = np.log10(p)
    smaller[index % len(p)] -= 20 * factor
    after = higher_criticism(smaller)
    assert after.statistic >= before.statistic
    assert after.log10_p <= before.log10_p


def test_many_weak_documents_are_found_where_none_stands_out() -> None:
    rng = np.random.default_rng(1)
    log10_p = np.log10(rng.random(10_000))
    log10_p[:60] = np.log10(rng.random(60) * 2e-3)
    found = higher_criticism(log10_p)
    assert log10_p.min() + math.log10(10_000) > -2
    assert found.log10_p < -6
    assert 1e-4 <= found.threshold < 4e-3
    assert found.n_below > 3 * found.n_documents * found.threshold
    payload = found.to_dict()
    assert payload["n_below_expected"] == pytest.approx(10_000 * found.threshold)
    assert math.log10(payload["p_value"]) == pytest.approx(payload["log10_p"])


def test_impossible_scores_are_counted() -> None:
    assert higher_criticism(np.array([-math.inf, -0.01, -0.02, -0.1])).n_below >= 1


@pytest.mark.parametrize("bad", [[-1.0], [], [0.5, -1.0], [math.nan, -1.0]])
def test_bad_p_values_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="p-values"):
        higher_criticism(np.array(bad))
