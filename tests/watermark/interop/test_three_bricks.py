"""three_bricks: equal to its rule restated in torch (not to its code, whose licence forbids it)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detect.decoys import decoy_statistics
from detect.scoring.scores import score_pairs, select_pairs
from detect.sequential.watching import Deployment
from detect.tails.nulls import log_tails
from tests.vectors import interop_kgw
from tests.vectors.interop_kgw import rolled_seed, three_bricks_numbers
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop.three_bricks import ThreeBricks
from watermark.keys import EngineKey, SecretKey
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.tokens import TextTokenizer
from watermark.word_sources import IntegerWords

KEY = EngineKey([0, 35317])
KEYS = ([0, 35317], [2**64 - 2, 2**64 - 17], [123456789, 3], [2**40, 2**63 + 6])
METHODS = ("openai", "maryland")


def _scheme(source: ThreeBricks) -> Scheme:
    return Gumbel() if source.method == "openai" else GreenList(source.n_green, source.vocab_size)


def _numbers(source: ThreeBricks, key: EngineKey, context: np.ndarray) -> np.ndarray:
    """What the words say of all tokens, in the oracle's terms, whatever the key is worth."""
    words = IntegerWords(source, np.array(key.integers, np.uint64))
    ids = np.arange(source.vocab_size)[None]
    found = words.words(words.context_hashes(context[None]), ids)[0]
    if source.method == "openai":
        assert not (found & 0xFF).any()
        numbers: np.ndarray = found / 2**32
        return numbers
    return _scheme(source).score(found[None])


