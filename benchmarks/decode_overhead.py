"""What a mark costs end to end: tokens decoded by the real model, marked beside unmarked.

The same prompts, batch and number of tokens, by turns in one process; the share of a decoding step
that the mark adds, by the medians of pairs of runs. No answer ends early, so that all runs do the
same work. On an accelerator wall time counts, on a busy processor that of the processor.

    python -m benchmarks.decode_overhead
"""

from __future__ import annotations

import os
import time
from statistics import median
from typing import Any, Final

import click
import torch
from transformers import AutoTokenizer

from benchmarks.record import write_result
from detect.demo.prompts import held_out_prompts
from watermark.config import preset
from watermark.generation.loop import Sampling, chat_prompt, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model

_PRESETS: Final = ("default", "gumbel", "red-green", "tournament")


def _seconds(model: Any, asked: list[list[int]], tokens: int, marker: Marker | None) -> list[float]:
    """Wall and processor seconds of one run."""
    sampling = Sampling(tokens, 1.0, 0, len(asked))
    wall, processor = time.perf_counter(), time.process_time()
    # No token ends an answer.
    sample_answers(model, asked, sampling, end_ids=[], marker=marker)
    return [time.perf_counter() - wall, time.process_time() - processor]


def measure(model: Any, asked: list[list[int]], tokens: int, repeats: int) -> dict[str, Any]:
    """Time one batch size."""
    key = SecretKey(bytes(range(32)))
    markers = {name: Marker(preset(name), [key] * len(asked)) for name in _PRESETS}
    for marker in (None, *markers.values()):
        _seconds(model, asked, 3, marker)
    rounds = []
    for _ in range(repeats):
        # The unmarked run before and after each marked one: what drifts cancels.
        one: dict[str, Any] = {}
        before = _seconds(model, asked, tokens, None)
        for name, marker in markers.items():
            marked = _seconds(model, asked, tokens, marker)
            after = _seconds(model, asked, tokens, None)
            one[name] = {
                clock: 2 * m / (b + a)
                for clock, m, b, a in zip(("wall", "processor"), marked, before, after, strict=True)
            }
            before = after
        rounds.append({"unmarked_seconds": before, "ratio": one})
    return {
        "rounds": rounds,
        "median_ratio": {
            name: {
                clock: median(r["ratio"][name][clock] for r in rounds)
                for clock in ("wall", "processor")
            }
            for name in markers
        },
    }


@click.command()
@click.option("--batches", default="1,8,32", show_default=True)
@click.option("--tokens", default=32, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(batches: str, tokens: int, repeats: int) -> None:
    """Decode."""
    folder, load = resolve_model("smollm2"), os.getloadavg()[0]
    model, chat = load_model(folder), AutoTokenizer.from_pretrained(folder)
    measured: dict[str, Any] = {"tokens": tokens, "threads": torch.get_num_threads()}
    for size in map(int, batches.split(",")):
        asked = [chat_prompt(chat, prompt) for prompt in held_out_prompts(size)]
        measured[f"batch {size}"] = found = measure(model, asked, tokens, repeats)
        click.echo(f"batch {size}: {found['median_ratio']}")
    measured["load_average_before_and_after"] = [load, os.getloadavg()[0]]
    click.echo(f"wrote {write_result('decode_overhead', seed=0, measured=measured)}")


if __name__ == "__main__":
    main()
