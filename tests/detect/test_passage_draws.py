"""P-values of passages by draws: valid for any number of draws, and nearly exact for many."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from detect import passage_draws
from detect.decoys import decoy_keys
from detect.passage_draws import drawn_log_ratios, log_p_values
from detect.passages import PassageTable, log_ratios, passage_table
from watermark.config import preset
from watermark.word_sources import Pairs


def _table() -> PassageTable:
    table = passage_table(preset("gumbel").scheme)
    assert table is not None
    return table


def _null(n_pairs: int, n_keys: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rng = np.random.default_rng(n_pairs)
    pairs = Pairs(rng.integers(0, 50_000, (n_pairs, 2)), rng.integers(0, 50_000, n_pairs))
    return log_ratios(_table(), decoy_keys(n_keys, 5), pairs)


def test_p_values_are_valid_with_few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two draws, anew for each of 1,000 keys: P(p <= a) <= a; 1e-6 each to exceed by chance.

    Fails where the observed ratio is no term of its own.
    """
    monkeypatch.setattr(passage_draws, "_MOST", 2)
    monkeypatch.setattr(passage_draws, "_LEAST", 2)
    logs, found = _null(20, 1000), []
    for seed in range(1000):
        monkeypatch.setattr(passage_draws, "_SEED", seed)
        found.append(log_p_values(_table(), logs[seed : seed + 1], 20)[0])
    for level in (0.3, 0.1, 0.03, 0.01, 1e-3):
        assert (np.array(found) <= math.log(level)).sum() <= binom.ppf(1 - 1e-6, 1000, level)


@pytest.mark.parametrize("level", [10.0, 100.0])
def test_p_values_are_the_tail(level: float) -> None:
    """Beside the share of 400,000 keys under the null."""
    logs = _null(40, 400_000)
    p = math.exp(log_p_values(_table(), np.array([math.log(level)]), 40)[0])
    seen = float((logs >= math.log(level)).mean())
    assert seen == pytest.approx(p, rel=0.25)
    assert p < 0.2 / level


def test_a_p_value_is_never_above_markovs_bound() -> None:
    logs = np.array([-3.0, 0.0, 5.0, 25.0, 1e4])
    for n in (1, 40, 200):
        found = log_p_values(_table(), logs, n)
        assert (found <= -logs + 1e-12).all()
        assert (np.diff(found) <= 0).all()
        # One's own term alone is left where no draw goes.
        assert found[-1] == pytest.approx(-1e4 - math.log(4001))


def test_draws_have_the_ratio_as_their_density() -> None:
    """The mean of 1 / ratio under the alternative is 1, and of the same length only."""
    drawn = drawn_log_ratios(_table(), 30, 20_000, 1)
    weights = np.exp(-drawn)
    assert weights.mean() == pytest.approx(1, abs=6 * weights.std() / math.sqrt(20_000))
    assert np.array_equal(drawn, drawn_log_ratios(_table(), 30, 20_000, 1))
