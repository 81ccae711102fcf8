"""Batches: the compiled path is the plain one, bit for bit, and both follow `select_pairs`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detect.scanning.batches import COMPILE_FROM, score_batch
from detect.scanning.hashing import pair_hashes
from detect.scanning.plans import ScanPlan
from detect.scoring.scores import score_pairs, select_pairs
from watermark.channels import ReasoningChannel
from watermark.config import PRESETS, WatermarkConfig
from watermark.engine_settings import engine_config
from watermark.keys import SecretKey

KEY = SecretKey(bytes(range(32)))
VOCABULARY = 60
CONFIGS = {
    **PRESETS,
    "vllm": engine_config("vllm", {}),
    "vllm, repeats": engine_config("vllm", {"deduplicate_contexts": "none"}),
    "textseal": engine_config("textseal", {}),
    "sbw": engine_config("sbw", {"seeding_scheme": "gpu-selfhash"}),
    "google": engine_config("google-synthid", {"n_layers": 8, "ngram_len": 3}),
    "reasoning": replace(PRESETS["default"], reasoning=ReasoningChannel((7,), (8, 9))),
}


def _plan(config: WatermarkConfig, score: str | None = None) -> ScanPlan:
    return ScanPlan(config, config.source.key_of(KEY), score)


def _texts(n: int, longest: int, seed: int) -> list[np.ndarray]:
    """Few words, so that contexts, pairs and special tokens come again and again."""
    rng = np.random.default_rng(seed)
    lengths = [*range(5), *rng.integers(0, longest, n)]
    return [rng.integers(0, VOCABULARY, length) for length in lengths]


@pytest.mark.parametrize("compile_from", [COMPILE_FROM, 0])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_batch_scores_what_single_texts_score(
    name: str, compile_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detect.scanning.batches.COMPILE_FROM", compile_from)
    config, texts = CONFIGS[name], _texts(30, 80, 1)
    plan = _plan(config)
    batch = score_batch(texts, plan, [0, 1], VOCABULARY)
    prf = config.source.under(KEY)
    for i, text in enumerate(texts):
        selection = select_pairs(
            text,
            config.context_width,
            special_ids=[0, 1],
            drop_repeated_contexts=True,
            source=config.source,
            reasoning=config.reasoning,
        )
        scores = score_pairs(selection, config, prf, plan.scorer)
        assert batch.n_scored[i] == selection.n_scored
        # Scores of a continuous law are rounded down to multiples of 2^-32.
        assert batch.sums[i] * plan.step == pytest.approx(scores.sum(), abs=len(scores) * 2**-32)
        assert batch.sums[i] * plan.step <= scores.sum() + 1e-9


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("score", [None, "own"])
def test_the_compiled_path_is_the_plain_one(
    name: str, score: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, texts = _plan(PRESETS[name], score), _texts(200, 300, 2)
    assert sum(map(len, texts)) < COMPILE_FROM
    plain = score_batch(texts, plan, [0, 1], VOCABULARY)
    monkeypatch.setattr("detect.scanning.batches.COMPILE_FROM", 0)
    compiled = score_batch(texts, plan, [0, 1], VOCABULARY)
    for field in ("n_tokens", "n_scored", "reasons", "hashes", "ranks", "units"):
        a, b = getattr(plain, field), getattr(compiled, field)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, field)
    some = np.arange(0, len(plain.units), 7)
    for a, b in zip(plain.take(some), compiled.take(some), strict=True):
        np.testing.assert_array_equal(a, b)


def test_hashes_tell_rows_apart() -> None:
    rows = np.stack(np.meshgrid(*[np.arange(40)] * 3), axis=-1).reshape(-1, 3)
    hashes = pair_hashes(rows)
    assert len(np.unique(hashes)) == len(rows)
    # Buckets are named by the upper bits: they must be as even as chance makes them.
    counts = np.bincount((hashes >> np.uint64(56)).astype(int), minlength=256)
    assert ((counts - 250) ** 2 / 250).sum() < 400  # chi-squared with 255 degrees: p = 1e-8


def test_the_plan_shows_no_key() -> None:
    plan = _plan(PRESETS["default"])
    assert str(plan.key_integers[0]) not in repr(plan)
