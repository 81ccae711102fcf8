"""Scores made for an alternative: their null laws are exact, their power is as promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad

from detect.scoring.alternatives import TYPICAL, Ensemble, chosen_with, minimax
from detect.scoring.cells import cell_bounds
from detect.scoring.reference_scores import ReferenceScorer, levels_of, reference_tables
from detect.scoring.score_tables import ScoreTable, score_table
from watermark.errors import ConfigError, DocumentError
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen

SCHEMES = [Gumbel(), DualGumbel(0.1)]


def _words(rng: np.random.Generator, n_streams: int, n: int) -> NDArray[np.uint32]:
    return rng.integers(0, 1 << 32, (n_streams, n), np.uint32)


@given(st.floats(1e-6, 1.0))
def test_cell_ratios_are_a_density_of_null_mean_one(p: float) -> None:
    bounds = cell_bounds()
    ratios = chosen_with(p).cell_ratios(bounds)
    assert float(ratios @ (np.diff(bounds) / 2**32)) == pytest.approx(1.0, rel=1e-9)
    assert (ratios >= 0).all()


def test_cell_ratios_are_means_of_the_density() -> None:
    """Against adaptive quadrature of (1/p) u^(1/p - 1) over cells."""
    bounds, p = cell_bounds(), 0.07
    ratios = chosen_with(p).cell_ratios(bounds)
    for cell in (90, 118, 130, 160, 200):
        a, b = bounds[cell] / 2**32, bounds[cell + 1] / 2**32
        expected = quad(lambda u: u ** (1 / p - 1) / p, a, b, epsabs=0)[0] / (b - a)
        assert ratios[cell] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("delta", [0.001, 0.01, 0.1, 0.4, 0.5, 0.7])
def test_minimax_ensemble_is_the_published_score(delta: float) -> None:
    """Its density is floor(1/(1-d)) u^(d/(1-d)) + u^(d'/(1-d')), d' = (1-d) floor(1/(1-d))."""
    ensemble, u = minimax(delta), np.array([0.2, 0.9, 0.999])
    density = sum(
        share / p * u ** (1 / p - 1)
        for p, share in zip(ensemble.probabilities, ensemble.shares, strict=True)
    )
    count = math.floor(1 / (1 - delta))
    d = (1 - delta) * count
    published = count * u ** (delta / (1 - delta))
    if d < 1:
        published = published + u ** (d / (1 - d))
    assert density == pytest.approx(published, rel=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize("share", [0.05, 0.95])
@pytest.mark.parametrize("alternative", [TYPICAL, minimax(0.01), chosen_with(0.02)])
def test_the_law_is_that_of_uniform_words(
    scheme: Scheme, share: float, alternative: Ensemble
) -> None:
    table = score_table(scheme, alternative, marked_share=share)
    units = table.units_of(_words(np.random.default_rng(1), table.n_streams, 200_000))
    found = np.bincount(units - table.law.values[0], minlength=1)
    expected = np.zeros(int(table.law.values[-1] - table.law.values[0]) + 1)
    expected[table.law.values - table.law.values[0]] = table.law.probabilities
    expected *= len(units)
    common = expected > 20
    found = np.pad(found, (0, len(expected) - len(found)))
    deviates = (found[common] - expected[common]) / np.sqrt(expected[common])
    # Largest of some hundred standardised counts; 6 is beyond any chance.
    assert np.abs(deviates).max() < 6
    assert not found[expected == 0].any()


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_the_exponential_of_the_score_has_null_mean_one(scheme: Scheme) -> None:
    """It is a likelihood ratio but for rounding to the lattice, at most half a step."""
    table = score_table(scheme, TYPICAL, marked_share=0.9)
    moment = float(table.law.cumulants(np.array(1.0)).value)
    assert abs(moment) <= table.law.step / 2


def test_small_shares_give_the_locally_best_score() -> None:
    """ln(1 + e (r - 1)) / e tends to r - 1."""
    scheme, bounds = Gumbel(), cell_bounds()
    table = score_table(scheme, TYPICAL, marked_share=1e-4)
    r = TYPICAL.cell_ratios(bounds)
    scores = table.units * table.law.step / 1e-4
    wide = np.diff(bounds) > 0
    slack = table.law.step / 1e-4
    assert scores[wide] == pytest.approx((r - 1)[wide], rel=0.06, abs=slack)


def test_scores_rise_with_the_word() -> None:
    table = score_table(Gumbel(), TYPICAL, marked_share=0.9)
    assert (np.diff(table.units[np.diff(cell_bounds()) > 0]) >= 0).all()


def _tokens(rng: np.random.Generator, n: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Marked words of tokens of typical probabilities, and these."""
    p = rng.choice(TYPICAL.probabilities, n, p=TYPICAL.shares)
    return np.minimum(rng.random(n) ** p * 2**32, 2**32 - 1).astype(np.uint32)[None], np.log(p)


def _log10_p(table: ScoreTable, words: NDArray[np.uint32]) -> float:
    from detect.tails.nulls import tail

    return tail(table.law, float(table.score(words).sum()), words.shape[1]).log10_p


def _known(words: NDArray[np.uint32], log_probs: NDArray[np.float64]) -> float:
    scorer = ReferenceScorer(reference_tables(Gumbel()), levels_of(log_probs))
    return scorer.law.tail(float(scorer.score(words).sum())).log10_p


def test_what_is_known_beforehand_pays() -> None:
    """On marked words: knowing p beats the typical mixture, which beats -ln(1 - u)."""
    from detect.tails.nulls import tail

    rng, found = np.random.default_rng(3), []
    for _ in range(40):
        words, log_probs = _tokens(rng, 60)
        plain = tail(Gumbel().law, float(Gumbel().score(words).sum()), 60).log10_p
        typical = _log10_p(score_table(Gumbel(), TYPICAL, marked_share=0.95), words)
        known = _known(words, log_probs)
        found.append((plain, typical, known))
    plain, typical, known = np.mean(found, axis=0)
    assert known < 1.2 * typical < 1.2 * plain < 0
    assert typical < 1.02 * plain


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_reference_p_values_are_uniform_under_the_null(scheme: Scheme) -> None:
    rng = np.random.default_rng(11)
    tables = reference_tables(scheme)
    levels = levels_of(-rng.exponential(2.0, 80))
    sums = [int(tables.units(_words(rng, scheme.n_streams, 80), levels).sum()) for _ in range(4000)]
    from detect.tails.convolution import convolution_log_tails

    p = np.exp(convolution_log_tails(tables.parts(levels), np.array(sums)))
    for alpha in (0.5, 0.1, 0.01):
        error = (alpha * (1 - alpha) / len(p)) ** 0.5
        assert abs((p <= alpha).mean() - alpha) < 4.5 * error + 0.02 * alpha


def test_levels_of_impossible_and_certain_tokens() -> None:
    levels = levels_of(np.array([0.0, -1.0, -np.inf]))
    assert levels.tolist() == [0, 4, 48]
    for wrong in (0.5, np.nan):
        with pytest.raises(DocumentError, match="log-probabilities"):
            levels_of(np.array([wrong]))


def test_other_schemes_are_sent_to_their_own_score() -> None:
    with pytest.raises(ConfigError, match="red-green is tested by its own score"):
        score_table(RedGreen(0.5, 2.0), TYPICAL, marked_share=0.9)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.001, 0.999))
def test_shares_outside_the_open_interval_are_refused(share: float) -> None:
    law = score_table(Gumbel(), TYPICAL, marked_share=share).law
    assert law.mean < law.step / 2
    for wrong in (0.0, 1.0, -share, 1 + share):
        with pytest.raises(ValueError, match="marked_share"):
            score_table(Gumbel(), TYPICAL, marked_share=wrong)
