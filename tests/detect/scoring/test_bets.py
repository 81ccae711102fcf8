"""Bets: by hand, against closed forms, and uniform p-values under fresh keys."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from detect.decoys import decoy_keys, decoy_statistics
from detect.scoring.alternatives import chosen_with
from detect.scoring.bets import MULTIPLES, Bets, BetScorer, log_factors, moving, place_bets
from detect.scoring.cells import cell_bounds, cell_of
from detect.scoring.score_tables import cell_ratios
from detect.tails.convolution import convolution_log_tails
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel

SCHEMES: list[Scheme] = [Gumbel(), DualGumbel(alpha=0.1)]
STEP = 1 / 128


def _stake(index: int) -> float:
    return math.copysign(0.9 * 2 ** (-(abs(index) - 1) / 2), index)


def _scorer(scheme: Scheme, n: int, seed: int = 0) -> BetScorer:
    """Bets such as two models give that disagree a little everywhere and a lot here and there."""
    rng = np.random.default_rng(seed)
    likely = rng.beta(0.1, 1, n)
    gained = rng.normal(0, 0.05, n) * (1 + 40 * (rng.random(n) < 0.05))
    bets = place_bets(gained, likely)
    return BetScorer(scheme, bets.only(bets.stakes != 0))


def test_bets_by_hand() -> None:
    gained = np.array([4.5, 9.0, 0.01, 1e-4, 0.0, -0.01, -9.0, -9.0])
    likely = np.array([0.25, 0.9, 0.0, 0.5, 0.5, 0.5, 0.25, 1 / 256])
    bets = place_bets(gained, likely)
    # p = 1/4, 1/2 (capped), 1/256 (floored), ...
    assert bets.levels.tolist() == [1, 0, 7, 0, 0, 0, 1, 7]
    # 0.2 * 4.5 = 0.9; capped at 0.9; 0.002 is nearest 0.9 / 2^(18 / 2); 2e-5 is too small.
    assert bets.stakes[:5].tolist() == [1, 1, 19, 0, 0]
    # A negative stake stops at 0.9 p: 0.9 / 4 is two doublings below 0.9, 0.9 / 256 eight.
    assert bets.stakes[5:].tolist() == [-19, -5, -17]


def test_stakes_grow_where_nothing_gained_much() -> None:
    """A faint student's bets are those of one that learned a hundred times as much, up to 0.3."""
    rng = np.random.default_rng(2)
    gained, likely = rng.normal(0, 0.3, 500), rng.uniform(0, 1, 500)
    faint, fainter = (place_bets(gained / scale, likely) for scale in (100, 10_000))
    assert np.array_equal(faint.stakes, fainter.stakes)
    sizes = np.abs(faint.stakes[faint.stakes > 0])
    assert 0.25 < _stake(int(sizes.min())) < 0.36
    # A strong one is left as it is.
    strong = place_bets(np.array([4.0, 0.5]), np.array([0.25, 0.25]))
    assert [_stake(i) for i in strong.stakes.tolist()] == pytest.approx([0.8, 0.1], rel=0.2)


def test_bets_that_no_word_can_move_do_not_count() -> None:
    """p = 1/2: the factor lies in 1 +- a, and half a step is 0.0039."""
    bets = Bets(np.array([0, 0, 0, 7]), np.array([0, 20, 1, 20]))
    assert moving(Gumbel(), bets).tolist() == [False, False, True, True]
    assert moving(Gumbel(), Bets(np.empty(0, np.int64), np.empty(0, np.int64))).tolist() == []


@given(
    st.lists(
        st.tuples(
            st.floats(-1e6, 1e6), st.floats(0, 1)
        ),
        max_size=30,
    )
)  # fmt: skip
def test_no_bet_can_lose_everything(pairs: list[tuple[float, float]]) -> None:
    gained, likely = np.array(pairs, np.float64).reshape(-1, 2).T
    bets = place_bets(gained, likely)
    for level, index in zip(bets.levels.tolist(), bets.stakes.tolist(), strict=True):
        p = 2.0 ** -(level + 1)
        assert 1 / 256 <= p <= 1 / 2
        assert abs(index) <= 20
        if index:
            # The lowest factor: a word that was not chosen, or one that was, against the bet.
            assert min(1 - _stake(index), 1 + _stake(index) * (1 / p - 1)) > 0.09


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_factor_has_mean_one_under_the_null(scheme: Scheme) -> None:
    """Up to the lattice, which moves a factor by at most half a step: a sum is no e-value."""
    for part in _scorer(scheme, 4000).law.parts:
        mean = float(part.law.probabilities @ np.exp(part.law.values * part.law.step))
        assert abs(math.log(mean)) <= STEP / 2


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rows_of_bets_gain_nothing_under_the_null(scheme: Scheme) -> None:
    """Exact: the mean over all cells of words is 1, for rising and falling pairs of every level."""
    bounds = cell_bounds()
    one = bounds[:-1][np.diff(bounds) > 0].astype(np.uint32)
    shares = np.diff(bounds)[np.diff(bounds) > 0] / 2.0**32
    if scheme.n_streams == 1:
        words, chances = one[None], shares
    else:
        words = np.stack([np.repeat(one, len(one)), np.tile(one, len(one))])
        chances = np.outer(shares, shares).ravel()
    for likely in 2.0 ** -np.arange(0, 10):
        for gained in (-2.0, -0.01, 0.0, 0.3, 9.0):
            rows = np.full((words.shape[1], 1), gained), np.full((words.shape[1], 1), likely)
            factors = np.exp(log_factors(scheme, words[:, :, None], *rows))
            assert chances @ factors == pytest.approx(np.ones(len(MULTIPLES)), abs=1e-12)


