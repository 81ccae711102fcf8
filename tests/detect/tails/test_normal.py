"""Sums of normal scores: their tail, the toll for the grid of words, uniform p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, ndtri
from scipy.stats import binomtest, kstest

from detect.decoys import decoy_keys, decoy_statistics
from detect.scoring.normal_scores import NormalScore
from detect.tails.weighted import weighted_tail
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.laws import LOWEST_SCORE

GUMBEL, DUAL = NormalScore(Gumbel()), NormalScore(DualGumbel(alpha=0.1))


@pytest.mark.parametrize(
    ("z", "log10_p"),
    # mpmath 1.3: mp.dps = 30; [mp.log10(mp.erfc(z / mp.sqrt(2)) / 2) for z in (0.5, 5, 20, 200)]
    [
        (0.5, -0.510691989265),
        (5.0, -6.542645672391),
        (20.0, -88.560095343076),
        (200.0, -8688.589768851563),
    ],
)
def test_the_tail_is_that_of_the_normal_law(z: float, log10_p: float) -> None:
    weights = np.array([3e-200, -4e-200])  # squares would vanish
    tail = weighted_tail(GUMBEL.law, weights, z * 5e-200)
    assert tail.log10_p == pytest.approx(log10_p, rel=1e-11)
    assert tail.method == "normal"
    assert tail.log10_p <= tail.log10_p_ceiling <= -0.2 * z * z + 1e-9


def _words_at_the_ends(n: int) -> np.ndarray:
    low = np.arange(n, dtype=np.uint64)
    return np.concatenate([low, (1 << 32) - 1 - low]).astype(np.uint32)


@pytest.mark.parametrize("t", [-20.0, -6.3, -3.0, -1.0, -0.1, 0.1, 1.0, 3.0, 6.3, 20.0])
def test_the_toll_covers_the_grid(t: float) -> None:
    """ln E e^(t s) over all 2^32 words of one key: both ends summed, midpoints between them."""
    n = 1 << 20
    ends = GUMBEL.score(_words_at_the_ends(n)[None])
    # Between the ends cells are so narrow that sampling one in 2^12 changes nothing.
    middle = np.arange(n, (1 << 32) - n, 1 << 12, dtype=np.uint64).astype(np.uint32)
    inside = GUMBEL.score(middle[None])
    log_mgf = np.logaddexp(
        logsumexp(t * ends), logsumexp(t * inside) + 12 * math.log(2)
    ) - 32 * math.log(2)
    bound = float(GUMBEL.law.cumulants(np.array([t])).value[0])
    assert log_mgf <= bound + 1e-5 * abs(t)
    if abs(t) <= 3:
        assert bound == pytest.approx(t * t / 2, abs=1e-3)


@pytest.mark.parametrize("scorer", [GUMBEL, DUAL], ids=["one key", "two keys"])
def test_scores_are_normal_and_bounded(scorer: NormalScore) -> None:
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, (scorer.n_streams, 200_000), np.uint64).astype(np.uint32)
    assert kstest(scorer.score(words), "norm").pvalue > 1e-6
    corners = np.array([[0, 2**32 - 1] * 2, [0, 0, 2**32 - 1, 2**32 - 1]], np.uint32)
    found = scorer.score(corners[: scorer.n_streams])
    assert found.min() == LOWEST_SCORE == ndtri(2.0**-33)
    assert np.isfinite(found).all()
    assert found.max() > 6


def test_p_values_of_uneven_weights_are_uniform() -> None:
    """H0 by construction: 20,000 fresh keys, weights of both signs, one of which rules."""
    rng = np.random.default_rng(2)
    pairs = rng.integers(0, 1000, (60, 3))
    weights = rng.normal(size=60) * rng.exponential(size=60) ** 3
    weights[0] = 30.0
    sums = decoy_statistics(DUAL, decoy_keys(20_000, 3), pairs[:, :2], pairs[:, 2], weights)
    tails = [weighted_tail(DUAL.law, weights, s) for s in sums.tolist()]
    p = np.array([tail.p_value for tail in tails])
    assert kstest(p, "uniform").pvalue > 1e-6
    for level in (0.1, 1e-2, 1e-3):
        assert binomtest(int((p <= level).sum()), len(p), level).pvalue > 1e-6
        assert np.mean([tail.log10_p_ceiling <= math.log10(level) for tail in tails]) <= level


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6).filter(lambda w: abs(w) > 1e-6), min_size=1, max_size=20),
    st.floats(-40, 40),
)
def test_no_value_is_above_its_ceiling(weights: list[float], z: float) -> None:
    w = np.array(weights)
    tail = weighted_tail(DUAL.law, w, z * float(np.sqrt(w @ w)))
    assert tail.log10_p <= tail.log10_p_ceiling <= 0
