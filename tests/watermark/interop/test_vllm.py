"""vLLM's mark: frozen words of vLLM's own code, a slow twin, null and power."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kstest

from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import log_tails
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop import vllm
from watermark.interop.vllm import VllmPhilox
from watermark.keys import EngineKey, SecretKey
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "vllm_philox.json").read_text())
ONE, TWO = VllmPhilox(), VllmPhilox(dual=True)
CONFIGS = {
    "gumbel": WatermarkConfig(Gumbel(), 4, source=ONE),
    "dual": WatermarkConfig(DualGumbel(alpha=0.1), 4, source=TWO),
    "alpha 0": WatermarkConfig(Gumbel(), 4, source=TWO),
    "repeats": WatermarkConfig(Gumbel(), 4, source=VllmPhilox(deduplicate_contexts="none")),
}
MASK = 2**32 - 1
ids = st.integers(0, MASK)


def _words(
    source: VllmPhilox, key: int, context: list[int], tokens: list[int], stream: int = 0
) -> list[int]:
    one = np.array([key], np.uint64)
    hashes = source.context_hashes(one, np.array([context]))
    found: list[int] = source.words(one, hashes, np.array([tokens]), stream)[0].tolist()
    return found


def test_words_of_vllm_itself() -> None:
    for row in VECTORS["rows"]:
        found = _words(ONE, int(row["key"]), row["context"], VECTORS["tokens"])
        assert found == row["words"], row["context"]


def test_words_of_both_keys_of_vllm_itself() -> None:
    for stream, name in enumerate("ab"):
        found = _words(TWO, 42, [10, 20, 30, 40], VECTORS["tokens"], stream)
        assert found == VECTORS["dual"][name]


def _philox(counter: list[int], key: list[int]) -> list[int]:
    for _ in range(10):
        high, low = divmod(0xD2511F53 * counter[0], 2**32)
        other_high, other_low = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [
            other_high ^ counter[1] ^ key[0], other_low, high ^ counter[3] ^ key[1], low
        ]  # fmt: skip
        key = [(key[0] + 0x9E3779B9) & MASK, (key[1] + 0xBB67AE85) & MASK]
    return counter


def _slow_word(key: int, context: list[int], token: int) -> int:
    k0, k1 = key & MASK, key >> 32
    state = [0x574D4358, len(context), 0, 0]
    for offset in range(0, len(context), 4):
        block = context[offset : offset + 4]
        block = block + [MASK - i for i in range(len(block), 4)]
        state = _philox([s ^ b for s, b in zip(state, block, strict=True)], [k0 ^ offset, k1])
    counter = [token >> 2, *state[:3]]
    return _philox(counter, [k0 ^ state[3], k1 ^ 0x574D544B])[token & 3]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.lists(ids, min_size=1, max_size=64), ids)
def test_words_are_those_of_the_slow_twin(key: int, context: list[int], token: int) -> None:
    assert _words(ONE, key, context, [token]) == [_slow_word(key, context, token)]


def test_padding_is_minus_one() -> None:
    assert _words(ONE, 7, [-1, -1, 5], [9]) == [_slow_word(7, [MASK, MASK, 5], 9)]


@pytest.mark.parametrize("source", [ONE, TWO])
@pytest.mark.parametrize("width", [1, 4, 7])
def test_compiled_words_are_the_same(
    source: VllmPhilox, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(width)
    keys, n_streams = source.fresh_keys(3, 5), 2 if source.dual else 1
    contexts, tokens = rng.integers(0, 2**32, (50, width)), rng.integers(0, 2**32, 200)
    at = rng.integers(0, 50, 200)
    many = source.words_for_keys(keys, contexts, at, tokens, n_streams)
    hashes = source.context_hashes(keys[0], contexts)
    few = [source.words(keys[0], hashes[at], tokens, s) for s in range(n_streams)]
    monkeypatch.setattr(vllm, "_COMPILE_FROM", 0)
    assert (source.words_for_keys(keys, contexts, at, tokens, n_streams) == many).all()
    assert (source.context_hashes(keys[0], contexts) == hashes).all()
    for stream, words in enumerate(few):
        assert (source.words(keys[0], hashes[at], tokens, stream) == words).all()
        assert (many[0, stream] == words).all()


@given(st.lists(ids, min_size=2, max_size=50))
def test_scores_are_in_the_order_of_the_engines_uniforms(words: list[int]) -> None:
    drawn = np.sort(np.array(words, np.uint32))
    scores, engine = Gumbel().score(drawn[None]), (drawn >> 8) + 1
    assert (np.diff(scores) >= 0).all()
    assert (np.diff(scores)[np.diff(engine) > 0] > 0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_p_values_are_uniform_under_the_null(name: str) -> None:
    """H0: text independent of the key. 4,000 keys on one text; false alarm 1e-3 a config."""
    config = CONFIGS[name]
    scheme, source, n = config.scheme, config.source, 120
    text = np.random.default_rng(3).integers(0, 300, n)
    chosen = select_pairs(text, 4, drop_repeated_contexts=True, source=source)
    keys = source.fresh_keys(4_000, 17)
    at = np.arange(chosen.n_scored)
    words = source.words_for_keys(keys, chosen.contexts, at, chosen.tokens, scheme.n_streams)
    sums = scheme.score(words.transpose(1, 0, 2).reshape(scheme.n_streams, -1))
    statistics = sums.reshape(len(keys), -1).sum(axis=1)
    log_p = log_tails(scheme.law, statistics, np.full(len(keys), chosen.n_scored))
    assert kstest(np.exp(log_p), "uniform").pvalue > 1e-3
    assert (log_p < np.log(1e-3)).sum() <= 14  # Poisson(4): P(> 14) = 2e-5


def _engine_text(config: WatermarkConfig, key: int, n: int, seed: int) -> NDArray[np.int64]:
    """Draw by vLLM's rule: 24-bit uniforms, padded contexts, repeats of a context left alone."""
    rng, source = np.random.default_rng(seed), config.source
    one, vocabulary = np.array([key], np.uint64), np.arange(64)[None]
    out, seen = [-1] * 4, set()
    for _ in range(n):
        context = out[-4:]
        stream = int(isinstance(config.scheme, DualGumbel) and rng.random() < 0.1)
        hashes = source.context_hashes(one, np.array([context]))
        words = source.words(one, hashes, vocabulary, stream)[0]
        noise = ((words >> 8) + 1.0) / (2**24 + 1)
        if tuple(context) in seen and not source.marks_repeats:
            noise = rng.random(64)
        seen.add(tuple(context))
        out.append(int(np.argmax(1.5 * rng.normal(size=64) - np.log(-np.log(noise)))))
    return np.array(out[4:])


