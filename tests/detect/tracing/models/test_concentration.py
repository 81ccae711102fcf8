"""One key's part of a signal: the bound, where it is sharp, and what would break it."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from detect.scoring.bets import BetScorer, place_bets
from detect.scoring.reference_scores import ReferenceScorer, reference_tables
from detect.scoring.scorers import choose_scorer
from detect.scoring.weighted_scores import WeightedScorer
from detect.tracing.models.concentration import Increments, share_at_least
from detect.tracing.models.pair_laws import PairLaws, pair_laws
from tests.detect.tracing.models.taught import CONFIG, heard, keys_of, taught_pairs
from watermark.schemes.gumbel import Gumbel


def _laws(n: int, low: float, high: float) -> PairLaws:
    ends = np.full(n, low), np.full(n, high)
    return PairLaws(np.zeros(n), np.full(n, -low * high), *ends)


def test_by_hand() -> None:
    laws = _laws(2, -1.0, 2.0)
    increments = Increments.of(np.array([[2.0, -1.0], [-1.0, 2.0], [-1.0, -1.0]]), laws, 0)
    level = 0.1
    # D = 1 - 1/2 (1 - 2) = 3/2; null variance 4 (1 + 2 / 4) = 6.
    assert increments.difference(0.5) == pytest.approx(1.5 / math.sqrt(6))
    expected = []
    for multiple in (0.25, 0.35, 0.5, 0.71, 1.0, 1.41):
        t = min(multiple * math.sqrt(2 * math.log(10) / 6), 0.95)
        # Own increments reach 1 below; the others', -v / 2, reach 1 as well.
        psi = -math.log(1 - t) - t
        expected.append(math.exp(1.5 * t - psi * (4 + 1 + (1 + 4 + 1 + 1) / 4)))
    assert increments.log_e(0.5, level) == pytest.approx(math.log(np.mean(expected)))


@pytest.mark.parametrize("odds", [1.0, 0.25, 3.0])
def test_the_e_value_has_mean_at_most_one_on_the_border_of_the_null(odds: float) -> None:
    # Scores -1, 0, 2 of null mean 0. Own ones shifted by m, the other key's by m / odds: exact
    # enumeration of two pairs under two keys, at a level whose rates are large.
    values, laws = np.array([-1.0, 0.0, 2.0]), _laws(2, -1.0, 2.0)

    def weights(mean: float) -> np.ndarray:
        return np.array([0.5 - mean / 3, 0.25, 0.25 + mean / 3])

    mean = min(0.4, 0.4 * odds)
    own, other = weights(mean), weights(mean / odds)
    total = 0.0
    for a, b, c, d in product(range(3), repeat=4):
        scores = np.array([[values[a], values[b]], [values[c], values[d]]])
        e = math.exp(Increments.of(scores, laws, 0).log_e(odds, 0.01))
        total += own[a] * own[b] * other[c] * other[d] * e
    assert 0.2 < total <= 1 + 1e-12


def _border(seed: int, n: int = 3000, keys: int = 4) -> tuple[np.ndarray, PairLaws]:
    """Half of the taught pairs are key 0's, the rest the other keys' in turn."""
    taught = np.where(np.arange(n) % 2, 0, 1 + np.arange(n) // 2 % (keys - 1))
    family = keys_of(keys, seed)
    scored = heard(taught_pairs(family, taught, follows=0.8, seed=seed)).under(family)
    return scored.weighted, scored.laws


def test_half_of_a_strong_signal_is_not_called_more_than_half() -> None:
    found = [Increments.of(*_border(seed), 0) for seed in range(100)]
    logs = np.array([increments.log10_p(1.0, 0.05) for increments in found])
    # 100 chances: 11 or more at 5 % have a probability of 0.01.
    assert (logs <= math.log10(0.05)).sum() < 11
    # The null is on its border, not far inside of it: half of the differences are positive.
    z = np.array([increments.difference(1.0) for increments in found])
    assert abs(z.mean()) < 4 * z.std() / math.sqrt(len(z))
    # And "at most 25 %" is false, and found false.
    assert np.mean([i.log10_p(1 / 3, 0.05) <= math.log10(0.05) for i in found]) > 0.9


def test_counting_pairs_twice_would_accuse_an_innocent() -> None:
    keys = keys_of(3, 1)
    worst = []
    for seed in range(12):
        pairs = taught_pairs(keys, np.full(200, -1), follows=0.0, seed=seed)
        scored = heard(pairs).under(keys)
        copies = np.tile(scored.weighted, 60)
        laws = PairLaws(*(np.tile(each, 60) for each in scored.laws))
        best = int(scored.centred.argmax())
        honest = Increments.of(scored.weighted, scored.laws, best).log10_p(1.0, 1e-6)
        broken = Increments.of(copies, laws, best).log10_p(1.0, 1e-6)
        worst.append((honest, broken))
    honest_logs, broken_logs = np.array(worst).T
    assert honest_logs.min() > -3
    assert broken_logs.min() < -6


def test_the_part_of_a_key_is_bounded_from_below() -> None:
    shares = [share_at_least(Increments.of(*_border(seed), 0), 0.05) for seed in range(8)]
    assert max(shares) < 0.5
    assert np.median(shares) > 0.2
    family = keys_of(4, 9)
    pairs = taught_pairs(family, np.zeros(3000, np.int64), follows=0.8, seed=9)
    alone = heard(pairs).under(family)
    assert share_at_least(Increments.of(alone.weighted, alone.laws, 0), 0.05) > 0.5
    quiet = heard(taught_pairs(family, np.full(600, -1), follows=0.0, seed=9)).under(family)
    assert share_at_least(Increments.of(quiet.weighted, quiet.laws, 0), 1e-3) == 0


def test_the_part_of_a_key_ends_where_rejection_first_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Rejected up to 20 %, and once more from 40 % to 70 %.
    def log10_p(self: Increments, odds: float, level: float) -> float:
        share = odds / (1 + odds)
        return -3.0 if share < 0.205 or 0.4 < share < 0.7 else -1.0

    monkeypatch.setattr(Increments, "log10_p", log10_p)
    scores, laws = _border(0, 100)
    assert share_at_least(Increments.of(scores, laws, 0), 0.01) == 0.2
    monkeypatch.setattr(Increments, "log10_p", lambda self, odds, level: -3.0)
    assert share_at_least(Increments.of(scores, laws, 0), 0.01) == 0.99


def test_more_than_everything_is_never_exceeded() -> None:
    scores, laws = _border(0)
    assert Increments.of(scores, laws, 0).log10_p(math.inf, 0.05) == 0.0


def test_the_laws_of_bets_and_weights_are_those_of_their_sums() -> None:
    rng = np.random.default_rng(0)
    bets = place_bets(rng.normal(size=500), rng.random(500))
    weak = choose_scorer(None, CONFIG.scheme, "inherited")
    for scorer in (
        BetScorer(CONFIG.scheme, bets.only(bets.stakes != 0)),
        WeightedScorer(weak, rng.integers(1, 5, size=500)),
        ReferenceScorer(
            reference_tables(CONFIG.scheme, 0.1, 1 / 256),
            rng.integers(0, 20, size=500),
            rng.integers(1, 5, size=500),
        ),
        weak,
    ):
        n = int((bets.stakes != 0).sum()) if isinstance(scorer, BetScorer) else 500
        laws = pair_laws(scorer, n)
        assert laws.mean.sum() == pytest.approx(n * scorer.law.mean, rel=1e-9, abs=1e-9)
        assert laws.variance.sum() == pytest.approx(n * scorer.law.variance, rel=1e-9)
        words = rng.integers(2**32, size=(scorer.n_streams, n), dtype=np.uint32)
        scores = scorer.score(words)
        assert (scores >= laws.low - 1e-9).all()
        assert (scores <= laws.high + 1e-9).all()


def test_scores_without_an_end_are_cut_where_their_mean_is_known() -> None:
    laws = pair_laws(Gumbel(), 1)
    values = np.minimum(np.random.default_rng(0).exponential(size=1_000_000), laws.high)
    assert laws.mean[0] == pytest.approx(values.mean(), abs=0.004)
    assert laws.variance[0] == pytest.approx(values.var(), abs=0.01)
