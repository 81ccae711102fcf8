"""Bets gain nothing under the null: means over all words, exactly, and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.sequential.calibrators import (
    BetaMixture,
    Calibrator,
    Known,
    Layers,
    Likelihood,
    Mixture,
    Spectra,
    Tilts,
    default_calibrator,
    tilts_for,
)
from watermark.config import PRESETS
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

CELLS = 1 << 16
# One word of each of CELLS equal cells: its lowest and its highest.
LOWEST = np.arange(CELLS, dtype=np.uint32) << np.uint32(16)
HIGHEST = LOWEST + np.uint32((1 << 16) - 1)
NOTHING = Known()


def _mean_factors(calibrator: Calibrator, words: np.ndarray, known: Known = NOTHING) -> np.ndarray:
    mean: np.ndarray = np.exp(calibrator.summaries(words, known)).mean(axis=0)
    return mean


def _weighed(calibrator: Calibrator, words: np.ndarray, weight: float) -> np.ndarray:
    n = words.shape[1]
    return _mean_factors(calibrator, words, Known(np.full(n, weight), np.full(n, -1.3)))


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize(
    "calibrator",
    [tilts_for(Gumbel()), Spectra(0.0, (0.01, 0.3, 0.5, 0.6, 0.95)), Likelihood(0.0)],
    ids=lambda c: type(c).__name__,
)
def test_gumbel_bets_have_mean_one(calibrator: Calibrator, weight: float) -> None:
    """The bets rise with the word: lowest and highest of each cell enclose the mean of all."""
    below = _weighed(calibrator, LOWEST[None], weight)
    above = _weighed(calibrator, HIGHEST[None], weight)
    assert (below <= 1).all()
    assert (above >= 1 - 1e-6).all()
    # The steepest bet, t = 0.8, holds a tenth of its mass in the last cell.
    assert (below > 0.85).all()


@pytest.mark.parametrize("atoms", [2, 5, 10])
def test_the_mean_over_all_words_of_a_flat_spectrum_is_at_most_one(atoms: int) -> None:
    """Exact sums over the 2^32 words of k u^(k - 1), by Faulhaber's formula; 1 minus next to 0."""
    n, power = 1 << 32, atoms - 1
    total = Fraction(0)
    for k in range(power + 1):
        numerator, denominator = mpmath.bernfrac(k)
        term = Fraction(int(numerator), int(denominator)) * n ** (power + 1 - k)
        # B_1 = -1/2: the sum ends at n - 1.
        total += math.comb(power + 1, k) * term / (power + 1)
    mean = atoms * total / Fraction(n) ** atoms
    assert 1 - Fraction(atoms, n) < mean < 1


@given(st.integers(0, (1 << 32) - 2))
@settings(deadline=None)
def test_gumbel_bets_never_fall_with_the_word(word: int) -> None:
    """Hence their mean over words is a lower Riemann sum of an integral that is 1."""
    words = np.array([[word, word + 1]], np.uint32)
    known = Known(None, np.array([-2.0, -2.0]))
    for bets in (tilts_for(Gumbel()), Spectra(0.0, (0.01, 0.3, 0.6, 0.99)), Likelihood(0.0)):
        low, high = bets.summaries(words, known)
        assert (high >= low - 1e-15).all()


@given(st.integers(0, (1 << 32) - 1))
@settings(deadline=None)
def test_a_spectrum_is_the_density_of_marked_words(word: int) -> None:
    """sum_v u^(1/p_v - 1) for p = (0.4, 0.4, 0.2), by hand."""
    u = word / 2**32
    found = math.exp(
        Spectra(0.0, (0.4,), (0.5,)).summaries(np.array([[word]], np.uint32), NOTHING)[0, 0]
    )
    assert found == pytest.approx(0.5 + 0.5 * (2 * u**1.5 + u**4), rel=1e-12)


def test_likelihood_is_the_density_of_a_known_probability() -> None:
    words = np.array([[0, 1 << 31, (1 << 32) - 1]], np.uint32)
    log_probs = np.log([0.25, 0.25, 0.5])
    found = np.exp(Likelihood(0.0, (0.5,)).summaries(words, Known(None, log_probs)))[:, 0]
    u = words[0] / 2**32
    density = np.exp(-log_probs) * u ** (np.exp(-log_probs) - 1)
    assert found == pytest.approx(0.5 + 0.5 * density, rel=1e-9)
    # Neither certainty nor the impossible breaks it.
    extreme = Likelihood(0.1).summaries(
        np.stack([words[0]] * 2), Known(None, np.array([0.0, -800, 1e-9]))
    )
    assert np.isfinite(extreme).all()
    assert extreme[0] == pytest.approx(0.0)
    with pytest.raises(ValueError, match="reference model"):
        Likelihood(0.0).summaries(words, NOTHING)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_dual_key_bets_have_mean_one(alpha: float) -> None:
    """The grid of 512 x 512 cells' lowest words; each stream's means are those above."""
    axis = np.arange(512, dtype=np.uint32) << np.uint32(23)
    low = np.stack([a.ravel() for a in np.meshgrid(axis, axis)])
    high = low + np.uint32((1 << 23) - 1)
    for calibrator in (tilts_for(DualGumbel(alpha)), Spectra(alpha, (0.2, 0.7)), Likelihood(alpha)):
        assert (_weighed(calibrator, low, 1.0) <= 1).all()
        assert (_weighed(calibrator, high, 1.0) >= 1 - 1e-6).all()


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_bit_bets_have_mean_one(weight: float) -> None:
    """Exact: every word of eight layers; both colours with their probabilities."""
    words = np.arange(256, dtype=np.uint32)[None] << np.uint32(24)
    scheme = Tournament(n_layers=8)
    for calibrator in (tilts_for(scheme), Layers(8)):
        assert _weighed(calibrator, words, weight) == pytest.approx(1.0, rel=1e-12)
    red_green = RedGreen(gamma=0.25)
    green = red_green.law.probability
    assert 0.2499 < green < 0.2501
    pair = np.array([[0, (1 << 32) - 1]], np.uint32)
    known = Known(np.full(2, weight))
    factors = np.exp(tilts_for(red_green).summaries(pair, known))
    assert green * factors[0] + (1 - green) * factors[1] == pytest.approx(1.0, rel=1e-12)


