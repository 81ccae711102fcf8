"""P-values of passages by draws: never below the tail, and far below Markov's bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import rel_entr

from detect.decoys import decoy_keys
from detect.scoring.cells import cell_bounds
from detect.tracing.texts import passage_draws
from detect.tracing.texts.passage_draws import drawn_log_ratios, log_p_values
from detect.tracing.texts.passages import (
    PassageTable,
    forward_log_ratios,
    log_ratios,
    passage_table,
    prior_of,
)
from watermark.config import preset
from watermark.word_sources import Pairs

_Floats = NDArray[np.float64]


def _table() -> PassageTable:
    table = passage_table(preset("gumbel").scheme)
    assert table is not None
    return table


def _null(n_pairs: int, n_keys: int) -> _Floats:
    rng = np.random.default_rng(n_pairs)
    pairs = Pairs(rng.integers(0, 50_000, (n_pairs, 2)), rng.integers(0, 50_000, n_pairs))
    return log_ratios(_table(), decoy_keys(n_keys, 5), pairs)


def _every_text(n_pairs: int) -> tuple[_Floats, _Floats]:
    """ln of the ratio of every text of one or two pairs, and its probability under H0."""
    table, mass = _table(), np.diff(cell_bounds()) / cell_bounds()[-1]
    cells = np.arange(len(mass))
    texts = np.stack(np.meshgrid(*[cells] * n_pairs, indexing="ij")).reshape(n_pairs, -1)
    ratios = [table.ratios[row] for row in texts]
    logs = forward_log_ratios(ratios, texts.shape[1], prior_of(n_pairs))
    return logs, mass[texts].prod(axis=0)


@pytest.mark.parametrize("n_draws", [3, 100, 4000])
@pytest.mark.parametrize("n_pairs", [1, 2])
def test_no_p_value_is_below_the_tail(
    n_pairs: int, n_draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All texts are added up: exact, and by 12 sets of draws each fails once in 10^9."""
    monkeypatch.setattr(passage_draws, "_MOST", n_draws)
    monkeypatch.setattr(passage_draws, "_LEAST", n_draws)
    logs, mass = _every_text(n_pairs)
    order = np.argsort(-logs, kind="stable")
    logs, tails = logs[order], np.cumsum(mass[order])
    # Of equal ratios the whole tail.
    last = np.searchsorted(-logs, -logs, side="right") - 1
    for seed in range(12):
        monkeypatch.setattr(passage_draws, "_SEED", seed)
        found = log_p_values(_table(), logs, n_pairs)
        assert (np.exp(found) >= tails[last] * (1 - 1e-9)).all()


def test_few_draws_bound_what_their_mean_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean itself, without Hoeffding's allowance, is below the tail for some draws."""
    monkeypatch.setattr(passage_draws, "_largest_mean", lambda mean, entropy: max(mean, 1e-300))
    with pytest.raises(AssertionError):
        test_no_p_value_is_below_the_tail(2, 100, monkeypatch)


def test_a_p_value_is_near_the_tail() -> None:
    """Beside the share of 200,000 keys under the null."""
    logs = _null(40, 200_000)
    for level in (10.0, 100.0, 1000.0):
        p = math.exp(log_p_values(_table(), np.array([math.log(level)]), 40)[0])
        assert float((logs >= math.log(level)).mean()) <= p < 0.2 / level


def test_a_p_value_is_never_above_markovs_bound() -> None:
    logs = np.array([-3.0, 0.0, 0.01, 5.0, 25.0, 1e4])
    for n in (1, 40, 200, 20_000):
        found = log_p_values(_table(), logs, n)
        assert (found <= -logs + 1e-12).all()
        assert (np.diff(found) <= 0).all()
        assert found[-1] == -1e4


@given(st.floats(0, 1), st.floats(1e-6, 5))
def test_the_largest_mean_is_where_the_entropy_is_spent(mean: float, entropy: float) -> None:
    m = passage_draws._largest_mean(mean, entropy)
    assert mean <= m <= 1
    if m < 1 - 1e-9:
        spent = float(rel_entr(mean, m) + rel_entr(1 - mean, 1 - m))
        assert spent >= entropy * (1 - 1e-6) - 1e-12


def test_draws_have_the_ratio_as_their_density() -> None:
    """The mean of 1 / ratio under the alternative is 1, and of the same length only."""
    drawn = drawn_log_ratios(_table(), 30, 20_000, 1)
    weights = np.exp(-drawn)
    assert weights.mean() == pytest.approx(1, abs=6 * weights.std() / math.sqrt(20_000))
    assert np.array_equal(drawn, drawn_log_ratios(_table(), 30, 20_000, 1))