def test_a_row_multiplies_its_factors() -> None:
    """By hand, one stream: p = 1/4, gains 0.5 and -0.1, the stake and a quarter of it."""
    words = np.array([[[4_294_000_000, 2_000_000_000]]], np.uint32)
    found = log_factors(Gumbel(), words, np.array([[0.5, -0.1]]), np.array([[0.25, 0.25]]))
    ratios = cell_ratios(Gumbel(), chosen_with(0.25))[0][cell_of(words[0, 0])]
    for multiple, column in ((1.0, MULTIPLES.index(1.0)), (0.25, MULTIPLES.index(0.25))):
        stakes = 0.2 * multiple * np.array([0.5, -0.1])
        assert found[0, column] == pytest.approx(np.log1p(stakes * (ratios - 1)).sum())


def test_one_bet_follows_its_closed_form() -> None:
    """Gumbel: the factor at u is 1 + a (u^(1/p - 1) / p - 1), within a cell and half a step."""
    u = np.array([0.05, 0.3, 0.9, 0.99, 0.99999])
    words = (u * 2**32).astype(np.uint32)[None]
    for level, index in ((0, 3), (2, 5), (7, 9), (1, -8)):
        bets = Bets(np.full(5, level), np.full(5, index))
        p, a = 2.0 ** -(level + 1), _stake(index)
        lower, upper = (
            np.log1p(a * (np.clip(u + side * (1 - u) / 4, 0, 1) ** (1 / p - 1) / p - 1))
            for side in (-1, 1)
        )
        # A cell spans at most a quarter of the distance to the end.
        found = BetScorer(Gumbel(), bets).score(words)
        assert (found >= np.minimum(lower, upper) - STEP).all()
        assert (found <= np.maximum(lower, upper) + STEP).all()


def test_the_tail_of_one_bet_is_that_of_its_word() -> None:
    """P(score >= s) for a rising score is the share of words in cells that reach s."""
    scorer = BetScorer(Gumbel(), Bets(np.array([3]), np.array([2])))
    word = np.array([[4_000_000_000]], np.uint32)
    s = float(scorer.score(word)[0])
    words = np.arange(0, 2**32, 1_000_003, dtype=np.uint64).astype(np.uint32)
    many = BetScorer(Gumbel(), Bets(np.full(len(words), 3), np.full(len(words), 2)))
    share = float((many.score(words[None]) >= s).mean())
    assert scorer.law.tail(s).p_value == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_several_keys_in_a_row_score_as_one_by_one(scheme: Scheme) -> None:
    scorer = _scorer(scheme, 300)
    n = len(scorer.bets.levels)
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, (scheme.n_streams, 3, n), np.uint32)
    together = scorer.score(words.reshape(scheme.n_streams, -1)).reshape(3, n)
    for key in range(3):
        assert np.array_equal(together[key], scorer.score(words[:, key]))
    assert np.array_equal(together / STEP, np.rint(together / STEP))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_innocent_bets_have_uniform_p_values(scheme: Scheme) -> None:
    """H0: 20,000 fresh keys; binomial at 1e-6 from one half down to 1e-3."""
    scorer, n_keys = _scorer(scheme, 2000), 20_000
    n = len(scorer.bets.levels)
    assert n > 800
    contexts, tokens = np.arange(2 * n).reshape(n, 2) % 5000, np.arange(n) % 700
    sums = decoy_statistics(scorer, decoy_keys(n_keys, 3), contexts, tokens)
    units = np.rint((sums + n * scorer.law.mean) / STEP).astype(np.int64)
    p = np.exp(convolution_log_tails(scorer.law.parts, units))
    for level in (0.5, 0.1, 0.01, 0.001):
        assert binomtest(int((p <= level).sum()), n_keys, level).pvalue > 1e-6


def test_words_that_follow_the_bets_are_found() -> None:
    """Tokens that were chosen with their p, among bets that say so: the words are Beta(1/p, 1)."""
    rng, n = np.random.default_rng(5), 400
    p = 2.0 ** -rng.integers(1, 9, n)
    bets = place_bets(np.full(n, 0.5), p)
    u = rng.random(n) ** p
    scorer = BetScorer(Gumbel(), bets)
    guilty = float(scorer.score((u * 2**32).astype(np.uint32)[None]).sum())
    innocent = float(scorer.score((rng.random(n) * 2**32).astype(np.uint32)[None]).sum())
    assert scorer.law.tail(guilty).log10_p < -50
    assert scorer.law.tail(innocent).log10_p > -4


@pytest.mark.parametrize(("gained", "likely"), [(np.nan, 0.5), (np.inf, 0.5), (0.1, np.nan)])
def test_what_is_not_finite_places_no_bet(gained: float, likely: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        place_bets(np.array([0.1, gained]), np.array([0.5, likely]))


def test_words_of_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="of 2 pairs"):
        BetScorer(Gumbel(), Bets(np.zeros(2, np.int64), np.ones(2, np.int64))).score(
            np.zeros((1, 3), np.uint32)
        )


def test_without_pairs_there_is_no_evidence() -> None:
    scorer = BetScorer(Gumbel(), place_bets(np.empty(0), np.empty(0)))
    assert scorer.law.tail(0.0).log10_p == 0
    assert len(scorer.score(np.empty((1, 0), np.uint32))) == 0