def test_frozen_numbers() -> None:
    frozen = (interop_kgw.FOLDER / "three_bricks.json").read_text(encoding="utf-8")
    assert json.dumps(interop_kgw.three_bricks_vectors(), indent=1) + "\n" == frozen
    for row in json.loads(frozen)["rows"]:
        source = ThreeBricks(row["method"], row["vocab_size"], row["gamma"], row["payload"])
        found = _numbers(source, EngineKey(row["key"]), np.array(row["context"]))
        assert (found[row["tokens"]] * 2**24).tolist() == row["numbers"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("h", [1, 2, 4])
def test_numbers_are_those_of_the_rule(method: str, h: int) -> None:
    """240,000 (key, context, token) for each method and width."""
    rng = np.random.default_rng(h)
    for vocab_size, payload in ((1_000, 0), (1_000, 3), (10_000, 0)):
        source = ThreeBricks(method, vocab_size, 0.25, payload)
        for key in KEYS:
            for context in rng.integers(0, vocab_size, (5, h)):
                seed = rolled_seed(key[0], key[1], context.tolist())
                expected = three_bricks_numbers(method, vocab_size, 0.25, payload, seed)
                assert (_numbers(source, EngineKey(key), context) == expected).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("h", [1, 3])
def test_p_values_under_fresh_keys_are_valid_down_to_the_tail(method: str, h: int) -> None:
    """H0: text independent of the key. 2,000 keys; false alarm below 1e-6 for each level."""
    source = ThreeBricks(method, 1_000, 0.25)
    config = WatermarkConfig(_scheme(source), h, source=source)
    share = 1 / np.arange(1, 1_001)
    ids = np.random.default_rng(5).choice(1_000, 250, p=share / share.sum())
    selection = select_pairs(ids, h, drop_repeated_contexts=True, source=source)
    n, scheme = selection.n_scored, config.scheme
    keys = source.fresh_keys(2_000, 6)
    centred = decoy_statistics(scheme, keys, selection.contexts, selection.tokens, source=source)
    sums = centred + n * scheme.law.mean
    if method == "maryland":
        sums = np.round(sums)
    p = np.exp(log_tails(scheme.law, sums, np.full(len(sums), n)))
    for level in (0.3, 0.1, 0.01, 0.001):
        expected = 2_000 * level
        assert (p <= level).sum() <= expected + 5 * np.sqrt(expected) + 3
    assert (p <= 0.1).mean() > 0.06


@pytest.mark.parametrize("method", METHODS)
def test_text_marked_by_the_rule_is_found(method: str) -> None:
    """200 tokens of random logits at temperature 1, sampled as the rule says, in torch's numbers.

    Peaked like a language model's: about 1.5 nats a token.
    """
    source = ThreeBricks(method, 1_000, 0.25)
    config = WatermarkConfig(_scheme(source), 2, source=source)
    rng, ids = np.random.default_rng(3), [5, 6]
    for _ in range(200):
        logits = rng.normal(size=1_000) * 3
        secret = three_bricks_numbers(method, 1_000, 0.25, 0, rolled_seed(0, 35317, ids[-2:]))
        if method == "maryland":
            logits += 3 * secret
        p = np.exp(logits - logits.max())
        p /= p.sum()
        if method == "openai":
            ids.append(int((np.log(secret + 1e-30) / p).argmax()))
        else:
            ids.append(int(rng.choice(1_000, p=p)))
    selection = select_pairs(
        np.array(ids[2:]), 2, drop_repeated_contexts=True, source=config.source
    )
    for key, least, most in ((KEY, -np.inf, -6), (EngineKey([1, 35317]), -3, 0)):
        scores = score_pairs(selection, config, source.under(key))
        log_p = log_tails(config.scheme.law, scores.sum()[None], np.array([len(scores)]))
        assert least <= log_p[0] / np.log(10) <= most


@pytest.mark.parametrize(
    "salt", [0, 1, 2, 3, 4, 42, 65_535, 65_537, 2**32, 2**32 + 1, 2**64 - 4, 2**64 - 2, 2**64 - 1]
)
def test_salts_that_merge_contexts_are_refused(salt: int) -> None:
    """Rule broken: with salt 0 only the last token counts, and one pair would be many.

    A table of digits reached p = 1e-9 under one of 400 seeds with salt 3, which keeps 3 c_1 + c_2.
    """
    with pytest.raises(ConfigError, match="no p-value can be given"):
        ThreeBricks().key_of(EngineKey([7, salt]))


def test_drawn_keys_have_odd_salts() -> None:
    source = ThreeBricks()
    assert (source.fresh_keys(50, 1)[:, 1] & np.uint64(1)).all()
    assert all(int(source.key_of(SecretKey(bytes([i] * 32)))[1]) % 2 for i in range(20))


@pytest.mark.parametrize(
    "parameters",
    [
        ("additive", 100, 0.5, 0),
        ("openai", 1, 0.5, 0),
        ("openai", 1 << 25, 0.5, 0),
        ("maryland", 100, 0.0, 0),
        ("maryland", 100, 0.001, 0),
        ("maryland", 100, "0.5", 0),
        ("openai", 100, 0.5, 100),
        ("openai", 100, 0.5, -1),
    ],
)
def test_bad_parameters(parameters: tuple) -> None:
    with pytest.raises(ConfigError, match="three-bricks"):
        ThreeBricks(*parameters)


def test_deployments_that_three_bricks_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="openai marks by gumbel"):
        WatermarkConfig(DualGumbel(), 2, source=ThreeBricks())
    with pytest.raises(ConfigError, match="n_green = 50"):
        WatermarkConfig(GreenList(25, 100), 2, source=ThreeBricks("maryland", 100))
    with pytest.raises(ConfigError, match="one token or more"):
        WatermarkConfig(GreenList(50, 100), 0, source=ThreeBricks("maryland", 100))


def test_ids_beyond_the_vocabulary_are_refused() -> None:
    source, key = ThreeBricks("openai", 100), np.array([1, 3], np.uint64)
    with pytest.raises(ConfigError, match="vocab_size"):
        source.context_hashes(key, np.array([[100]]))
    with pytest.raises(ConfigError, match="vocab_size"):
        source.words(key, source.context_hashes(key, np.array([[1]])), np.array([100]), 0)


def test_a_watch_refuses_lists_drawn_without_replacement(tokenizer: TextTokenizer) -> None:
    """Bets on one token after another are not fair there: see `draws_without_replacement`."""
    size = tokenizer.vocab_size
    source = ThreeBricks(method="maryland", vocab_size=size)
    config = WatermarkConfig(GreenList(source.n_green, size), 2, None, source)
    with pytest.raises(ConfigError, match="without replacement"):
        Deployment(config, EngineKey([3, 35_317]), tokenizer, 1e-6)
