"""A marked model under transformers' real generate(), generate_batch() and `transformers serve`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessorList,
    WatermarkingConfig,
)
from transformers.cli.serving.utils import BaseHandler, CBGenerateManager, GenerateManager

from detect.text import assess_tokens
from watermark.config import preset
from watermark.errors import GenerationError
from watermark.keys import SecretKey
from watermark.processor import TransformersWatermark, WatermarkProcessor
from watermark.serving.transformers_model import enforce_watermark, refuse_continuous_batching
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
WATERMARK = TransformersWatermark(preset("default"), KEY)
PROMPT = [5, 6, 7]
# A small cache: the default would take what is left of the machine's memory.
CACHE = ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64)


@pytest.fixture
def model(model_folder: Path) -> Iterator[Any]:
    loaded: Any = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    yield loaded
    type(loaded).destroy_cached_continuous_batching_manager(loaded)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Continuous batching logs that a generation loop ended, as these tests want it to."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def _sampled(**more: Any) -> GenerationConfig:
    chosen = {"do_sample": True, "top_k": 0, "max_new_tokens": 8, "eos_token_id": 2, **more}
    return GenerationConfig(pad_token_id=1, **chosen)


def _long(**more: Any) -> GenerationConfig:
    return _sampled(max_new_tokens=80, min_new_tokens=80, **more)


def _log10_p(ids: torch.Tensor, tokenizer: TextTokenizer) -> float:
    response = ids.flatten().numpy().astype(np.int64)
    result = assess_tokens(
        response,
        tokenizer=tokenizer,
        config=preset("default"),
        key=KEY,
        pieces=("",) * len(response),
    )
    return result.finding.tail.log10_p


def _generate(model: Any, config: GenerationConfig, **more: Any) -> torch.Tensor:
    torch.manual_seed(0)
    ids = model.generate(torch.tensor([PROMPT]), generation_config=config, **more)
    return ids[:, len(PROMPT) :]  # type: ignore[no-any-return]


def test_every_generate_is_marked(model: Any, tokenizer: TextTokenizer) -> None:
    assert _log10_p(_generate(model, _long()), tokenizer) > -3
    enforce_watermark(model, WATERMARK)
    assert _log10_p(_generate(model, _long()), tokenizer) < -6
    # Its own settings, positional arguments, and its mark given once more.
    assert _log10_p(_generate(model, _long(watermarking_config=WATERMARK)), tokenizer) < -6
    torch.manual_seed(0)
    positional = model.generate(torch.tensor([PROMPT]), _long())
    assert _log10_p(positional[:, len(PROMPT) :], tokenizer) < -6


@pytest.mark.parametrize(
    ("config", "more", "says"),
    [
        (_sampled(do_sample=False, top_k=None), {}, "do_sample=True and num_beams=1"),
        (_sampled(num_beams=2), {}, "do_sample=True and num_beams=1"),
        (_sampled(watermarking_config=WatermarkingConfig()), {}, "leave watermarking_config out"),
        (
            _sampled(),
            {"watermarking_config": TransformersWatermark(preset("gumbel"), KEY)},
            "leave watermarking_config out",
        ),
        (
            _sampled(),
            {
                "logits_processor": LogitsProcessorList(
                    [WatermarkProcessor(preset("default"), KEY, prompt_length=3)]
                )
            },
            "leave WatermarkProcessor out",
        ),
        (_sampled(), {"custom_generate": lambda *a, **k: None}, "custom_generate"),
    ],
)
def test_what_would_be_unmarked_or_marked_twice_is_refused(
    model: Any, config: GenerationConfig, more: dict[str, Any], says: str
) -> None:
    enforce_watermark(model, WATERMARK)
    with pytest.raises(GenerationError, match=says):
        _generate(model, config, **more)


def test_a_model_is_told_once(model: Any) -> None:
    enforce_watermark(model, WATERMARK)
    with pytest.raises(GenerationError, match="replaced before"):
        enforce_watermark(model, TransformersWatermark(preset("gumbel"), KEY))
    with pytest.raises(GenerationError, match="transformers model with generate"):
        enforce_watermark(torch.nn.Linear(2, 2), WATERMARK)


def _batch(model: Any, config: GenerationConfig, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = model.generate_batch(
        [PROMPT], generation_config=config, continuous_batching_config=CACHE, **more
    )
    return result


def test_generate_batch_refuses_the_config(model: Any) -> None:
    with pytest.raises(GenerationError, match="continuous batching"):
        _batch(model, _sampled(watermarking_config=WATERMARK))
    model.generation_config.watermarking_config = WATERMARK
    with pytest.raises(GenerationError, match="continuous batching"):
        model.generate_batch([PROMPT], continuous_batching_config=CACHE)


def test_a_processor_inside_continuous_batching_ends_every_request(model: Any) -> None:
    processor = WatermarkProcessor(preset("default"), KEY, prompt_length=0)
    model._get_logits_processor = lambda config: LogitsProcessorList([processor])
    (output,) = _batch(model, _sampled()).values()
    assert "continuous batching is not supported" in output.error
    assert output.generated_tokens == []


@pytest.mark.parametrize(
    "ignored",
    [
        {"watermarking_config": WATERMARK},
        {
            "logits_processor": LogitsProcessorList(
                [WatermarkProcessor(preset("default"), KEY, prompt_length=3)]
            )
        },
    ],
)
def test_arguments_that_generate_batch_ignores_are_refused(
    model: Any, ignored: dict[str, Any]
) -> None:
    """The library answers unmarked without a word; if it stops doing so, our docs are wrong."""
    (output,) = _batch(model, _sampled(), **ignored).values()
    assert output.error is None
    refuse_continuous_batching(model)
    with pytest.raises(GenerationError, match="serve with vLLM"):
        _batch(model, _sampled(), **ignored)


def test_a_kept_manager_that_ignores_new_settings_is_refused(model: Any) -> None:
    marked = _sampled(watermarking_config=WATERMARK)
    _batch(model, _sampled(), persistent_manager=True)
    (output,) = _batch(model, marked, persistent_manager=True).values()
    assert output.error is None
    refuse_continuous_batching(model)
    with pytest.raises(GenerationError, match="serve with vLLM"):
        _batch(model, marked)


def _served(model: Any, body: dict[str, Any]) -> torch.Tensor:
    """Answer a request as `transformers serve` does, from its body on, without its HTTP."""
    state: Any = SimpleNamespace(_compile=False)
    handler = BaseHandler(model_manager=SimpleNamespace(), generation_state=state)  # type: ignore[arg-type]
    config = handler._build_generation_config(body, model.generation_config)
    config.max_new_tokens = 80
    decoder: Any = SimpleNamespace(decode=lambda ids, **kwargs: "")
    inputs = {"input_ids": torch.tensor([PROMPT])}
    answer = GenerateManager().generate_non_streaming(model, decoder, inputs, config, "id")
    _, _, ids = asyncio.run(answer)
    return ids


def test_transformers_serve_answers_marked_whatever_a_client_sends(
    model: Any, tokenizer: TextTokenizer
) -> None:
    """What a client leaves out is filled from the model's settings; its own mark would win."""
    sent = {"do_sample": True, "top_k": 0, "min_new_tokens": 80, "eos_token_id": 2}
    body = {"generation_config": json.dumps({**sent, "pad_token_id": 1}), "seed": 0}
    mark = {"watermarking_config": {"greenlist_ratio": 0.5}}
    foreign = {"generation_config": json.dumps({**sent, **mark}), "seed": 0}
    model.generation_config.watermarking_config = WATERMARK
    assert _log10_p(_served(model, foreign), tokenizer) > -3
    enforce_watermark(model, WATERMARK)
    assert _log10_p(_served(model, body), tokenizer) < -6
    with pytest.raises(GenerationError, match="leave watermarking_config out"):
        _served(model, foreign)
    with pytest.raises(GenerationError, match="do_sample=True"):
        _served(model, {**body, "temperature": 0})


def test_transformers_serve_with_continuous_batching_is_refused(model: Any) -> None:
    enforce_watermark(model, WATERMARK)
    with pytest.raises(GenerationError, match="serve with vLLM"):
        CBGenerateManager(CACHE).init_cb(model, _sampled())