def test_beta_mixture_against_quadrature() -> None:
    """ln E for gamma = 1/4, n = 60, S = 25; and where doubles would underflow.

    python -c "from mpmath import *; mp.dps=30; g=mpf(1)/4; print(log(quad(lambda x:
    x**25*(1-x)**35, [g, .4, 1])/((1-g)*g**25*(1-g)**35)))"
    """
    bets = BetaMixture(RedGreen(gamma=0.25))
    found = bets.log_e(np.array([[25.0]]), np.array([60]))
    assert found[0] == pytest.approx(2.412687, abs=1e-6)
    deep = bets.log_e(np.array([[90_000.0], [0.0]]), np.array([100_000, 100_000]))
    entropy = 90_000 * math.log(0.9 / 0.25) + 10_000 * math.log(0.1 / 0.75)
    # Laplace: ln of the width sqrt(2 pi theta (1 - theta) / n) over the prior's 3/4.
    width = math.log(math.sqrt(2 * math.pi * 0.09 / 1e5) / 0.75)
    assert deep[0] == pytest.approx(entropy + width, abs=1e-3)
    # All red: the mass of the prior just above gamma is all that is left, 1 / n of it.
    assert deep[1] == pytest.approx(-math.log(100_001), abs=1e-3)


def test_beta_mixture_is_a_martingale() -> None:
    """E_n = gamma E_n+1(green) + (1 - gamma) E_n+1(red), for every count."""
    bets, gamma = BetaMixture(RedGreen(gamma=0.25)), RedGreen(gamma=0.25).law.probability
    n = 40
    s = np.arange(n + 1.0)[:, None]
    now = np.exp(bets.log_e(s, np.full(n + 1, n)))
    green, red = (np.exp(bets.log_e(s + g, np.full(n + 1, n + 1))) for g in (1, 0))
    assert gamma * green + (1 - gamma) * red == pytest.approx(now, rel=1e-9)
    assert bets.log_e(np.array([[0.0]]), np.array([0])) == pytest.approx([0.0], abs=1e-12)
    with pytest.raises(ValueError, match="takes no weights"):
        bets.summaries(np.zeros((1, 2), np.uint32), Known(np.ones(2)))
    with pytest.raises(TypeError, match="Bernoulli"):
        BetaMixture(Gumbel())


def test_tilts_lie_where_the_law_says() -> None:
    """Exponential: the mean under tilt t is 1 / (1 - t), so that t = effect / (1 + effect)."""
    assert tilts_for(Gumbel(), (0.5, 1.0, 4.0)).tilts == pytest.approx((1 / 3, 1 / 2, 4 / 5))
    # Fair bits: effect = 2 theta - 1, t = the log odds; an effect of 1 needs t = infinity.
    found = tilts_for(RedGreen(gamma=0.5), (0.2, 0.8, 1.0, 2.0)).tilts
    assert found == pytest.approx((math.log(0.6 / 0.4), math.log(0.9 / 0.1)))


def test_a_mixture_is_the_mean_of_its_parts() -> None:
    words = np.random.default_rng(1).integers(0, 1 << 32, (1, 50), np.uint32, False)
    parts = (tilts_for(RedGreen()), BetaMixture(RedGreen()), Tilts(RedGreen(), (0.3,)))
    counts = np.arange(1, 51)
    each = [p.log_e(np.cumsum(p.summaries(words, NOTHING), axis=0), counts) for p in parts]
    mixed = Mixture(parts)
    totals = np.cumsum(mixed.summaries(words, NOTHING), axis=0)
    assert totals.shape[1] == mixed.n_totals == sum(p.n_totals for p in parts)
    assert mixed.log_e(totals, counts) == pytest.approx(np.log(np.mean(np.exp(each), axis=0)))


@pytest.mark.parametrize("name", PRESETS)
def test_defaults_are_functions_of_the_scheme_alone(name: str) -> None:
    scheme = PRESETS[name].scheme
    assert default_calibrator(scheme) == default_calibrator(scheme)
    assert default_calibrator(scheme).n_totals < 64
