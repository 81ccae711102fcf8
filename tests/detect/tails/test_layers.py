"""Layers that draw from the same totals: against counting, and uniform under random keys."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.tails.layers import independent_layers_tail, layers_tail
from watermark.word_sources import Layers

WEIGHTS = (5, 2, 2, 1)
TOTALS = np.array([3, 3, 4, 6, 6, 7, 11])


def _counted(choices: list[tuple[int, ...]], statistic: int) -> float:
    sums = [sum(w * t for w, t in zip(WEIGHTS, choice, strict=True)) for choice in choices]
    return float(np.mean(np.array(sums) >= statistic))


@pytest.mark.parametrize("statistic", range(28, 112, 3))
def test_independent_layers_equal_the_count_of_all_choices(statistic: int) -> None:
    choices = list(itertools.product(TOTALS.tolist(), repeat=4))
    found = independent_layers_tail(WEIGHTS, TOTALS, statistic)
    expected = _counted(choices, statistic)
    assert found.method == "exact"
    assert found.p_value == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("statistic", range(28, 112, 3))
def test_the_bound_holds_for_layers_with_different_keys(statistic: int) -> None:
    choices = list(itertools.permutations(TOTALS.tolist(), 4))
    layers = Layers(TOTALS, np.arange(4))
    found = layers_tail(WEIGHTS, layers, statistic)
    assert found.p_value >= _counted(choices, statistic) * (1 - 1e-9)
    one_by_one = independent_layers_tail(WEIGHTS, TOTALS, statistic).p_value
    assert found.p_value == pytest.approx(min(one_by_one / (6 * 5 * 4 / 7**3), 1), rel=1e-9)
    assert found.log10_p_ceiling == found.log10_p


@pytest.mark.parametrize("statistic", range(28, 112, 3))
def test_layers_of_equal_keys_move_together(statistic: int) -> None:
    """Broken, four layers of one key would be four pieces of evidence."""
    draws = list(itertools.product(TOTALS.tolist(), repeat=2))
    found = layers_tail(WEIGHTS, Layers(TOTALS, np.array([0, 1, 0, 0])), statistic)
    expected = _counted([(a, b, a, a) for a, b in draws], statistic) * 7 / 6
    assert found.p_value == pytest.approx(min(expected, 1), rel=1e-9, abs=1e-300)


def test_all_layers_at_an_outlier_are_as_rare_as_it_is() -> None:
    """The far tail in closed form: one of 65,536 keys, 30 times over."""
    totals = np.random.default_rng(1).binomial(20_000, 0.5, 65_536)
    totals[77] = 13_000
    weights = range(30, 0, -1)
    found = independent_layers_tail(list(weights), totals, 13_000 * sum(weights))
    assert found.log10_p == pytest.approx(-30 * math.log10(65_536), rel=1e-9)
    both = layers_tail(list(weights), Layers(totals, np.arange(30)), 13_000 * sum(weights))
    assert 0 < both.log10_p - found.log10_p < 0.003


def test_what_cannot_vary_is_no_evidence() -> None:
    """All classes met equally often: every key sums to the same."""
    assert layers_tail(WEIGHTS, Layers(np.full(9, 5), np.arange(4)), 50).p_value == 1


def test_sums_too_large_to_convolve_have_a_ceiling() -> None:
    rng = np.random.default_rng(2)
    totals = rng.normal(5e10, 3e6, 4096).astype(np.int64)
    weights = list(range(30, 0, -1))
    mean = totals.mean() * sum(weights)
    deviation = math.sqrt(sum(w * w for w in weights)) * totals.std()
    found = layers_tail(weights, Layers(totals, np.arange(30)), round(mean + 5 * deviation))
    assert found.method == "saddlepoint"
    # The normal tail at 5 is 2.9e-7 (R: pnorm(5, lower.tail = FALSE)); its Chernoff bound 3.7e-6.
    assert found.log10_p == pytest.approx(-6.5, abs=0.2)
    assert found.log10_p < found.log10_p_ceiling < found.log10_p + 1.4


def test_p_values_are_uniform_over_keys() -> None:
    """H0 by construction. False-alarm rate: 1e-6 for each of the levels (normal bound)."""
    rng = np.random.default_rng(3)
    totals = rng.binomial(40, 0.5, 512) + np.where(np.arange(512) % 97 == 0, 25, 0)
    weights = np.arange(8, 0, -1)
    drawn = np.array([rng.choice(512, 8, replace=False) for _ in range(20_000)])
    statistics = totals[drawn] @ weights
    seen, counts = np.unique(statistics, return_counts=True)
    layers = Layers(totals, np.arange(8))
    p = np.repeat([layers_tail(weights.tolist(), layers, int(s)).p_value for s in seen], counts)
    for level in (0.5, 0.1, 0.01, 1e-3):
        slack = 4.9 * math.sqrt(level * (1 - level) / len(p))
        assert np.mean(p <= level) <= level + slack
        # Not far below either: the factor is 1.056 here, and sums are discrete.
        assert np.mean(p <= level) >= level / 1.2 - slack


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=5, max_size=12), st.integers(0, 200))
def test_more_is_never_less_evidence(totals: list[int], statistic: int) -> None:
    layers = Layers(np.array(totals), np.arange(4))
    one, more = (layers_tail(WEIGHTS, layers, s) for s in (statistic, statistic + 1))
    assert more.log10_p <= one.log10_p + 1e-9
