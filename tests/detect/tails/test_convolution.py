"""Convolutions of tables: against exact rational arithmetic, scipy, and each other."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from detect.tails.convolution import MAX_LENGTH, Part, convolution_log_tails, window_length
from detect.tails.mixed_sums import mixed_tail
from detect.tails.nulls import log_tails, tail
from watermark.schemes.laws import Bernoulli, LayeredBits, Tabulated


def _law(values: list[int], masses: list[int], step: float = 1.0) -> Tabulated:
    total = sum(masses)
    return Tabulated(step, np.array(values), np.array([m / total for m in masses]))


def _exact_tails(parts: list[tuple[list[int], list[int], int]]) -> dict[int, Fraction]:
    """P(S >= s) at every value of the sum, in rational arithmetic."""
    law = {0: Fraction(1)}
    for values, masses, n in parts:
        for _ in range(n):
            new: dict[int, Fraction] = {}
            for s, p in law.items():
                for v, m in zip(values, masses, strict=True):
                    new[s + v] = new.get(s + v, Fraction(0)) + p * Fraction(m, sum(masses))
            law = new
    tails, total = {}, Fraction(0)
    for s in sorted(law, reverse=True):
        total += law[s]
        tails[s] = total
    return tails


def _ln(p: Fraction) -> float:
    return math.log(p.numerator) - math.log(p.denominator)


SKEWED = ([-3, -1, 0, 2, 40], [50, 30, 15, 4, 1])
COARSE = ([-4, 0, 6], [10, 80, 10])


@pytest.mark.parametrize(
    "parts",
    [[(*SKEWED, 1)], [(*SKEWED, 9)], [(*SKEWED, 12), (*COARSE, 15)], [(*COARSE, 40)]],
    ids=["one score", "nine", "two laws", "a coarse lattice"],
)
def test_every_tail_equals_rational_arithmetic(
    parts: list[tuple[list[int], list[int], int]],
) -> None:
    exact = _exact_tails(parts)
    statistics = np.array(sorted(exact))
    found = convolution_log_tails([Part(_law(v, m), n) for v, m, n in parts], statistics)
    expected = np.array([_ln(exact[s]) for s in statistics.tolist()])
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_between_the_sums_that_occur_the_tail_is_that_of_the_next_sum() -> None:
    law = _law([-4, 0, 6], [10, 80, 10])
    odd = convolution_log_tails([Part(law, 5)], np.array([1, 2, 6, 7]))
    assert odd[0] == pytest.approx(odd[1], abs=1e-12)
    assert odd[3] < odd[2]


@pytest.mark.parametrize("n", [1, 30, 1000, 100_000])
def test_bernoulli_tables_agree_with_scipy(n: int) -> None:
    s = np.unique(np.linspace(0, n, 40).astype(np.int64))
    expected = binom.logsf(s - 1, n, 0.25)
    found = convolution_log_tails([Part(_law([0, 1], [3, 1]), n)], s)
    held = np.isfinite(expected) & (expected > -700)
    assert held.sum() >= min(n, 10)
    assert found[held] == pytest.approx(expected[held], rel=1e-9, abs=1e-9)


def test_far_tails_agree_with_the_lattice_of_bits() -> None:
    """Two implementations of one law, down to 1e-600."""
    bits = LayeredBits((3, 2, 1))
    table = _law(list(range(7)), [1, 1, 1, 2, 1, 1, 1])
    n, s = 2000, np.array([5000, 6500, 8000, 9500, 11_000, 11_900], np.float64)
    sizes = np.full(len(s), n)
    assert log_tails(table, s, sizes) == pytest.approx(log_tails(bits, s, sizes), rel=1e-9)
    assert log_tails(table, s[-1:], sizes[-1:])[0] < -600 * math.log(10)


def test_the_ends_of_the_range() -> None:
    law = _law([-2, 3], [1, 1])
    part = Part(law, 10)
    found = convolution_log_tails([part], np.array([-21, -20, 30, 31]))
    assert found[0] == found[1] == 0.0
    assert found[2] == pytest.approx(10 * math.log(0.5))
    assert found[3] == -math.inf


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
    st.integers(1, 40),
    st.integers(0, 2**31),
)
def test_tails_fall_and_are_probabilities(masses: list[int], n: int, seed: int) -> None:
    values = np.sort(np.random.default_rng(seed).choice(np.arange(-50, 80), len(masses), False))
    part = Part(_law(values.tolist(), masses), n)
    statistics = np.arange(n * values[0] - 2, n * values[-1] + 3)
    found = convolution_log_tails([part], statistics)
    assert (found <= 0).all()
    assert (np.diff(found[np.isfinite(found)]) <= 1e-9).all()
    assert np.isfinite(found).sum() == n * (values[-1] - values[0]) + 3


def test_p_values_are_uniform_under_the_null_where_lattice_sums_can_be() -> None:
    """P(p <= alpha) is the largest attainable level below alpha: never above, seldom far below."""
    rng = np.random.default_rng(5)
    law = _law([-5, -1, 0, 3, 17], [30, 30, 25, 10, 5])
    sums = rng.choice(law.values, (40_000, 60), p=law.probabilities).sum(axis=1)
    p = np.exp(convolution_log_tails([Part(law, 60)], sums))
    for alpha in (0.5, 0.1, 0.01, 0.001):
        error = (alpha * (1 - alpha) / len(p)) ** 0.5
        assert alpha * 0.9 - 5 * error <= (p <= alpha).mean() <= alpha + 5 * error


def test_sums_too_long_for_the_convolution_get_a_rigorous_ceiling() -> None:
    law = _law([0, 3000], [3, 1], step=0.5)
    n, gamma = 4_000_000, 0.25
    assert window_length([Part(law, n)]) > MAX_LENGTH
    successes = int(gamma * n + 12 * (n * gamma * (1 - gamma)) ** 0.5)
    found = mixed_tail([Part(law, n)], 3000 * successes)
    exact = tail(Bernoulli(gamma), successes, n).log10_p
    assert found.method == "saddlepoint"
    assert found.log10_p == pytest.approx(exact, rel=1e-3)
    assert exact <= found.log10_p_ceiling <= exact + 2


def test_nothing_scored_is_no_evidence() -> None:
    assert mixed_tail([], 5).method == "none"
    assert mixed_tail([Part(_law([0, 1], [1, 1]), 0)], 5).log10_p == 0.0


def test_gaps_between_values_make_no_tail_too_small() -> None:
    """Next to 0 nothing of the law is above what a transform loses: there is a gap, and then 3."""
    part = Part(Tabulated(1.0, np.array([-1, 0, 3]), np.array([9e-25, 1.0, 7e-22])), 7)
    found = convolution_log_tails([part], np.arange(-7, 4))
    # Seven scores, one of which is 3 and the others 0: alike for 1, 2 and 3.
    exact = math.log(7 * 7e-22)
    assert (found[-3:] >= exact - 1e-9).all()
    for s in (1, 2, 3):
        (alone,) = convolution_log_tails([part], np.array([s]))
        # In a gap the bound is not tight.
        assert exact - 1e-9 <= alone < exact + 0.2
