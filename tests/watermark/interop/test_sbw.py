"""SBW: frozen words of the package sbw, what its weak hashes may count, null and power."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, kstest

from detect.scoring.scores import score_pairs, select_pairs
from detect.segments.windows import place_pairs
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, FingerprintError
from watermark.interop import sbw
from watermark.interop.sbw import N_CELLS, Sbw, sbw_green_list
from watermark.keys import EngineKey
from watermark.schemes import Scheme
from watermark.schemes.green_list import GreenList
from watermark.schemes.red_green import RedGreen
from watermark.word_sources import Pairs

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sbw.json").read_text())
SOURCES = {name: Sbw(name) for name in ("lefthash", "selfhash")}
GREEN = sbw_green_list(0.25, 2.0)
WIDTHS = {"lefthash": 4, "selfhash": 3}
ids = st.integers(0, 2**20)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Sbw:
    return SOURCES[request.param]


def _config(source: Sbw) -> WatermarkConfig:
    return WatermarkConfig(GREEN, WIDTHS[source.seeding], source=source)


def _words(source: Sbw, key: int, context: list[int], tokens: list[int]) -> NDArray[np.uint32]:
    one = np.array([key % 2**64], np.uint64)
    hashes = source.context_hashes(one, np.array([context], np.int64))
    found: NDArray[np.uint32] = source.words(one, hashes, np.array([tokens]), 0)[0]
    return found


def test_words_of_sbw_itself() -> None:
    for row in VECTORS["rows"]:
        found = _words(SOURCES[row["seeding"]], row["key"], row["context"], VECTORS["tokens"])
        theirs = np.array(row["words"], np.uint32)
        assert (found >> 1 == theirs & 0x7FFFFFFF).all(), row
        assert (found & 1 == theirs >> 31).all(), row


@given(st.integers(0, N_CELLS - 1), st.integers(0, 1), st.floats(0.01, 0.99))
def test_green_is_sbws_comparison_of_integers(cell: int, bit: int, gamma: float) -> None:
    scheme = sbw_green_list(gamma, 2.0)
    words = np.array([[cell << 1 | bit]], np.uint32)
    assert scheme.score(words)[0] == (cell < int(gamma * 0x7FFFFFFF))


@settings(deadline=None)
@given(st.lists(ids, min_size=4, max_size=4), ids, st.integers(0, 2**64 - 1))
def test_equal_sums_are_one_context(context: list[int], token: int, key: int) -> None:
    turned = [context[2], context[0] + context[1], 0, context[3]]
    pairs = Pairs(np.array([context, turned]), np.array([token, token]))
    canonical = SOURCES["lefthash"].canonical(pairs)
    assert (canonical.contexts[0] == canonical.contexts[1]).all()
    words = [
        _words(SOURCES["lefthash"], key, c, [token])[0]
        for c in (context, turned, canonical.contexts[0].tolist())
    ]
    assert len(set(words)) == 1


@pytest.mark.parametrize("width", [1, 3, 4])
def test_compiled_words_are_the_same(
    source: Sbw, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(width)
    keys, tokens = source.fresh_keys(3, 5), rng.integers(0, 150_000, 200)
    contexts, at = rng.integers(0, 150_000, (50, width)), rng.integers(0, 50, 200)
    contexts[0] = 0
    many = source.words_for_keys(keys, contexts, at, tokens, 1)
    words = source.words(keys[0], source.context_hashes(keys[0], contexts)[at], tokens, 0)
    monkeypatch.setattr(sbw, "_COMPILE_FROM", 0)
    assert (source.words_for_keys(keys, contexts, at, tokens, 1) == many).all()
    hashes = source.context_hashes(keys[0], contexts)[at]
    assert (source.words(keys[0], hashes, tokens, 0) == words).all()
    assert (many[0, 0] == words).all()


def _log_p_values(
    source: Sbw, text: NDArray[np.int64], n_keys: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Randomised p-values, counts and the number of pairs of one text under fresh keys."""
    config = _config(source)
    chosen = select_pairs(text, config.context_width, drop_repeated_contexts=True, source=source)
    keys, n = source.fresh_keys(n_keys, 17), chosen.n_scored
    words = source.words_for_keys(keys, chosen.contexts, np.arange(n), chosen.tokens, 1)
    counts = config.scheme.score(words[:, 0].reshape(1, -1)).reshape(n_keys, n).sum(axis=1)
    above, at = binom.sf(counts, n, 0.25), binom.pmf(counts, n, 0.25)
    return above + np.random.default_rng(5).random(n_keys) * at, counts, n


