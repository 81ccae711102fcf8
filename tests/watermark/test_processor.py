"""The transformers adapters, through the library's real `generate()` on a tiny random Llama."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

from watermark.config import WatermarkConfig, preset
from watermark.contexts import first_occurrences, windows
from watermark.errors import GenerationError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.processor import TransformersWatermark, WatermarkProcessor

KEY = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(range(1, 33)))
PAD, VOCABULARY = 1, 300


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def _mean_score(ids: torch.Tensor, config: WatermarkConfig, key: SecretKey) -> tuple[float, int]:
    """Mean score above the null's mean, in null standard deviations, over marked positions."""
    row = ids.numpy().astype(np.int64)
    contexts, tokens = windows(row, config.context_width), row[config.context_width :]
    kept = first_occurrences(contexts) if config.context_width else np.ones(len(tokens), bool)
    prf, scheme = Prf.from_key(key), config.scheme
    hashes = prf.context_hashes(np.ascontiguousarray(contexts[kept]))
    words = np.stack([prf.words(hashes, tokens[kept], s) for s in range(scheme.n_streams)])
    scores = scheme.score(words)
    z = (scores.sum() - len(scores) * scheme.law.mean) / (len(scores) * scheme.law.variance) ** 0.5
    return float(z), len(scores)


def _generate(model: LlamaForCausalLM, prompts: list[list[int]], **kwargs: Any) -> torch.Tensor:
    width = max(len(p) for p in prompts)
    ids = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    options: dict[str, Any] = {
        "do_sample": True,
        "top_k": 0,
        "max_new_tokens": 60,
        "min_new_tokens": 60,
        **kwargs,
    }
    torch.manual_seed(0)
    with torch.no_grad():
        return model.generate(input_ids=ids, attention_mask=mask, **options)[:, width:]


PROMPTS = [[5, 6, 7, 8, 9], [11, 12]]


@pytest.mark.parametrize(
    "name", ["default", "tracer", "gumbel", "red-green", "unigram", "tournament"]
)
def test_watermarking_config_marks_every_row_of_a_left_padded_batch(
    model: LlamaForCausalLM, name: str
) -> None:
    config = preset(name)
    answers = _generate(model, PROMPTS, watermarking_config=TransformersWatermark(config, KEY))
    for row in answers:
        assert _mean_score(row, config, KEY)[0] > 3.5
        # False alarm 1e-6 at 4.8 sigma in the normal regime; scores of the wrong key are null.
        assert abs(_mean_score(row, config, OTHER)[0]) < 6


def test_the_mark_comes_after_the_warpers(model: LlamaForCausalLM) -> None:
    """With top-k 5 every token must be among the model's five best, and still be marked."""
    config = preset("default")
    answers = _generate(
        model, PROMPTS, watermarking_config=TransformersWatermark(config, KEY), top_k=5
    )
    full = torch.cat([torch.tensor([PROMPTS[0]]), answers[:1]], dim=1)
    best = model(full).logits[0, len(PROMPTS[0]) - 1 : -1].detach()
    # min_new_tokens masks EOS before top-k.
    best[:, 2] = -torch.inf
    assert all(token in row.topk(5).indices for token, row in zip(answers[0], best, strict=True))
    assert _mean_score(answers[0], config, KEY)[0] > 3


def test_the_list_gives_the_same_tokens_as_the_config(model: LlamaForCausalLM) -> None:
    config = preset("gumbel")
    by_config = _generate(
        model,
        PROMPTS,
        watermarking_config=TransformersWatermark(config, KEY),
        temperature=0.8,
        top_k=20,
    )
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.8), TopKLogitsWarper(20)])
    processor = WatermarkProcessor(config, KEY, prompt_length=5, warpers=warpers)
    by_list = _generate(model, PROMPTS, logits_processor=LogitsProcessorList([processor]))
    # The first two tokens have no context; from equal ones on, the key alone decides. Unmarked
    # draws share the seed, so that whole answers agree.
    assert torch.equal(by_config, by_list)


def test_each_prompt_has_its_own_key_and_repeats_share_it(model: LlamaForCausalLM) -> None:
    config = preset("default")
    answers = _generate(
        model,
        PROMPTS,
        watermarking_config=TransformersWatermark(config, [KEY, OTHER]),
        num_return_sequences=2,
    )
    for row, mine, other in zip(
        answers, [KEY, KEY, OTHER, OTHER], [OTHER, OTHER, KEY, KEY], strict=True
    ):
        assert _mean_score(row, config, mine)[0] > 5
        assert abs(_mean_score(row, config, other)[0]) < 6


