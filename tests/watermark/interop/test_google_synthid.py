"""Google's SynthID-Text since 2025-06: frozen g-values, its weak hash, and the exact null."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from detect.finding import Plan, null_tail
from detect.results import Verdict
from detect.text import assess_tokens
from tests.detect.synthetic import marked_ids
from tests.watermark.interop.synthid_marks import (
    bits_of,
    deployment,
    fresh_key,
    g_values,
    marked_pairs,
    rows_of,
)
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop.google_synthid import GoogleSynthID
from watermark.interop.synthid_hash import MULTIPLIER, hash_contexts
from watermark.kernels import numba_synthid
from watermark.keys import EngineKey, SecretKey
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament
from watermark.tokens import TextTokenizer
from watermark.word_sources import Pairs

SOURCE = GoogleSynthID()
SCHEME = Tournament(30)
KEY = fresh_key(SOURCE, 41)


@pytest.mark.parametrize("row", rows_of("google_synthid"))
def test_frozen_g_values(row: dict) -> None:
    key = EngineKey([int(k) for k in row["keys"]])
    source = GoogleSynthID(len(row["keys"]))
    found = g_values(source, key, np.array(row["token_ids"]), row["ngram_len"])
    assert ["".join(map(str, r)) for r in found.tolist()] == row["g_values"]


def test_compiled_words_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    states = rng.integers(0, 2**64 - 1, 12_000, np.uint64, True)
    key = SOURCE.key_of(KEY)
    hashes = np.zeros((1, 1), np.uint64)
    # A state is (hash + token) a + 1: solved for the hash of a token 0.
    hashes = ((states - np.uint64(1)) * np.uint64(pow(int(MULTIPLIER), -1, 1 << 64)))[:, None]
    tokens = np.zeros(12_000, np.int64)
    compiled = SOURCE.words(key, hashes, tokens, 0)
    by_numpy = [SOURCE.words(key, hashes[i : i + 3000], tokens[:3000], 0) for i in
                range(0, 12_000, 3000)]  # fmt: skip
    assert (compiled == np.concatenate(by_numpy)).all()
    totals = numba_synthid.totals(states, key)
    assert (totals == bits_of(compiled, 30).sum(axis=0)).all()


def _correlation(difference: int) -> float:
    """Of the g-values of two pairs whose hashes differ by this, over 2,000,000 random keys."""
    rng = np.random.default_rng(3)
    states = rng.integers(0, 2**64 - 1, 2_000_000, np.uint64, True)
    key = np.zeros(1, np.uint64)
    one = numba_synthid.words(states, key) >> 31
    other = numba_synthid.words(states + np.uint64(difference % 2**64), key) >> 31
    return 2 * float((one == other).mean()) - 1


def test_twelve_rounds_leave_pairs_correlated() -> None:
    """Numbers of the module's docstring; the estimates have a deviation of 0.0007."""
    neighbours = int(MULTIPLIER)  # The same context, tokens t and t + 1: one times a.
    assert _correlation(1 << 63) == pytest.approx(-0.284, abs=0.005)
    assert _correlation(neighbours) == pytest.approx(0.023, abs=0.005)
    random = [_correlation(int(d)) for d in np.random.default_rng(4).integers(1, 2**62, 12)]
    assert 0.01 < np.std(random) < 0.06


def _structured(kind: str, n: int) -> Pairs:
    rng = np.random.default_rng(5)
    contexts, tokens = rng.integers(0, 49_152, (n, 4)), rng.integers(0, 49_152, n)
    if kind == "one context":
        contexts[:], tokens = contexts[0], np.arange(n)
    if kind == "one token differs":
        contexts[:], tokens[:] = contexts[0], 7
        contexts[:, 3] = np.arange(n)
    return Pairs(contexts, tokens)


@pytest.mark.parametrize(
    ("kind", "ratio"), [("random", 1.0), ("one context", 0.78), ("one token differs", 0.75)]
)
def test_sums_do_not_vary_like_fair_bits(kind: str, ratio: float) -> None:
    """The variance over 16,000 layer keys, divided by n / 4; deviation of the estimate 0.011."""
    layers = SOURCE.layers(SOURCE.key_of(KEY), _structured(kind, 2000), 1)
    assert layers.totals.var() / 500 == pytest.approx(ratio, abs=0.06)


