"""Passages: the ratio is what it says, has mean 1 under the null, and finds what sums miss."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from detect.decoys import decoy_keys
from detect.scoring.cells import cell_bounds
from detect.scoring.scores import select_pairs
from detect.tracing.texts import passages
from detect.tracing.texts.passages import (
    PassageTable,
    Prior,
    forward_log_ratios,
    log_ratios,
    passage_table,
    prior_of,
)
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import ConfigError
from watermark.interop.sglang import SglangWords
from watermark.keys import SecretKey
from watermark.prf import NATIVE
from watermark.prf_reference import prf_word
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.word_sources import Pairs

SCHEMES = {"default": DualGumbel(alpha=0.1), "gumbel": Gumbel()}


def _table(name: str) -> PassageTable:
    table = passage_table(SCHEMES[name])
    assert table is not None
    return table


def _pairs(n: int, h: int, seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    return Pairs(rng.integers(0, 50_000, (n, h)), rng.integers(0, 50_000, n))


@pytest.mark.parametrize("name", list(SCHEMES))
def test_the_mean_of_a_ratio_is_at_most_one(name: str) -> None:
    """In whole numbers, over all 2^32 words of each stream; and hardly below."""
    ratios, widths = _table(name).ratios, np.diff(cell_bounds()).tolist()
    weights = np.array(widths, object)
    if ratios.ndim == 2:
        weights = np.outer(weights, weights)
    exact = sum(
        int(w) * Fraction(float(r))
        for w, r in zip(weights.reshape(-1), ratios.reshape(-1), strict=True)
        if w
    )
    mean = exact / Fraction(2) ** (32 * ratios.ndim)
    assert mean <= 1
    assert mean > 1 - Fraction(1, 10**6)
    assert ratios.min() > 0


@pytest.mark.parametrize("name", list(SCHEMES))
def test_the_ratio_adds_up_all_ways_in_which_passages_could_lie(name: str) -> None:
    """Word by word from the readable reference, path by path."""
    table, pairs, prior = _table(name), _pairs(7, 2, 1), prior_of(7)
    keys, bounds = decoy_keys(3, 1), cell_bounds()
    found = log_ratios(table, keys, pairs)
    for key, log_ratio in zip(keys.tolist(), found.tolist(), strict=True):
        inside = []
        for context, token in zip(*pairs, strict=True):
            words = [
                prf_word(*key, context.tolist(), int(token), s) for s in range(table.n_streams)
            ]
            cells = [int(np.searchsorted(bounds, word, side="right")) - 1 for word in words]
            inside.append(float(table.ratios[tuple(cells)]))
        total = sum(_weight(path, inside, prior) for path in product((0, 1), repeat=7))
        assert log_ratio == pytest.approx(math.log(total), abs=1e-12)


def _weight(path: tuple[int, ...], ratios: list[float], prior: Prior) -> float:
    moves = ((1 - prior.enter, prior.enter), (prior.leave, 1 - prior.leave))
    # The chain begins in its stationary state: one more step changes nothing.
    weight = prior.start if path[0] else 1 - prior.start
    for before, now in pairwise(path):
        weight *= moves[before][now]
    return weight * math.prod(r for r, now in zip(ratios, path, strict=True) if now)


@pytest.mark.parametrize("name", list(SCHEMES))
@pytest.mark.parametrize("n", [1, 63, 64, 200])
def test_the_kernel_has_the_bits_of_numpy(
    name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = _table(name)
    for h in (1, 2, 3):
        pairs, keys = _pairs(n, h, n), decoy_keys(300, h)
        monkeypatch.setattr(passages, "_COMPILE_FROM", 1 << 60)
        slow = log_ratios(table, keys, pairs)
        monkeypatch.setattr(passages, "_CHUNK_WORDS", 64 * n)
        assert np.array_equal(log_ratios(table, keys, pairs), slow)
        monkeypatch.setattr(passages, "_COMPILE_FROM", 0)
        assert np.array_equal(log_ratios(table, keys, pairs), slow)
        monkeypatch.setattr(passages, "_CALL_WORDS", 1)
        monkeypatch.setattr(passages, "_CALL_KEYS", 100)
        assert np.array_equal(log_ratios(table, keys, pairs), slow)


def test_long_marked_texts_neither_overflow_nor_forget() -> None:
    """A text with one key from end to end, and the same in the middle of others' words."""
    key = SecretKey(bytes(range(32)))
    ids = marked_ids(preset("default"), key, 1500, vocabulary=400, seed=1)
    chosen = select_pairs(ids, 2, drop_repeated_contexts=True)
    pairs, keys = Pairs(chosen.contexts, chosen.tokens), NATIVE.key_of(key)[None]
    found = log_ratios(_table("default"), np.concatenate([keys, decoy_keys(50, 3)]), pairs)
    assert found[0] > 800
    # Nobody's: only the price of having looked.
    assert (found[1:] < math.log(50 * 1e6)).all()
    assert (found[1:] > -20).all()


@pytest.mark.parametrize("n", [30, 300])
def test_ratios_of_nobody_are_as_rare_as_the_bound_says(n: int) -> None:
    """20,000 keys under the null: P(ratio >= x) <= 1 / x; 1e-6 each to be above by chance."""
    logs = log_ratios(_table("default"), decoy_keys(20_000, n), _pairs(n, 2, n))
    for x in (1, 3, 10, 100, 1000):
        assert (logs >= math.log(x)).sum() <= binom.ppf(1 - 1e-6, 20_000, 1 / x)
    # The mean of 1 lies in rarer and rarer large ratios as texts grow: of a short one it is seen.
    assert n > 30 or 0.8 < np.exp(logs).mean() < 1.2


def test_other_words_are_bet_on_as_well() -> None:
    source, pairs = SglangWords(), _pairs(40, 2, 1)
    keys, table = source.fresh_keys(5, 1), _table("gumbel")
    words = source.words_for_keys(keys, pairs.contexts, np.arange(40), pairs.tokens, 1)[:, 0]
    cells = np.searchsorted(cell_bounds(), words, side="right") - 1
    ratios: NDArray[np.float64] = table.ratios[cells].T
    expected = forward_log_ratios(ratios, 5, prior_of(40))
    assert log_ratios(table, keys, pairs, source).tolist() == expected.tolist()


def test_what_there_is_no_ratio_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert passage_table(RedGreen(gamma=0.5)) is None
    table, keys = _table("default"), decoy_keys(5, 1)
    assert log_ratios(table, keys, _pairs(0, 2, 0)).tolist() == [0.0] * 5
    assert log_ratios(table, keys[:0], _pairs(3, 2, 0)).tolist() == []
    for compile_from in (0, 1 << 60):
        monkeypatch.setattr(passages, "_COMPILE_FROM", compile_from)
        for wrong in (-1, 1 << 32):
            with pytest.raises(ConfigError, match="token ids"):
                log_ratios(table, keys, Pairs(np.array([[wrong, 1]]), np.array([2])))
            with pytest.raises(ConfigError, match="token ids"):
                log_ratios(table, keys, Pairs(np.array([[1, 1]]), np.array([wrong])))


def test_the_prior_depends_on_the_length_alone_and_is_stationary() -> None:
    for n in (1, 100, 10_000):
        start, enter, leave = prior_of(n)
        assert start * (1 - leave) + (1 - start) * enter == pytest.approx(start)
        assert 0 < enter <= 1 / 100
        assert leave == 1 / 40
    assert prior_of(8000).enter == 1 / 1000