def test_p_values_are_uniform_under_the_null(source: Sbw) -> None:
    """H0: text independent of the key. 4,000 keys on one repetitive text; false alarm 1e-3."""
    text = np.random.default_rng(3).integers(0, 150, 250) ** 2 // 100
    p_values, _, n = _log_p_values(source, text, 4_000)
    assert n > 60
    assert kstest(p_values, "uniform").pvalue > 1e-3
    assert (p_values < 1e-3).sum() <= 14  # Poisson(4): P(> 14) = 2e-5


def test_every_pair_of_a_token_would_accuse_the_innocent(monkeypatch: pytest.MonkeyPatch) -> None:
    """selfhash without `evidence`: pairs of one token share words, and the tail is far too thin."""
    monkeypatch.setattr(Sbw, "evidence", lambda _, pairs: np.column_stack(pairs))
    text = np.random.default_rng(3).integers(0, 20, 250)
    p_values, _, n = _log_p_values(SOURCES["selfhash"], text, 4_000)
    assert n > 200
    assert (p_values < 1e-3).sum() > 100  # 4 expected


def test_a_context_of_zeros_accuses_nobody() -> None:
    """lefthash: its seed is 0 under every key, so that a text could be written to be green."""
    zeros = [0, 0, 0, 0]
    for key in (15485863, 2**63 + 1):
        assert not GREEN.score(
            _words(SOURCES["lefthash"], key, zeros, list(range(500)))[None]
        ).any()


def _text(source: Sbw, key: int, n: int, seed: int) -> NDArray[np.int64]:
    """Draw by SBW's rule: every token is marked, contexts start with zeros."""
    rng, config, vocabulary = np.random.default_rng(seed), _config(source), np.arange(500)[None]
    h = config.context_width
    one, out = np.array([key], np.uint64), [0] * h
    for _ in range(n):
        hashes = source.context_hashes(one, np.array([out[-h:]]))
        words = source.words(one, hashes, vocabulary, 0)
        logits = 1.5 * rng.normal(size=500) + 2.0 * config.scheme.score(words)
        out.append(int(np.argmax(logits + rng.gumbel(size=500))))
    return np.array(out[h:])


def _echoed_green_share(source: Sbw, placing: Sbw) -> float:
    """Share of green pairs of an innocent passage that uses the words of marked text after it.

    Args:
        source: what makes the words.
        placing: what says which pairs are the same one.
    """
    config, counted, rng = _config(source), [], np.random.default_rng(7)
    for seed in range(25):
        marked = _text(source, 15485863, 120, seed)
        ids = np.concatenate([rng.permutation(marked), marked])
        chosen = select_pairs(ids, 3, drop_repeated_contexts=False, source=placing)
        scores = score_pairs(chosen, config, source.under(EngineKey([15485863])))
        pairs = place_pairs(chosen, scores, 3, placing)
        counted.append(scores[pairs.within(0, 120)])
    return float(np.concatenate(counted).mean()) if sum(map(len, counted)) else 0.0


def test_windows_do_not_count_a_token_that_marked_text_shares() -> None:
    """selfhash: with pairs told apart by their contexts, an echo of marked text is too green."""
    source = SOURCES["selfhash"]
    assert _echoed_green_share(source, SOURCES["lefthash"]) > 0.32
    assert _echoed_green_share(source, source) <= 0.25


def _log10_p(source: Sbw, key: int, text: NDArray[np.int64]) -> float:
    config = _config(source)
    chosen = select_pairs(text, config.context_width, drop_repeated_contexts=True, source=source)
    total = score_pairs(chosen, config, source.under(EngineKey([key]))).sum()
    log_p = log_tails(config.scheme.law, np.array([total]), np.array([chosen.n_scored]))
    return float(log_p[0] / np.log(10))


def test_text_marked_by_sbws_rule_is_found(source: Sbw) -> None:
    text = _text(source, 15485863, 200, seed=1)
    assert _log10_p(source, 15485863, text) < -6
    assert _log10_p(source, 15485867, text) > -4


@pytest.mark.parametrize(
    ("seeding", "scheme", "width", "message"),
    [
        ("lefthash", RedGreen(), 4, "n_cells = 2147483648"),
        ("selfhash", GreenList(1, 4), 3, "n_cells = 2147483648"),
        ("lefthash", GREEN, 0, "at least 1"),
    ],
)
def test_what_sbw_does_not_have_is_refused(
    seeding: str, scheme: Scheme, width: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        WatermarkConfig(scheme, width, source=SOURCES[seeding])


def test_keys_that_make_few_seeds_are_refused(source: Sbw) -> None:
    for key in (0, 1 << 28, 1 << 63):
        with pytest.raises(FingerprintError, match="divisible by"):
            source.key_of(EngineKey([key]))
    assert source.key_of(EngineKey([3 << 27])) == 3 << 27


def test_unknown_seedings_are_refused() -> None:
    with pytest.raises(ConfigError, match="lefthash, selfhash"):
        Sbw("minhash")
