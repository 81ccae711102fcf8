"""Every engine's mark on the real model: is marked text found, and unmarked text left alone?

SmolLM2 answers the same prompts under each engine's mark; what makes a mark that engine's, its
words, equals its own code bit by bit (`tests/engines`). Each answer of the full length is tested
under its key, and answers without a mark under fresh keys of every system.
"""

from __future__ import annotations

import math
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, kstest

from benchmarks.record import write_result
from detect.demo.prompts import held_out_prompts
from detect.text import assess_tokens
from watermark.config import WatermarkConfig
from watermark.engine_settings import engine_config
from watermark.generation.answering import answer_prompts
from watermark.keys import EngineKey
from watermark.tokens import TextTokenizer, load_tokenizer

_VOCABULARY = 49_152
DEPLOYMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "vLLM, one key": ("vllm", {}),
    "vLLM, two keys": ("vllm", {"algorithm": "dual_key_gumbel"}),
    "SGLang": ("sglang", {}),
    "transformers KGW, lefthash": ("transformers-kgw", {"vocab_size": _VOCABULARY}),
    "transformers KGW, selfhash": (
        "transformers-kgw",
        {"vocab_size": _VOCABULARY, "seeding_scheme": "selfhash", "context_width": 4},
    ),
    "transformers SynthID": ("transformers-synthid", {"n_layers": 30, "ngram_len": 5}),
    "Google SynthID": ("google-synthid", {"n_layers": 30, "ngram_len": 5}),
    "SBW, lefthash": ("sbw", {"seeding_scheme": "gpu-simple_1"}),
    "SBW, selfhash": ("sbw", {"seeding_scheme": "gpu-selfhash"}),
    "TextSeal, Gumbel": ("textseal", {"ngram": 2}),
    "TextSeal, two keys": ("textseal", {"ngram": 2, "watermark_type": "textseal"}),
    "three_bricks, openai": ("three-bricks", {"vocab_size": _VOCABULARY, "ngram": 2}),
}
# transformers itself marks only the 40 likeliest tokens there: each has a list of its own.
_TOP_K = {"transformers KGW, selfhash": 40}
_LEVELS = (0.1, 0.01, 0.001)
# Where only decoys give a p-value: enough for 1e-6 would be a million.
_DECOYS = 99_999


def _keys(config: WatermarkConfig, n: int, seed: int) -> list[EngineKey]:
    return [EngineKey(row.tolist()) for row in config.source.fresh_keys(n, seed)]


def _log10_p(
    ids: NDArray[np.int64], config: WatermarkConfig, key: EngineKey, tokenizer: TextTokenizer,
    n_decoys: int,
) -> tuple[float, int]:  # fmt: skip
    result = assess_tokens(
        ids, tokenizer=tokenizer, config=config, key=key, n_decoys=n_decoys, pieces=()
    )
    return result.finding.tail.log10_p, result.finding.n_scored


def _answers(config: WatermarkConfig | None, key: EngineKey | None, **sampling: Any) -> list[Any]:
    prompts = held_out_prompts(sampling.pop("n"))
    answered = answer_prompts("smollm2", prompts, config=config, key=key, **sampling)
    rows = [np.array(row["token_ids"], np.int64) for row in answered.rows]
    return [ids for ids in rows if len(ids) >= sampling["max_new_tokens"]]


def _found(
    config: WatermarkConfig, marked: list[Any], key: EngineKey, tokenizer: TextTokenizer
) -> dict[str, Any]:
    by_decoys = config.source.null == "decoys"
    logs = np.array(
        [_log10_p(ids, config, key, tokenizer, _DECOYS if by_decoys else 0) for ids in marked]
    )
    level = math.log10(1 / (_DECOYS + 1)) if by_decoys else -6.0
    return {
        "n_texts": len(marked),
        "median_scored": float(np.median(logs[:, 1])),
        "median_log10_p": float(np.median(logs[:, 0])),
        "level": 10**level,
        "found": float(np.mean(logs[:, 0] <= level + 1e-9)),
    }


def _left_alone(
    config: WatermarkConfig, plain: list[Any], n_keys: int, tokenizer: TextTokenizer
) -> dict[str, Any]:
    p = []
    for i, ids in enumerate(plain):
        for key in _keys(config, n_keys, 1_000 + i):
            decoys = 999 if config.source.null == "decoys" else 0
            p.append(10 ** _log10_p(ids, config, key, tokenizer, decoys)[0])
    values = np.array(p)
    return {
        "n_p_values": len(values),
        "smallest": float(values.min()),
        # One-sided: a discrete or bounded p-value may be larger than uniform, never smaller.
        "too_small_p_value": float(kstest(values, "uniform", alternative="greater").pvalue),
        "levels": [
            {
                "alpha": alpha,
                "hits": (hits := int((values <= alpha).sum())),
                "binomial_p_value": float(
                    binomtest(hits, len(values), alpha, alternative="greater").pvalue
                ),
            }
            for alpha in _LEVELS
        ],
    }


@click.command()
@click.option("--texts", default=32, show_default=True, help="Answers under each mark.")
@click.option("--tokens", default=200, show_default=True)
@click.option("--keys", default=30, show_default=True, help="Fresh keys for each unmarked answer.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(DEPLOYMENTS)))
def main(texts: int, tokens: int, keys: int, seed: int, only: tuple[str, ...]) -> None:
    """Mark, find, and leave alone."""
    tokenizer = load_tokenizer("smollm2")
    sampling = {"n": texts, "max_new_tokens": tokens, "temperature": 1.0}
    plain = _answers(None, None, seed=seed, top_k=0, **sampling)
    for name in only or DEPLOYMENTS:
        engine, settings = DEPLOYMENTS[name]
        config = engine_config(engine, settings)
        # Of a seed of its own: decoys are drawn from the small ones, and must not be the key.
        key = _keys(config, 1, 1_000_000 + seed)[0]
        top_k = _TOP_K.get(name, 0)
        marked = _answers(config, key, seed=seed + 1, top_k=top_k, **sampling)
        measured = {
            "deployment": name,
            "model": "SmolLM2-135M-Instruct",
            "temperature": 1.0,
            "tokens": tokens,
            "engine": engine,
            "settings": settings,
            "top_k": top_k,
            "marked": _found(config, marked, key, tokenizer),
            "unmarked": _left_alone(config, plain, keys, tokenizer),
        }
        click.echo(f"{name}: {measured['marked']}")
        case = "-".join(name.replace(",", "").lower().split())
        click.echo(f"wrote {write_result('interop', seed=seed, measured=measured, case=case)}")


if __name__ == "__main__":
    main()
