"""The marked share from sums: closed forms, coverage, and what breaks if tokens are the units."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from detect.fraction.interval import Strength, Units, estimate_fraction, measure_strength
from watermark.errors import DocumentError

MEAN, TOKEN_VARIANCE, DOCUMENT_VARIANCE = 0.5, 1.6, 0.02
PLAIN = Strength(MEAN, 1.0, 0.0, 1e-4, 50)


def _marked(lengths: np.ndarray, rng: np.random.Generator) -> Units:
    """Normal sums, gamma-shaped document means, chi-square squares: the model, skewed."""
    shape = MEAN**2 / DOCUMENT_VARIANCE
    means = rng.gamma(shape, MEAN / shape, len(lengths))
    sums = lengths * means + rng.normal(size=len(lengths)) * np.sqrt(TOKEN_VARIANCE * lengths)
    inside = TOKEN_VARIANCE * rng.chisquare(lengths - 1)
    return Units(lengths, sums, inside + sums**2 / lengths)


def _corpus(lengths: np.ndarray, n_marked: int, rng: np.random.Generator) -> tuple[Units, float]:
    """Exponential null scores, and the true share of marked tokens."""
    marked = _marked(lengths[:n_marked], rng)
    sums = rng.gamma(lengths[n_marked:]) - lengths[n_marked:]
    units = Units(
        lengths, np.append(marked.sums, sums), np.append(marked.squares, np.zeros(len(sums)))
    )
    return units, float(lengths[:n_marked].sum() / lengths.sum())


def _lengths(n: int, rng: np.random.Generator, *, low: int = 50, high: int = 300) -> np.ndarray:
    return rng.integers(low, high, n)


def test_equal_variances_give_fieller_closed_form() -> None:
    """Fieller 1954: roots of (m^2 - t^2 v_m) x^2 - 2 m y x + y^2 - t^2 v_y = 0."""
    corpus = Units(np.array([400, 600]), np.array([60.0, 90.0]), np.zeros(2))
    exact = replace(PLAIN, n_documents=10**9)
    found = estimate_fraction(corpus, exact, null_variance=1.0, level=0.9)
    t = norm.ppf(0.95)
    a, b, c = MEAN**2 - t * t * 1e-4, MEAN * 0.15, 0.15**2 - t * t / 1000
    root = math.sqrt(b * b - a * c)
    assert found == pytest.approx((0.3, (b - root) / a, (b + root) / a, 0.9), rel=1e-7)


def test_few_reference_documents_widen_only_what_they_measure() -> None:
    """At a share of 0 the variance is known: the normal quantile, however small the reference."""
    corpus = Units(np.array([1000]), np.zeros(1), np.zeros(1))
    few = replace(PLAIN, n_documents=3, error_variance=1e-6)
    found = estimate_fraction(corpus, few, null_variance=1.0, level=0.95)
    assert found.low == pytest.approx(-norm.ppf(0.975) / MEAN / math.sqrt(1000), rel=1e-3)
    full = Units(np.array([1000]), np.array([1000 * MEAN]), np.zeros(1))
    wide = estimate_fraction(full, replace(few, error_variance=1e-4), null_variance=1.0, level=0.95)
    assert wide.high - 1 > 3 * math.sqrt(1 / 1000 + 1e-4) / MEAN


def test_the_interval_is_not_clipped() -> None:
    below = Units(np.array([1000]), np.array([-100.0]), np.zeros(1))
    above = Units(np.array([1000]), np.array([1500.0]), np.zeros(1))
    low = estimate_fraction(below, PLAIN, null_variance=1.0, level=0.95)
    high = estimate_fraction(above, PLAIN, null_variance=1.0, level=0.95)
    assert low.low < low.estimate == -0.2 < low.high < 0
    assert 1 < high.low < high.estimate == 3.0 < high.high


def test_only_share_times_strength_is_known() -> None:
    corpus = Units(np.array([1000]), np.array([200.0]), np.zeros(1))
    weak = estimate_fraction(corpus, PLAIN, null_variance=1.0, level=0.95)
    strong = estimate_fraction(corpus, replace(PLAIN, mean=1.0), null_variance=1.0, level=0.95)
    assert weak.estimate == 2 * strong.estimate


def test_strength_is_unbiased() -> None:
    """Means over 4,000 references of 30 unequal documents; false alarm 1e-5 (4.4 sigma)."""
    rng = np.random.default_rng(0)
    found = [measure_strength(_marked(_lengths(30, rng), rng)) for _ in range(4000)]
    rows = np.array([[s.mean, s.token_variance, s.document_variance] for s in found])
    error = rows.std(axis=0) / math.sqrt(len(rows))
    truth = np.array([MEAN, TOKEN_VARIANCE, DOCUMENT_VARIANCE])
    assert (np.abs(rows.mean(axis=0) - truth) < 4.4 * error).all()


def _hits(
    n_marked: int, *, n_runs: int, reference_high: int = 300, tokens_independent: bool = False
) -> int:
    rng, hits = np.random.default_rng(n_marked), 0
    for _ in range(n_runs):
        strength = measure_strength(_marked(_lengths(60, rng, high=reference_high), rng))
        if tokens_independent:
            n = TOKEN_VARIANCE / strength.token_variance / (60 * 175)
            strength = replace(strength, document_variance=0.0, error_variance=n)
        corpus, truth = _corpus(_lengths(200, rng), n_marked, rng)
        found = estimate_fraction(corpus, strength, null_variance=1.0, level=0.95)
        hits += found.low <= truth <= found.high
    return hits


@pytest.mark.parametrize("n_marked", [0, 2, 40, 200])
def test_intervals_cover(n_marked: int) -> None:
    """0, 1, 20, 100 % of 200 documents: 93 to 97 % is 3.2 sigma at 1,200 runs; seeds are fixed."""
    assert 0.93 < _hits(n_marked, n_runs=1200) / 1200 < 0.97


def test_a_reference_of_short_documents_serves_long_ones() -> None:
    assert 0.93 < _hits(200, n_runs=600, reference_high=100) / 600 < 0.975


def test_tokens_as_units_would_claim_too_much() -> None:
    """Broken on purpose: without a variance between documents 95 % intervals cover far less."""
    assert _hits(200, n_runs=300, tokens_independent=True) / 300 < 0.8


def test_a_weak_reference_gives_no_interval() -> None:
    corpus = Units(np.array([1000]), np.array([200.0]), np.zeros(1))
    weak = replace(PLAIN, error_variance=0.1)
    with pytest.raises(DocumentError, match="not clearly above 0"):
        estimate_fraction(corpus, weak, null_variance=1.0, level=0.95)
    with pytest.raises(DocumentError, match="at least 2 reference documents"):
        measure_strength(corpus)


def test_bad_arguments_are_refused() -> None:
    corpus, none = Units(np.array([9]), np.zeros(1), np.zeros(1)), np.zeros(0)
    with pytest.raises(ValueError, match="level"):
        estimate_fraction(corpus, PLAIN, null_variance=1.0, level=1.0)
    with pytest.raises(ValueError, match="empty"):
        estimate_fraction(
            Units(none.astype(np.int64), none, none), PLAIN, null_variance=1.0, level=0.9
        )
    with pytest.raises(ValueError, match="leave it out"):
        Units(np.array([0]), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="same length"):
        Units(np.array([1]), np.zeros(2), np.zeros(1))
