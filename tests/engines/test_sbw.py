"""The package sbw's own code against ours: words, green lists, texts that either marks."""

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
from watermark.interop.sbw import Sbw, sbw_green_list
from watermark.keys import EngineKey, SecretKey

SEEDINGS = {"lefthash": (1, 2, 4, 7), "selfhash": (0, 1, 3, 6)}
N, VOCABULARY, KEY = 30_000, 151_936, 15485863


@pytest.fixture(params=SEEDINGS)
def source(request: pytest.FixtureRequest) -> Sbw:
    return Sbw(request.param)


def _unsigned(key: int) -> NDArray[np.uint64]:
    return np.array([key % 2**64], np.uint64)


def test_120_000_words_are_sbws(source: Sbw) -> None:
    rng, batches = np.random.default_rng(1), []
    for width in SEEDINGS[source.seeding]:
        batches.append({
            "seeding": source.seeding, "width": width, "key": int(rng.integers(-(2**63), 2**63)),
            "contexts": rng.integers(0, VOCABULARY, (N, width)).tolist(),
            "tokens": rng.integers(0, VOCABULARY, N).tolist(),
        })  # fmt: skip
    for batch, theirs in zip(
        batches, ask("sbw", {"ask": "words", "batches": batches})["reply"], strict=True
    ):
        key = _unsigned(batch["key"])
        contexts = np.array(batch["contexts"], np.int64).reshape(N, -1)
        words = source.words(
            key, source.context_hashes(key, contexts), np.array(batch["tokens"]), 0
        )
        # A context of zeros, whose word we do not score, is among them once in 151,936.
        keyed = contexts.any(axis=1) | (source.seeding == "selfhash")
        expected = np.array(theirs, np.uint32)
        assert keyed.mean() > 0.999
        assert (words >> 1 == expected & 0x7FFFFFFF)[keyed].all()


def test_green_lists_are_the_samplers(source: Sbw) -> None:
    """All 30,000 bits of 8 contexts, and gammas that do not divide evenly."""
    rng, n_tokens = np.random.default_rng(2), 30_000
    batches = [
        {
            "seeding": source.seeding, "width": width, "gamma": gamma, "key": KEY,
            "contexts": rng.integers(1, n_tokens, (4, width)).tolist(), "vocabulary": n_tokens,
        }
        for width, gamma in zip(SEEDINGS[source.seeding][1:3], (0.25, 0.37), strict=True)
    ]  # fmt: skip
    for batch, theirs in zip(
        batches, ask("sbw", {"ask": "green", "batches": batches})["reply"], strict=True
    ):
        hashes = source.context_hashes(_unsigned(KEY), np.array(batch["contexts"]))
        tokens = np.tile(np.arange(n_tokens), (4, 1))
        words = source.words(_unsigned(KEY), hashes, tokens, 0)
        scheme = sbw_green_list(batch["gamma"], 1.0)
        for row, expected in zip(words, theirs, strict=True):
            assert np.flatnonzero(scheme.score(row[None])).tolist() == expected


def test_frozen_vectors_are_what_sbw_says() -> None:
    frozen = Path(__file__).parents[1] / "vectors" / "sbw.json"
    assert ask("sbw", {"ask": "vectors"}) == json.loads(frozen.read_text(encoding="utf-8"))


def _config(source: Sbw, width: int) -> WatermarkConfig:
    return WatermarkConfig(sbw_green_list(0.25, 2.0), width, source=source)


def _log10_p(config: WatermarkConfig, key: int, texts: list[list[int]]) -> NDArray[np.float64]:
    found = []
    for text in texts:
        chosen = select_pairs(
            np.array(text), config.context_width, drop_repeated_contexts=True, source=config.source
        )
        total = score_pairs(chosen, config, config.source.under(EngineKey([key]))).sum()
        n = np.array([chosen.n_scored])
        found.append(log_tails(config.scheme.law, np.array([total]), n)[0])
    log10_p: NDArray[np.float64] = np.array(found) / np.log(10)
    return log10_p


def _request(source: Sbw, width: int) -> dict[str, Any]:
    return {
        "seeding": source.seeding, "width": width, "key": KEY, "gamma": 0.25, "delta": 2.0,
        "vocabulary": 500,
    }  # fmt: skip


def test_text_that_sbw_marks_is_found(source: Sbw) -> None:
    """200 tokens from random logits of about 5 nats, gamma 1/4, delta 2."""
    for width in SEEDINGS[source.seeding][1:3]:
        drawing = {"n": 40, "length": 200, "scale": 1.5, "seed": 3}
        request = {"ask": "generate", "batches": [{**_request(source, width), **drawing}]}
        (texts,) = ask("sbw", request)["reply"]
        config = _config(source, width)
        assert (_log10_p(config, KEY, texts) < -6).mean() >= 0.95
        # Fixed keys, 40 texts: the least of 40 uniform p-values is below 1e-5 with chance 4e-4.
        assert (_log10_p(config, KEY + 4, texts) > -5).all()


def test_text_that_we_mark_is_found_by_sbw(source: Sbw) -> None:
    width, secret = SEEDINGS[source.seeding][2], SecretKey(bytes(range(32)))
    config = _config(source, width)
    texts = [marked_ids(config, secret, 200, vocabulary=500, seed=s).tolist() for s in range(5)]
    key = int(source.key_of(secret).view(np.int64)[0])
    batches = [{**_request(source, width), "key": k, "texts": texts} for k in (key, KEY)]
    right, wrong = ask("sbw", {"ask": "detect", "batches": batches})["reply"]
    assert max(found["p_value"] for found in right) < 1e-6
    assert min(found["p_value"] for found in wrong) > 1e-5
