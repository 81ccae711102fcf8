"""vLLM's own code against ours: words, texts that it marks, texts that we mark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import log_tails
from tests.detect.synthetic import marked_ids
from tests.engines.oracle import ask
from watermark.config import WatermarkConfig
from watermark.interop.vllm import VllmPhilox
from watermark.keys import EngineKey, SecretKey
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel

N, VOCABULARY, KEY = 10_000, 151_936, 2**63 + 12_345
SCOPES = ("none", "single_turn", "all")
ALGORITHMS = ("gumbel", "dual_key_gumbel")


def _batches(seed: int) -> list[dict[str, Any]]:
    """Ten widths and keys, N pairs each; the first contexts padded as vLLM pads them."""
    rng = np.random.default_rng(seed)
    batches = []
    for width in (1, 2, 3, 4, 5, 6, 8, 13, 16, 64):
        contexts = rng.integers(0, VOCABULARY, (N, width))
        contexts[:50, : width // 2] = -1
        key = int(rng.integers(0, 2**64, dtype=np.uint64))
        tokens = rng.integers(0, VOCABULARY, N).tolist()
        batches.append({"key": key, "contexts": contexts.tolist(), "tokens": tokens})
    return batches


def _ours(source: VllmPhilox, batch: dict[str, Any], stream: int = 0) -> list[int]:
    key = np.array([batch["key"]], np.uint64)
    hashes = source.context_hashes(key, np.array(batch["contexts"]))
    found: list[int] = source.words(key, hashes, np.array(batch["tokens"]), stream).tolist()
    return found


def _ask(*requests: dict[str, Any]) -> list[Any]:
    """All at once, since vLLM takes ten seconds to import."""
    replies: list[Any] = ask("vllm", {"ask": "all", "requests": requests})["replies"]
    return replies


def test_100_000_words_are_vllms_under_one_key_and_two() -> None:
    batches = _batches(1)
    one, two = _ask(*({"ask": what, "batches": batches} for what in ("words", "dual_words")))
    for batch, theirs in zip(batches, two, strict=True):
        assert _ours(VllmPhilox(dual=True), batch, 0) == theirs["a"]
        assert _ours(VllmPhilox(dual=True), batch, 1) == theirs["b"]
    for batch, theirs in zip(batches, one, strict=True):
        words = _ours(VllmPhilox(), batch)
        assert words == theirs["words"]
        # vLLM's float is the word's top 24 bits, rounded to float32.
        exact = ((np.array(words, np.uint32) >> 8) + 1) / (2**24 + 1)
        assert np.array_equal(exact.astype(np.float32), np.array(theirs["uniforms"], np.float32))


def test_frozen_vectors_are_what_vllm_says() -> None:
    frozen = Path(__file__).parents[1] / "vectors" / "vllm_philox.json"
    assert ask("vllm", {"ask": "vectors"}) == json.loads(frozen.read_text(encoding="utf-8"))


def _config(algorithm: str, scope: str) -> WatermarkConfig:
    dual = algorithm == "dual_key_gumbel"
    source = VllmPhilox(dual=dual, deduplicate_contexts=scope)
    return WatermarkConfig(DualGumbel(alpha=0.1) if dual else Gumbel(), 4, source=source)


def _log10_p(config: WatermarkConfig, key: int, texts: list[list[int]]) -> NDArray[np.float64]:
    found = []
    for text in texts:
        chosen = select_pairs(np.array(text), 4, drop_repeated_contexts=True, source=config.source)
        scores = score_pairs(chosen, config, config.source.under(EngineKey([key])))
        n = np.array([chosen.n_scored])
        found.append(log_tails(config.scheme.law, np.array([scores.sum()]), n)[0])
    log10_p: NDArray[np.float64] = np.array(found) / np.log(10)
    return log10_p


def test_text_that_vllm_marks_is_found() -> None:
    """200 tokens from random logits of about 3 nats, temperature 1; every algorithm and scope."""
    cases = [(a, s) for a in ALGORITHMS for s in SCOPES]
    drawing = {"n": 40, "length": 200, "vocabulary": 64, "scale": 1.5, "seed": 5}
    marking = {"key": KEY, "context_width": 4, "alpha": 0.1}
    replies = _ask(
        *(
            {"ask": "generate", "algorithm": a, "deduplicate_contexts": s, **drawing, **marking}
            for a, s in cases
        )
    )
    for case, reply in zip(cases, replies, strict=True):
        config = _config(*case)
        assert (_log10_p(config, KEY, reply["texts"]) < -6).mean() >= 0.95, case
        # Fixed keys, 40 texts: the least of 40 uniform p-values is below 1e-5 with chance 4e-4.
        assert (_log10_p(config, KEY - 1, reply["texts"]) > -5).all(), case


def test_text_that_we_mark_is_found_by_vllm() -> None:
    secret, requests = SecretKey(bytes(range(32))), []
    for algorithm in ALGORITHMS:
        config = _config(algorithm, "single_turn")
        texts = [marked_ids(config, secret, 200, vocabulary=64, seed=s).tolist() for s in range(5)]
        for key in (int(config.source.key_of(secret)[0]), 5):
            requests.append({
                "ask": "detect", "algorithm": algorithm, "context_width": 4, "texts": texts,
                "key": key,
            })  # fmt: skip
    replies = _ask(*requests)
    for right, wrong in zip(replies[::2], replies[1::2], strict=True):
        assert max(right["p_values"]) < 1e-6
        assert min(wrong["p_values"]) > 1e-5


def test_our_statistic_is_vllms_on_the_same_pairs() -> None:
    """vLLM also scores the padded contexts of the first four tokens: subtract those."""
    config, secret = _config("gumbel", "single_turn"), SecretKey(bytes(32))
    text = marked_ids(config, secret, 200, vocabulary=64, seed=9)
    key = int(config.source.key_of(secret)[0])
    texts = [text.tolist(), text[:4].tolist()]
    request = {"ask": "detect", "algorithm": "gumbel", "key": key, "context_width": 4}
    (theirs,) = _ask({**request, "texts": texts})
    chosen = select_pairs(text, 4, drop_repeated_contexts=True, source=config.source)
    scores = score_pairs(chosen, config, config.source.under(EngineKey([key])))
    assert chosen.n_scored == theirs["n_scored"][0] - theirs["n_scored"][1]
    # 24 bits against 32: a relative error of 1 - u of at most 2^-24 / (1 - u).
    assert scores.sum() == pytest.approx(theirs["scores"][0] - theirs["scores"][1], rel=1e-3)