def _log10_p(config: WatermarkConfig, key: int, text: NDArray[np.int64]) -> float:
    chosen = select_pairs(
        text, config.context_width, drop_repeated_contexts=True, source=config.source
    )
    scores = score_pairs(chosen, config, config.source.under(EngineKey([key])))
    n = np.array([chosen.n_scored])
    return float(log_tails(config.scheme.law, np.array([scores.sum()]), n)[0] / np.log(10))


@pytest.mark.parametrize("name", CONFIGS)
def test_text_marked_by_vllms_rule_is_found(name: str) -> None:
    config = CONFIGS[name]
    text = _engine_text(config, 2**63 + 5, 200, seed=1)
    assert _log10_p(config, 2**63 + 5, text) < -6
    assert _log10_p(config, 2**63 + 4, text) > -4


def test_our_own_marking_is_found_under_a_key_of_ours() -> None:
    key, config = SecretKey(bytes(range(32))), CONFIGS["dual"]
    text = marked_ids(config, key, 200, vocabulary=64, seed=2)
    assert _log10_p(config, int(config.source.key_of(key)[0]), text) < -6


@pytest.mark.parametrize(
    ("source", "scheme", "width", "message"),
    [
        (ONE, Tournament(), 4, "gumbel and dual-gumbel"),
        (ONE, DualGumbel(), 4, "dual_key_gumbel"),
        (ONE, Gumbel(), 17, "1 to 16"),
        (ONE, Gumbel(), 0, "1 to 16"),
    ],
)
def test_what_vllm_does_not_have_is_refused(
    source: VllmPhilox, scheme: Scheme, width: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        source.check(scheme, width)


@pytest.mark.parametrize("parameters", [{"dual": 1}, {"deduplicate_contexts": "sometimes"}])
def test_bad_parameters_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="vllm-philox: "):
        VllmPhilox(**parameters)  # type: ignore[arg-type]
