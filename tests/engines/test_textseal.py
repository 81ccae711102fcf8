"""TextSeal's mark against TextSeal's own code."""

from __future__ import annotations

import numpy as np
import pytest

from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import tail
from tests.engines.oracle import ask
from watermark.config import WatermarkConfig
from watermark.interop.textseal import N_CELLS, TextSealWords, green_cells
from watermark.keys import EngineKey
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel, force_gumbel_winner

VOCABULARY = 1000
KEY = 42
GREEN = GreenList(n_green=green_cells(0.25), n_cells=N_CELLS, delta=4.0)
CONFIGS = {
    "gumbelmax": WatermarkConfig(Gumbel(), 2, source=TextSealWords()),
    "greenlist": WatermarkConfig(GREEN, 2, source=TextSealWords("binary")),
}


def _request(kind: str, **more: object) -> dict[str, object]:
    return {
        "type": kind, "key": KEY, "gamma": 0.25, "context_width": 2, "vocabulary": VOCABULARY,
        **more,
    }  # fmt: skip


def _drawn(h: int) -> dict[str, list[int]]:
    """200 keys, some of them small as in the library's examples, and 300 pairs."""
    rng = np.random.default_rng(h)
    keys = rng.integers(0, 1 << 64, 200, np.uint64)
    keys[::3] = rng.integers(0, 100_000, len(keys[::3]))
    contexts, tokens = rng.integers(0, 262_144, (300, h)), rng.integers(0, 262_144, 300)
    return {"keys": keys.tolist(), "contexts": contexts.tolist(), "tokens": tokens.tolist()}


def _ours(source: TextSealWords, asked: dict[str, list[int]]) -> np.ndarray:
    keys = np.array(asked["keys"], np.uint64)[:, None]
    contexts, tokens = np.array(asked["contexts"]), np.array(asked["tokens"])
    found = source.words_for_keys(keys, contexts, np.arange(len(tokens)), tokens, 1)
    return found[:, 0]


@pytest.mark.parametrize("h", [1, 4, 10])
def test_draws_are_those_of_textseal(h: int) -> None:
    """60,000 drawn triples each."""
    asked = _drawn(h)
    theirs = np.rint(np.array(ask("textseal", {"uniforms": asked})["uniforms"]) * N_CELLS)
    lowest = (theirs.astype(np.int64) << 32) // N_CELLS
    assert (_ours(TextSealWords(), asked) == lowest).all()


@pytest.mark.parametrize("gamma", [0.1, 0.25, 1 / 3, 0.5, 0.9])
def test_green_lists_are_those_of_textseal(gamma: float) -> None:
    asked = _drawn(3)
    theirs = ask("textseal", {"green": {**asked, "gamma": gamma}})["green"]
    scheme = GreenList(n_green=green_cells(gamma), n_cells=N_CELLS)
    words = _ours(TextSealWords("binary"), asked)
    assert scheme.score(words.reshape(1, -1)).tolist() == np.ravel(theirs).tolist()


@pytest.mark.parametrize("kind", CONFIGS)
def test_text_marked_by_textseal_is_found(kind: str) -> None:
    config = CONFIGS[kind]
    prompts = np.random.default_rng(1).integers(0, VOCABULARY, (20, 6)).tolist()
    asked = _request(kind, prompts=prompts, n_tokens=202, seed=3)
    for text in ask("textseal", {"generate": asked})["generate"]:
        selection = select_pairs(
            np.array(text), 2, drop_repeated_contexts=True, source=config.source
        )
        scores = score_pairs(selection, config, config.source.under(EngineKey([KEY])))
        null = tail(config.scheme.law, float(scores.sum()), len(scores))
        assert null.log10_p < -6


@pytest.mark.parametrize("kind", CONFIGS)
def test_text_marked_by_us_is_found_by_textseal(kind: str) -> None:
    torch = pytest.importorskip("torch")
    config = CONFIGS[kind]
    words = config.source.under(EngineKey([KEY]))
    rng, text = np.random.default_rng(5), [1, 2]
    vocabulary = np.arange(VOCABULARY)[None]
    for _ in range(201):
        hashes = words.context_hashes(np.array([text[-2:]]))
        tilted = torch.from_numpy(words.words(hashes, vocabulary).astype(np.int64))
        logits = torch.from_numpy(2 * rng.standard_normal((1, VOCABULARY)))
        if kind == "gumbelmax":
            logits = force_gumbel_winner(logits, tilted)
        else:
            logits = GREEN.embed(logits, tilted)
        chances = logits.softmax(dim=1)[0].numpy()
        text.append(int(rng.choice(VOCABULARY, p=chances / chances.sum())))
    (found,) = ask("textseal", {"detect": _request(kind, texts=[text])})["detect"]
    assert found["p"] < 1e-6
    # Their detector leaves one token more out at the start.
    selection = select_pairs(
        np.array(text[1:]), 2, drop_repeated_contexts=True, source=config.source
    )
    scores = score_pairs(selection, config, words)
    assert len(scores) == found["n"]
    assert scores.sum() == pytest.approx(found["score"], rel=1e-4)
