"""Does the mark change the text? Perplexity of marked and unmarked answers under the teacher.

Each token's probability under the unmarked, untruncated model at temperature 1 is noted while it
is drawn. H0 for an unbiased scheme: the mean negative log-likelihood of a token, averaged within
answers, equals that of unmarked answers to the same prompts (paired by prompt).
"""

from __future__ import annotations

import math
from typing import Any

import click
import numpy as np
from transformers import AutoTokenizer

from benchmarks.record import write_result
from detect.demo.prompts import held_out_prompts
from watermark.config import preset
from watermark.generation.loop import Answer, Sampling, chat_prompt, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model

PRESETS = ("default", "gumbel", "tournament")


def _nll(answer: Answer) -> float:
    return -float(np.mean(answer.log_probs)) if answer.log_probs else math.nan


def _interval(values: np.ndarray) -> dict[str, float]:
    mean, error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    return {"mean": mean, "low_95": mean - 1.96 * error, "high_95": mean + 1.96 * error}


@click.command()
@click.option("--answers", "n_answers", default=500, show_default=True)
@click.option("--tokens", default=32, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(n_answers: int, tokens: int, seed: int) -> None:
    """Compare perplexities."""
    folder = resolve_model("smollm2")
    model, chat = load_model(folder), AutoTokenizer.from_pretrained(folder)
    prompts = [chat_prompt(chat, p) for p in held_out_prompts(n_answers)]

    def draw(marker: Marker | None, seed: int) -> np.ndarray:
        sampling = Sampling(tokens, temperature=1.0, top_k=50, seed=seed)
        answers = sample_answers(model, prompts, sampling, end_ids=[2], marker=marker)
        return np.array([_nll(a) for a in answers])

    unmarked = draw(None, seed)
    measured: dict[str, Any] = {
        "n_answers": n_answers,
        "max_new_tokens": tokens,
        "temperature": 1.0,
        "top_k": 50,
        "unmarked": {
            "nll": _interval(unmarked[np.isfinite(unmarked)]),
            "perplexity": math.exp(np.nanmean(unmarked)),
        },
    }
    # The key is secret in use; here it is derived from the seed, so that the run can be repeated.
    key = SecretKey(np.random.default_rng(seed).bytes(32))
    for name in PRESETS:
        marked = draw(Marker(preset(name), key), seed + 1)
        both = np.isfinite(marked) & np.isfinite(unmarked)
        measured[name] = {
            "nll": _interval(marked[both]),
            "perplexity": math.exp(marked[both].mean()),
            "nll_difference": _interval(marked[both] - unmarked[both]),
            "unbiased": preset(name).scheme.unbiased,
        }
        click.echo(f"{name}: {measured[name]}")
    click.echo(f"wrote {write_result('quality', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
