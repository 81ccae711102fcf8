"""Text that transformers itself marked with the real model: is it found?

`model.generate(watermarking_config=...)` with transformers' own KGW (lefthash, selfhash) and
SynthID processors, at temperature 1 over the whole vocabulary, no end token before the full length;
each answer is then tested by us under the key, and as many unmarked ones under fresh keys.

H0 of each test: the answer is independent of the key (`watermark.interop`). The aim: 95 % of
answers of 200 tokens at p < 1e-6.
"""

from __future__ import annotations

from typing import Any, Final

import click
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoTokenizer,
    SynthIDTextWatermarkingConfig,
    WatermarkingConfig,
)

from benchmarks.record import write_result
from detect.demo.prompts import held_out_prompts
from detect.text import assess_tokens
from watermark.config import WatermarkConfig
from watermark.engine_settings import engine_config
from watermark.generation.loop import chat_prompt
from watermark.keys import EngineKey
from watermark.models import load_model, resolve_model
from watermark.tokens import TextTokenizer, load_tokenizer

_VOCABULARY: Final = 49_152
# Within what its hash multiplies without overflow.
_KEY_BELOW: Final = 1 << 31
_LAYERS: Final = 30


def _kgw(seeding: str, width: int, key: int) -> Any:
    return WatermarkingConfig(
        greenlist_ratio=0.5,
        bias=2.0,
        hashing_key=key,
        seeding_scheme=seeding,
        context_width=width,
    )


def _cases(rng: np.random.Generator) -> dict[str, tuple[Any, WatermarkConfig, EngineKey]]:
    key = int(rng.integers(1 << 20, _KEY_BELOW))
    layers = [int(k) for k in rng.integers(1, 1 << 16, _LAYERS)]
    kgw = {"vocab_size": _VOCABULARY, "greenlist_ratio": 0.5, "bias": 2.0}
    left = {**kgw, "seeding_scheme": "lefthash", "context_width": 1}
    own = {**kgw, "seeding_scheme": "selfhash", "context_width": 4}
    return {
        "KGW, lefthash": (
            _kgw("lefthash", 1, key), engine_config("transformers-kgw", left), EngineKey([key])
        ),
        "KGW, selfhash": (
            _kgw("selfhash", 4, key), engine_config("transformers-kgw", own), EngineKey([key])
        ),
        "SynthID": (
            SynthIDTextWatermarkingConfig(keys=layers, ngram_len=5),
            engine_config("transformers-synthid", {"n_layers": _LAYERS, "ngram_len": 5}),
            EngineKey(layers),
        ),
    }  # fmt: skip


def _answers(
    model: Any, chat: Any, prompts: list[list[int]], tokens: int, mark: Any, seed: int
) -> list[NDArray[np.int64]]:
    width = max(map(len, prompts))
    pad = chat.eos_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    known = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    torch.manual_seed(seed)
    out = model.generate(
        ids,
        attention_mask=known,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        pad_token_id=pad,
        watermarking_config=mark,
    )
    return [row.numpy() for row in out[:, width:]]


def _logs(
    answers: list[NDArray[np.int64]], tokenizer: TextTokenizer, config: WatermarkConfig,
    keys: list[EngineKey],
) -> NDArray[np.float64]:  # fmt: skip
    return np.array(
        [
            assess_tokens(
                ids, tokenizer=tokenizer, config=config, key=key, pieces=()
            ).finding.tail.log10_p
            for ids, key in zip(answers, keys, strict=True)
        ]
    )


@click.command()
@click.option("--texts", default=32, show_default=True)
@click.option("--tokens", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(texts: int, tokens: int, seed: int) -> None:
    """Let transformers mark, and find it."""
    folder = resolve_model("smollm2")
    model, chat = load_model(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    prompts = [chat_prompt(chat, text) for text in held_out_prompts(texts)]
    plain = _answers(model, chat, prompts, tokens, None, seed)
    measured: dict[str, Any] = {"texts": texts, "tokens": tokens, "temperature": 1.0}
    for number, (name, case) in enumerate(_cases(np.random.default_rng(seed)).items(), 1):
        mark, config, key = case
        answers = _answers(model, chat, prompts, tokens, mark, seed + number)
        found = _logs(answers, tokenizer, config, [key] * texts)
        fresh = [EngineKey(row.tolist()) for row in config.source.fresh_keys(texts, seed + 100)]
        innocent = _logs(plain, tokenizer, config, fresh)
        measured[name] = {
            "found_at_1e-6": float(np.mean(found < -6)),
            "median_log10_p": float(np.median(found)),
            "weakest_log10_p": float(found.max()),
            "unmarked_smallest_log10_p": float(innocent.min()),
        }
        click.echo(f"{name}: {measured[name]}")
        write_result("interop_transformers", seed=seed, measured=measured)
    click.echo("wrote results/interop_transformers.json")


if __name__ == "__main__":
    main()
