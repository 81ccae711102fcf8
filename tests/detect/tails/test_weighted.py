"""Weighted sums: the saddlepoint against exact values, the ceiling against the truth."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.tails.nulls import log_tails
from detect.tails.weighted import weighted_tail
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits

mpmath.mp.dps = 60


def _hypoexponential_log10(rates: list[float], s: float) -> float:
    """Exact tail of sum w_i E_i with distinct positive w_i = 1 / rate (partial fractions)."""
    total = mpmath.mpf(0)
    for i, a in enumerate(rates):
        term = mpmath.exp(-mpmath.mpf(a) * s)
        for j, b in enumerate(rates):
            if j != i:
                term *= mpmath.mpf(b) / (mpmath.mpf(b) - mpmath.mpf(a))
        total += term
    return float(mpmath.log10(total))


@pytest.mark.parametrize("excess", [0.05, 1.0, 5.0, 30.0, 300.0, 3000.0])
def test_unit_weights_agree_with_the_exact_gamma_tail(excess: float) -> None:
    n = 80
    found = weighted_tail(Exponential(), np.ones(n), excess)
    exact = float(log_tails(Exponential(), np.array([n + excess]), np.array([n]))[0]) / math.log(10)
    assert found.log10_p == pytest.approx(exact, rel=1e-3)
    assert found.log10_p_ceiling >= exact


@pytest.mark.parametrize("s", [2.0, 10.0, 60.0, 700.0])
def test_distinct_weights_agree_with_partial_fractions(s: float) -> None:
    weights = np.array([1.0, 0.93, 0.81, 0.74, 0.66, 0.52, 0.4, 0.33, 0.2, 0.11])
    mean = float(weights.sum())
    exact = _hypoexponential_log10((1 / weights).tolist(), mean + s)
    found = weighted_tail(Exponential(), weights, s)
    # Ten terms only, one of which rules the far tail: the worst case for a saddlepoint.
    assert found.log10_p == pytest.approx(exact, rel=5e-3, abs=0.02)
    assert found.log10_p_ceiling >= exact


def test_mixed_signs_agree_with_simulation() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=60)
    sums = (rng.exponential(size=(400_000, 60)) - 1) @ weights
    for quantile in (0.1, 0.5, 0.9, 0.99, 0.9999):
        s = float(np.quantile(sums, quantile))
        found = weighted_tail(Exponential(), weights, s)
        truth = float((sums >= s).mean())
        # Six standard errors of the simulation, and a hundredth for the approximation.
        assert abs(found.p_value - truth) < 6 * (truth / len(sums)) ** 0.5 + 0.01 * truth
        assert 10**found.log10_p_ceiling > truth - 6 * (truth / len(sums)) ** 0.5


@pytest.mark.parametrize("law", [Bernoulli(0.3), Exponential(), LayeredBits((4, 2, 1))])
def test_the_ceiling_is_the_chernoff_bound_by_brute_force(law: Bernoulli | Exponential) -> None:
    weights = np.random.default_rng(1).normal(size=40)
    s = 3.0 * math.sqrt(law.variance * float((weights**2).sum()))
    reach = 0.999 * min(law.t_max, 40.0) / weights.max()
    grid = np.linspace(0, reach, 20_001)[1:]
    values = [
        float(np.sum(law.cumulants(weights * t).value - weights * t * law.mean) - t * s)
        for t in grid
    ]
    found = weighted_tail(law, weights, s)
    assert found.log10_p_ceiling * math.log(10) == pytest.approx(min(values), abs=1e-4)
    assert found.log10_p <= found.log10_p_ceiling


@given(
    weights=st.lists(st.floats(-5, 5).filter(lambda w: abs(w) > 1e-3), min_size=5, max_size=60),
    z=st.floats(-6, 200),
)
@settings(max_examples=200, deadline=None)
def test_tails_are_probabilities_and_fall(weights: list[float], z: float) -> None:
    w = np.array(weights)
    scale = float(np.sqrt((w**2).sum()))
    near, far = (weighted_tail(Exponential(), w, x * scale) for x in (z, z + 0.5))
    if w.max() > 0:
        assert far.log10_p <= near.log10_p + 1e-6
    for found in (near, far):
        assert found.log10_p <= found.log10_p_ceiling <= 0


def test_the_value_is_continuous_through_the_mean() -> None:
    weights = np.random.default_rng(2).normal(size=300)
    scale = float(np.sqrt((weights**2).sum()))
    points = np.linspace(-0.1, 0.1, 81)
    p = np.array([weighted_tail(Exponential(), weights, x * scale).p_value for x in points])
    assert (np.diff(p) < 0).all()
    assert np.abs(np.diff(p)).max() < 2 * np.abs(np.diff(p)).min()


def test_a_bounded_sum_cannot_pass_its_maximum() -> None:
    weights = np.array([1.0, 2.0, -1.5])
    largest = 0.5 * (1 + 2 + 1.5)
    # The truth at the maximum is 1/8; the ceiling must not fall below it.
    at = weighted_tail(Bernoulli(0.5), weights, largest)
    assert at.log10_p_ceiling >= math.log10(1 / 8) - 1e-6
    assert weighted_tail(Bernoulli(0.5), weights, largest * 1.5).log10_p_ceiling < -6


def test_nothing_to_weigh() -> None:
    nothing = weighted_tail(Exponential(), np.zeros(5), 0.0)
    assert (nothing.log10_p, nothing.log10_p_ceiling, nothing.method) == (0.0, 0.0, "none")
    for weights, s in ((np.array([1.0, np.nan]), 1.0), (np.ones(3), math.inf)):
        with pytest.raises(ValueError, match="finite"):
            weighted_tail(Exponential(), weights, s)


@pytest.mark.parametrize("law", [Bernoulli(0.3), Exponential(), LayeredBits((4, 2, 1))])
@pytest.mark.parametrize("weight", [0.1, 1 / 3, 1e-200, 1e200])
def test_equal_weights_are_exact(law: Bernoulli | Exponential | LayeredBits, weight: float) -> None:
    n, total = 50, round(50 * law.mean) + 9
    found = weighted_tail(law, np.full(n, weight), weight * (total - n * law.mean))
    exact = float(log_tails(law, np.array([float(total)]), np.array([n]))[0]) / math.log(10)
    assert found.method == "exact"
    assert found.log10_p == found.log10_p_ceiling == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("n", [3, 10, 30])
@pytest.mark.parametrize("z", [0.01, 0.5, 1, 3, 10, 100, 1e4])
def test_mixed_signs_agree_with_residues(n: int, z: float) -> None:
    """Positive sums of signed exponentials: residues at the positive weights."""
    weights = np.random.default_rng(n).normal(size=n)
    s = z * float(np.sqrt((weights**2).sum())) + max(-float(weights.sum()), 0.0)
    ws = [mpmath.mpf(w) for w in weights.tolist()]
    x = mpmath.mpf(s) + sum(ws)
    tail = mpmath.mpf(0)
    for a in (w for w in ws if w > 0):
        others = [a / (a - b) for b in ws if b != a]
        tail += mpmath.fprod(others) * mpmath.exp(-x / a)
    found, exact = weighted_tail(Exponential(), weights, s), float(mpmath.log10(tail))
    assert abs(found.log10_p - exact) < 0.04
    assert found.log10_p_ceiling >= exact


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_ceiling_holds_for_every_outcome_of_a_few_coins(p: float) -> None:
    weights = np.array([2.0, 1.0, 2.0, -1.0, 1.0, 0.7, 2.0, -0.3])
    sums, probabilities = np.zeros(1), np.ones(1)
    for w in weights:
        sums = np.concatenate([sums - w * p, sums + w * (1 - p)])
        probabilities = np.concatenate([probabilities * (1 - p), probabilities * p])
    for s in np.unique(sums.round(9)):
        exact = float(probabilities[sums >= s - 1e-7].sum())
        found = weighted_tail(Bernoulli(p), weights, float(s))
        assert found.log10_p_ceiling >= math.log10(exact) - 1e-7
        assert found.log10_p <= found.log10_p_ceiling


@pytest.mark.parametrize(("s", "ln_p"), [(-1e6, 0.0), (-1.5, 0.0), (1e9, -1e9), (1e20, -1e20)])
def test_extreme_statistics_end_the_search(s: float, ln_p: float) -> None:
    found = weighted_tail(Exponential(), np.array([1.0, 0.5]), s)
    assert found.log10_p * math.log(10) == pytest.approx(ln_p, rel=1e-6, abs=1e-9)


def test_scale_of_the_weights_does_not_matter() -> None:
    weights = np.array([1.0, 2.0, -0.5])
    plain = weighted_tail(Exponential(), weights, 4.0)
    for factor in (1e-200, 1e200):
        scaled = weighted_tail(Exponential(), weights * factor, 4.0 * factor)
        assert scaled.log10_p == pytest.approx(plain.log10_p, rel=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.1, 7 / 3])
@pytest.mark.parametrize("weights", [[1, 2, 3, 5, 5], [3, -1, 2, -4, 1, 1], [0.5, 1.5, 1.0, 2.0]])
def test_lattice_scores_under_commensurable_weights_are_exact(
    weights: list[float], scale: float
) -> None:
    """Every sum of a few weighted bits, against enumeration."""
    w = np.array(weights)
    outcomes = np.array(list(itertools.product([0, 1], repeat=len(w))))
    probability = 0.25 ** outcomes.sum(axis=1) * 0.75 ** (1 - outcomes).sum(axis=1)
    sums = outcomes @ w
    for s in np.unique(sums).tolist():
        exact = float(probability[sums >= s - 1e-9].sum())
        centred = (s - 0.25 * float(w.sum())) * scale
        found = weighted_tail(Bernoulli(0.25), w * scale, centred)
        assert found.method == "exact"
        assert found.log10_p == pytest.approx(math.log10(exact), abs=1e-9)
        assert found.log10_p_ceiling == found.log10_p


def test_tournament_scores_under_whole_weights_agree_with_the_lattice() -> None:
    """Weight 2 on all tokens equals bits of twice the weight; two implementations."""
    law, n = LayeredBits((3, 2, 1)), 40
    weights = np.append(np.full(n, 2.0), 1.0)
    mixed = weighted_tail(law, weights, 60.0).log10_p
    doubled = [
        float(log_tails(LayeredBits((6, 4, 2)), np.array([60.0 + 6 * n + 3 - g]), np.array([n]))[0])
        for g in _sums_of_bits((3, 2, 1))
    ]
    assert mixed == pytest.approx(math.log10(np.mean(np.exp(doubled))), rel=1e-9)


def _sums_of_bits(weights: tuple[int, ...]) -> list[int]:
    return [sum(g) for g in itertools.product(*((0, w) for w in weights))]


def test_many_different_weights_are_no_lattice() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 1, 300)
    assert weighted_tail(Bernoulli(0.25), weights, 20.0).method == "saddlepoint"