def test_layers_hold_the_layers_own_totals() -> None:
    pairs, key = _structured("random", 50), SOURCE.key_of(KEY)
    words = SOURCE.words(key, SOURCE.context_hashes(key, pairs.contexts), pairs.tokens, 0)
    layers = SOURCE.layers(key, pairs, 9)
    assert (layers.totals[layers.same] == bits_of(words, 30).sum(axis=0)).all()
    assert len(layers.totals) == 30 + 16_384
    again, other = SOURCE.layers(key, pairs, 9), SOURCE.layers(key, pairs, 10)
    assert (again.totals == layers.totals).all()
    assert (other.totals != layers.totals).any()
    twice = np.array([*key[:29], key[0]])
    assert len(np.unique(SOURCE.layers(twice, pairs, 9).same)) == 29


@pytest.mark.parametrize("kind", ["random", "one context", "one token differs"])
def test_p_values_are_uniform_whatever_the_pairs(kind: str) -> None:
    """Fresh keys on pairs that the hash correlates (KS; false-alarm rate 1e-6)."""
    pairs = _structured(kind, 300)
    p = []
    for seed in range(60):
        key = fresh_key(SOURCE, seed)
        plan, under = Plan(deployment(SOURCE), key, 1e-6, 0.3, 0, 0), SOURCE.under(key)
        words = under.words(under.context_hashes(pairs.contexts), pairs.tokens)
        p.append(null_tail(plan, *pairs, float(SCHEME.score(words[None]).sum())).p_value)
    assert kstest(p, "uniform").pvalue > 1e-6


def test_marked_pairs_are_found_and_no_deeper_than_the_draws_allow() -> None:
    contexts, tokens, scores = marked_pairs(SOURCE, KEY, 5_000, rounds=4, seed=1)
    plan = Plan(deployment(SOURCE), KEY, 1e-6, 0.3, 0, 0)
    found = null_tail(plan, contexts, tokens, float(scores.sum()))
    n = 30 + 20_000_000 // 5_000
    assert -30 * math.log10(n) <= found.log10_p < -30


def test_marked_text_is_found(tokenizer: TextTokenizer) -> None:
    config, secret = deployment(SOURCE), SecretKey(bytes(range(32)))
    for seed in range(3):
        ids = marked_ids(config, secret, 200, vocabulary=tokenizer.vocab_size, seed=seed)
        found = assess_tokens(ids, tokenizer=tokenizer, config=config, key=secret, n_decoys=99)
        assert found.finding.tail.log10_p < -6
        assert found.finding.verdict is Verdict.SIGNAL
        other = SecretKey(bytes(32))
        wrong = assess_tokens(ids, tokenizer=tokenizer, config=config, key=other)
        assert wrong.finding.tail.p_value > 1e-4


def test_derived_keys_are_drawn_like_the_others() -> None:
    """All 63 bits are used: else layer keys drawn for the null would be of another kind."""
    keys = np.concatenate([SOURCE.key_of(SecretKey(bytes([i] * 32))) for i in range(30)])
    assert int(keys.max()) < 1 << 63
    assert 0.45 < np.mean(keys >= 1 << 62) < 0.55


def test_the_hash_begins_at_the_whole_key() -> None:
    key = SOURCE.fresh_keys(1, 1)[0]
    one = SOURCE.context_hashes(key, np.zeros((1, 4), np.int64))
    key[29] += np.uint64(1)
    assert SOURCE.context_hashes(key, np.zeros((1, 4), np.int64)) != one
    assert one != hash_contexts(1, np.zeros((1, 4), np.int64))


def test_bad_parameters_and_other_schemes_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 32"):
        GoogleSynthID(33)
    with pytest.raises(ConfigError, match="only the scheme tournament"):
        WatermarkConfig(Gumbel(), 4, source=SOURCE)
    with pytest.raises(ConfigError, match="same n_layers"):
        WatermarkConfig(Tournament(9), 4, source=SOURCE)
