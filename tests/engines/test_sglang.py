"""SGLang's mark against SGLang's own code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import tail
from tests.engines.oracle import ask
from watermark.config import WatermarkConfig
from watermark.interop.sglang import SglangWords
from watermark.keys import EngineKey
from watermark.schemes.gumbel import Gumbel, force_gumbel_winner

VOCABULARY = 1000
KEY = [0x0123456789ABCDEF, 0xFEDCBA9876543210]


def _deployment(p: float | None) -> tuple[WatermarkConfig, EngineKey]:
    config = WatermarkConfig(Gumbel(), 4, source=SglangWords(p))
    return config, EngineKey(KEY[: config.source.n_key_integers])


def _request(p: float | None, **more: object) -> dict[str, object]:
    _, key = _deployment(p)
    return {
        "key": list(key.integers), "mixing_probability": p, "context_width": 4,
        "vocabulary": VOCABULARY, **more,
    }  # fmt: skip


@pytest.mark.parametrize(("p", "h"), [(None, 4), (0.3, 1), (0.5, 7)])
def test_words_are_those_of_sglang(p: float | None, h: int) -> None:
    """40,000 drawn triples each."""
    source, rng = SglangWords(p), np.random.default_rng(h)
    keys = source.fresh_keys(200, h)
    contexts, tokens = rng.integers(0, 1 << 32, (200, h)), rng.integers(0, 1 << 32, 200)
    asked = {
        "keys": keys.tolist(), "contexts": contexts.tolist(), "tokens": tokens.tolist(),
        "mixing_probability": p,
    }  # fmt: skip
    theirs = ask("sglang", {"words": asked})["words"]
    ours = source.words_for_keys(keys, contexts, np.arange(200), tokens, 1)
    assert ours[:, 0].tolist() == theirs


@pytest.mark.parametrize("p", [None, 0.3])
def test_text_marked_by_sglang_is_found(p: float | None) -> None:
    config, key = _deployment(p)
    prompts = np.random.default_rng(1).integers(0, VOCABULARY, (20, 6)).tolist()
    asked = _request(p, prompts=prompts, n_tokens=204, seed=3)
    for text in ask("sglang", {"generate": asked}, timeout=900)["generate"]:
        selection = select_pairs(
            np.array(text), 4, drop_repeated_contexts=True, source=config.source
        )
        scores = score_pairs(selection, config, config.source.under(key))
        assert tail(Gumbel().law, float(scores.sum()), len(scores)).log10_p < -6


@pytest.mark.parametrize("p", [None, 0.3])
def test_text_marked_by_us_is_found_by_sglang(p: float | None) -> None:
    torch = pytest.importorskip("torch")
    config, key = _deployment(p)
    words = config.source.under(key)
    rng, text = np.random.default_rng(5), [1, 2, 3, 4]
    vocabulary = np.arange(VOCABULARY)[None]
    for _ in range(200):
        hashes = words.context_hashes(np.array([text[-4:]]))
        tilted = torch.from_numpy(words.words(hashes, vocabulary).astype(np.int64))
        logits = torch.from_numpy(2 * rng.standard_normal((1, VOCABULARY)))
        text.append(int(force_gumbel_winner(logits, tilted).argmax()))
    (found,) = ask("sglang", {"detect": _request(p, texts=[text])})["detect"]
    assert found["log_p"] < math.log(1e-6)
    selection = select_pairs(np.array(text), 4, drop_repeated_contexts=True, source=config.source)
    scores = score_pairs(selection, config, words)
    assert len(scores) == found["n"]
    # Theirs lies in the middle of a word's cell, ours at its lower end.
    assert scores.sum() == pytest.approx(found["score"], rel=1e-5)