def test_eos_ends_rows_one_by_one(model: LlamaForCausalLM) -> None:
    config = preset("default")
    answers = _generate(
        model,
        PROMPTS * 4,
        watermarking_config=TransformersWatermark(config, KEY),
        min_new_tokens=None,
        eos_token_id=[2, *range(10, 40)],
    )
    assert (answers == PAD).any(dim=1).any()


@pytest.mark.parametrize("name", ["default", "gumbel", "tournament"])
@pytest.mark.parametrize("mode", [{"do_sample": False}, {"num_beams": 2}])
def test_greedy_and_beams_fail_loudly_for_drawing_schemes(
    model: LlamaForCausalLM, name: str, mode: dict[str, Any]
) -> None:
    config = preset(name)
    with pytest.raises(GenerationError, match="do_sample=True and num_beams=1"):
        _generate(model, PROMPTS, watermarking_config=TransformersWatermark(config, KEY), **mode)
    processor = WatermarkProcessor(config, KEY, prompt_length=5)
    with pytest.raises(GenerationError, match="do_sample=True and num_beams=1"):
        _generate(model, PROMPTS, logits_processor=LogitsProcessorList([processor]), **mode)


@pytest.mark.parametrize("mode", [{"do_sample": False}, {"do_sample": False, "num_beams": 3}])
def test_red_green_marks_greedy_and_beam_search(
    model: LlamaForCausalLM, mode: dict[str, Any]
) -> None:
    config = preset("red-green")
    answers = _generate(
        model, PROMPTS, watermarking_config=TransformersWatermark(config, KEY), **mode
    )
    # A random model repeats itself under greedy decoding; what is new is green.
    for row in answers:
        z, n = _mean_score(row, config, KEY)
        assert z > 0.8 * n**0.5


def test_assisted_decoding_is_marked(model: LlamaForCausalLM) -> None:
    config = preset("default")
    answers = _generate(
        model,
        [PROMPTS[0]],
        watermarking_config=TransformersWatermark(config, KEY),
        assistant_model=model,
    )
    assert _mean_score(answers[0], config, KEY)[0] > 5


def test_prompt_lookup_is_marked(model: LlamaForCausalLM) -> None:
    config = preset("default")
    answers = _generate(
        model,
        [PROMPTS[0] * 4],
        watermarking_config=TransformersWatermark(config, KEY),
        prompt_lookup_num_tokens=3,
    )
    assert _mean_score(answers[0], config, KEY)[0] > 5


def test_warpers_left_in_generate_are_refused(model: LlamaForCausalLM) -> None:
    processor = WatermarkProcessor(preset("default"), KEY, prompt_length=5)
    with pytest.raises(GenerationError, match="temperature, top_k"):
        _generate(
            model,
            PROMPTS,
            logits_processor=LogitsProcessorList([processor]),
            temperature=0.7,
            top_k=50,
        )


def test_ids_without_history_are_refused() -> None:
    processor = WatermarkProcessor(preset("default"), KEY, prompt_length=0)
    with pytest.raises(GenerationError, match="continuous batching"):
        processor(torch.tensor([1, 2]), torch.zeros(2, VOCABULARY))


def test_outside_generate_the_config_refuses_to_guess() -> None:
    with pytest.raises(GenerationError, match="cannot see the generation mode"):
        TransformersWatermark(preset("default"), KEY).construct_processor(VOCABULARY)


def test_continuous_batching_is_refused(model: LlamaForCausalLM) -> None:
    generation_config = GenerationConfig(
        do_sample=True, watermarking_config=TransformersWatermark(preset("default"), KEY)
    )
    with pytest.raises(GenerationError, match="continuous batching"):
        model._get_logits_processor(generation_config)


def test_what_transformers_prints_holds_no_secret() -> None:
    watermark = TransformersWatermark(preset("default"), KEY)
    generation_config = GenerationConfig(do_sample=True, watermarking_config=watermark)
    text = repr(generation_config) + json.dumps(watermark.to_dict()) + watermark.to_json_string()
    assert KEY.key_id in text
    assert bytes(range(32)).hex() not in text
    assert "AAECAwQF" not in text


def test_a_saved_generation_config_cannot_come_back_as_another_mark(tmp_path: Any) -> None:
    """transformers reads any dict as its own KGW config; ours must not be taken for one."""
    watermark = TransformersWatermark(preset("default"), KEY)
    GenerationConfig(do_sample=True, watermarking_config=watermark).save_pretrained(tmp_path)
    with pytest.raises(TypeError):
        GenerationConfig.from_pretrained(tmp_path)
