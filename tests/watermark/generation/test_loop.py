"""The sampling loop, on a tiny random Llama: order, endings, marks, and bad logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from watermark.config import preset
from watermark.contexts import first_occurrences, windows
from watermark.errors import GenerationError
from watermark.generation.loop import Sampling, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.prf import Prf

KEY = SecretKey(bytes(range(32)))
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12], [13, 14], [15]]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


def test_log_probs_are_those_of_the_plain_model(model: LlamaForCausalLM) -> None:
    """Each answer is scored again alone, without padding and cache."""
    sampling = Sampling(max_new_tokens=12, temperature=0.7, top_k=20, batch_size=3)
    answers = sample_answers(
        model, PROMPTS, sampling, end_ids=[2], marker=Marker(preset("default"), KEY)
    )
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([[*prompt, *answer.token_ids]])
        with torch.inference_mode():
            plain = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        expected = plain.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert np.allclose(answer.log_probs[: len(answer.token_ids)], expected, atol=1e-4)
        top = plain.topk(20, dim=1).indices
        assert all(t in row for t, row in zip(answer.token_ids, top, strict=True))


def test_answers_end_where_an_end_token_is_drawn(model: LlamaForCausalLM) -> None:
    ends = list(range(2, 42))
    answers = sample_answers(model, PROMPTS * 4, Sampling(max_new_tokens=30), end_ids=ends)
    assert all(not set(a.token_ids) & set(ends) for a in answers)
    ended = [a for a in answers if len(a.token_ids) < 30]
    assert len(ended) > 10
    assert all(len(a.log_probs) == len(a.token_ids) + 1 for a in ended)


def test_the_same_seed_gives_the_same_answers(model: LlamaForCausalLM) -> None:
    once, again, other = (
        sample_answers(model, PROMPTS, Sampling(max_new_tokens=8, seed=s), end_ids=[2])
        for s in (1, 1, 2)
    )
    assert once == again != other


def test_marked_answers_score_high(model: LlamaForCausalLM) -> None:
    config, drawn = preset("default"), []
    answers = sample_answers(
        model,
        PROMPTS,
        Sampling(max_new_tokens=60, batch_size=2),
        end_ids=[119],
        marker=Marker(config, KEY),
        on_tokens=drawn.append,
    )
    assert sum(drawn) >= sum(len(a.token_ids) for a in answers)
    prf = Prf.from_key(KEY)
    for answer in answers:
        ids = np.array(answer.token_ids)
        contexts = windows(ids, 2)
        kept = first_occurrences(contexts)
        hashes = prf.context_hashes(np.ascontiguousarray(contexts[kept]))
        words = np.stack([prf.words(hashes, ids[2:][kept], s) for s in (0, 1)])
        scores = config.scheme.score(words)
        if len(scores) > 30:
            assert scores.mean() > 1 + 4 / len(scores) ** 0.5


def test_each_prompt_has_its_own_key_also_when_others_have_ended(model: LlamaForCausalLM) -> None:
    config, ends = preset("gumbel"), list(range(100, 120))
    keys = [SecretKey(bytes([i]) * 32) for i in range(20)]
    answers = sample_answers(
        model,
        PROMPTS * 4,
        Sampling(max_new_tokens=40, batch_size=7),
        end_ids=ends,
        marker=Marker(config, keys),
    )
    assert len({len(a.token_ids) for a in answers}) > 3
    own, others = [], []
    for i, answer in enumerate(answers):
        ids = np.array(answer.token_ids, np.int64)
        contexts = windows(ids, 2)
        new = first_occurrences(contexts)
        for j, key in enumerate(keys):
            prf = Prf.from_key(key)
            hashes = prf.context_hashes(np.ascontiguousarray(contexts[new]))
            scores = config.scheme.score(prf.words(hashes, ids[2:][new], 0)[None])
            (own if i == j else others).extend(scores)
    # Means of Exponential(1) under other keys; a hundred times as many of them.
    assert np.mean(own) > 2 > 1.1 > np.mean(others)


def test_what_cannot_be_sampled_is_refused(model: LlamaForCausalLM) -> None:
    with pytest.raises(GenerationError, match="empty"):
        sample_answers(model, [[1], []], Sampling(), end_ids=[2])
    many = Marker(preset("default"), [KEY] * (len(PROMPTS) + 1))
    with pytest.raises(GenerationError, match="one for each"):
        sample_answers(model, PROMPTS, Sampling(), end_ids=[2], marker=many)
    broken = LlamaForCausalLM(model.config).eval()
    torch.nn.init.constant_(broken.lm_head.weight, float("nan"))
    for marker in (None, Marker(preset("unigram"), KEY)):
        with pytest.raises(GenerationError):
            sample_answers(broken, PROMPTS, Sampling(max_new_tokens=3), end_ids=[2], marker=marker)
