"""Real generation with borders in it: every row is marked by its own borders, whatever decodes it.

A tiny random Llama with 24 tokens writes borders by itself, at other places in each row. Gumbel-max
takes one token wherever it marks: reading each answer again by the model tells where that was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.watermark.test_channels import naive
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError
from watermark.generation.loop import Sampling, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.prf import Prf
from watermark.processor import TransformersWatermark

KEY = SecretKey(bytes(range(32)))
PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [5], [3, 4, 3]]
V = 24
CHANNELS = [
    ReasoningChannel((5,), (6,)),
    ReasoningChannel((5,), (6,), is_marked=False, starts_open=True),
]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=1, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _due(channel: ReasoningChannel, ids: list[int], h: int) -> list[bool]:
    """Tell for each token whether the rule marks it, one prefix at a time."""
    found = []
    for t in range(len(ids)):
        start, in_reasoning = naive(channel, ids[:t])
        context = ids[t - h : t]
        met = [ids[i - h : i] for i in range(start + h, t)]
        spared = in_reasoning and not channel.is_marked
        found.append(t - start >= h and context not in met and not spared)
    return found


def _won(model: LlamaForCausalLM, prompt: list[int], ids: list[int], h: int) -> list[bool]:
    """Tell for each token whether it is the keyed winner after its last h tokens."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    prf, found = Prf.from_key(KEY), []
    for t, token in enumerate(ids):
        if t < h:
            found.append(False)
            continue
        hashes = prf.context_hashes(np.array([ids[t - h : t]], np.int64))
        words = prf.words(hashes, np.arange(V)[None])[0]
        noise = -np.log(-np.log((words + 0.5) / 2**32))
        found.append(int((logits[t].double().numpy() + noise).argmax()) == token)
    return found


def _assert_marked_by_rule(
    model: LlamaForCausalLM, config: WatermarkConfig, answers: list[list[int]]
) -> None:
    assert config.reasoning is not None
    h, due, won = config.context_width, [], []
    for prompt, ids in zip(PROMPTS, answers, strict=False):
        due += _due(config.reasoning, ids, h)
        won += _won(model, prompt, ids, h)
    is_due, has_won = np.array(due), np.array(won)
    # Two ways to run a model differ in the last bits, which may decide a close race.
    assert has_won[is_due].mean() > 0.98
    # The others are drawn freely: one in V wins by chance, few more in steep rows.
    assert has_won[~is_due].mean() < 0.35
    assert min(is_due.sum(), (~is_due).sum()) > 15


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_row_is_marked_by_its_own_borders(
    model: LlamaForCausalLM, channel: ReasoningChannel
) -> None:
    config = replace(preset("gumbel"), reasoning=channel)
    answers = sample_answers(
        model, PROMPTS, Sampling(max_new_tokens=90), end_ids=[], marker=Marker(config, KEY)
    )
    _assert_marked_by_rule(model, config, [list(a.token_ids) for a in answers])


@pytest.mark.parametrize("decoding", [{}, {"prompt_lookup_num_tokens": 3}])
def test_generate_marks_by_borders_with_and_without_candidates(
    model: LlamaForCausalLM, decoding: dict[str, Any]
) -> None:
    """Candidates are looked at several at a time, each behind the ones before it."""
    config = replace(preset("gumbel"), reasoning=CHANNELS[0])
    answers = []
    for prompt in PROMPTS[:2]:
        torch.manual_seed(len(prompt))
        with torch.no_grad():
            out = model.generate(
                torch.tensor([prompt]), do_sample=True, top_k=0, max_new_tokens=60,
                watermarking_config=TransformersWatermark(config, KEY), **decoding,
            )  # fmt: skip
        answers.append(out[0, len(prompt) :].tolist())
    _assert_marked_by_rule(model, config, answers)


def test_beams_are_marked_by_their_own_borders(model: LlamaForCausalLM) -> None:
    """Beams of one prompt have other borders: their green tokens stand where the rule marks."""
    config = replace(preset("red-green"), reasoning=CHANNELS[1])
    assert config.reasoning is not None
    due, green = [], []
    for prompt in PROMPTS[:2]:
        with torch.no_grad():
            out = model.generate(
                torch.tensor([prompt]), do_sample=False, num_beams=4, num_return_sequences=4,
                max_new_tokens=50, repetition_penalty=1.8,
                watermarking_config=TransformersWatermark(config, KEY),
            )  # fmt: skip
        for row in out[:, len(prompt) :].tolist():
            due += _due(config.reasoning, row, 2)[2:]
            contexts = np.lib.stride_tricks.sliding_window_view(np.array(row[:-1]), 2)
            prf = Prf.from_key(KEY)
            hashes = prf.context_hashes(np.ascontiguousarray(contexts))
            words = prf.words(hashes, np.array(row[2:]))
            green += config.scheme.score(words[None]).tolist()
    is_due, is_green = np.array(due), np.array(green)
    assert is_due.sum() > 30
    assert is_green[is_due].mean() > 0.9
    assert is_green[~is_due].mean() < 0.75


def test_borders_that_the_model_cannot_write_are_refused(model: LlamaForCausalLM) -> None:
    config = replace(preset("gumbel"), reasoning=ReasoningChannel((5,), (V,)))
    with pytest.raises(ConfigError, match="24"):
        sample_answers(
            model, PROMPTS, Sampling(max_new_tokens=3), end_ids=[2], marker=Marker(config, KEY)
        )
