"""Weighted bets on rows of words: exact means, and scales that look at no later row."""

from __future__ import annotations

import numpy as np
import pytest

from detect.sequential.weighted_rows import EFFECTS, log_bets, log_e_of_rows, row_scales
from watermark.config import preset
from watermark.schemes.red_green import RedGreen


def test_scales_look_at_rows_so_far() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(9, 4))
    changed = weights.copy()
    changed[5:] *= 100
    scheme = preset("tournament").scheme
    before, after = row_scales(scheme, weights), row_scales(scheme, changed)
    assert before.shape == (9, 2 * len(EFFECTS))
    assert np.array_equal(before[:5], after[:5])
    assert not np.array_equal(before[5:], after[5:])
    # Whatever the unit of the weights, the bets are the same.
    assert np.allclose(row_scales(scheme, 1e3 * weights) * 1e3, before)


def test_the_mean_of_a_factor_is_1_to_rounding() -> None:
    """Red-green, two tokens: all four outcomes, summed."""
    scheme = RedGreen(gamma=0.25, delta=2.0)
    weights = np.tile([0.7, -0.4], (4, 1))
    words = np.array([[[0, 0], [0, 2**31], [2**31, 0], [2**31, 2**31]]], np.uint32)
    scales = np.repeat(row_scales(scheme, weights)[:1], 4, axis=0)
    chances = np.array([1 / 16, 3 / 16, 3 / 16, 9 / 16])
    means = chances @ np.exp(log_bets(scheme, words, weights, scales))
    assert means == pytest.approx(np.ones(len(means)), abs=1e-12)


@pytest.mark.parametrize("name", ["red-green", "tournament"])
def test_simulated_factors_gain_nothing(name: str) -> None:
    """100,000 rows; the mean of each factor within 5 standard errors of 1."""
    scheme, n = preset(name).scheme, 100_000
    rng = np.random.default_rng(1)
    weights = np.tile([0.5, -0.3, 0.05], (n, 1))
    words = rng.integers(0, 2**32, (scheme.n_streams, n, 3), dtype=np.uint32)
    scales = np.repeat(row_scales(scheme, weights[:1]), n, axis=0)
    factors = np.exp(log_bets(scheme, words, weights, scales))
    error = factors.std(axis=0) / n**0.5
    assert (np.abs(factors.mean(axis=0) - 1) < 5 * error).all()


def test_products_are_mixed() -> None:
    bets = np.log(np.array([[2.0, 0.5], [2.0, 0.5], [0.5, 2.0]]))
    assert np.exp(log_e_of_rows(bets)) == pytest.approx([1.25, 2.125, 1.25])
    assert log_e_of_rows(np.empty((0, 2))).shape == (0,)
