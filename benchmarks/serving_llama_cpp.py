"""What does marking cost inside llama-cpp-python, and is every answer found?

The real GGUF file answers the same prompts in two Llamas side by side, one marked and one as the
library comes, in turns: the ratio of tokens per second of processor time, and of wall time. The
marked answers are then read under their own key and under another.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.record import write_result
from benchmarks.served import paired_speeds, write_policy
from detect.text import assess_tokens
from watermark.config import WatermarkConfig, preset
from watermark.keys import SecretKey
from watermark.models import find_smollm2_gguf, resolve_model
from watermark.tokens import TextTokenizer, load_tokenizer

ROOT = Path(__file__).parents[1]
TOPICS = ("a lighthouse", "a clockmaker", "an old ship", "a market", "a river", "a winter")
# The names of Llama.generate.
LOADS: dict[str, dict[str, Any]] = {
    "temperature 1": {"temp": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "top-p 0.9": {"temp": 1.0, "top_k": 0, "top_p": 0.9, "min_p": 0.0},
    "the library's own": {},
}


@click.command()
@click.option("--tokens", default=100, show_default=True, help="Tokens of each answer.")
@click.option("--repeats", default=3, show_default=True, help="Rounds forth and back.")
def main(tokens: int, repeats: int) -> None:
    """Run both, then detect."""
    tokenizer = load_tokenizer(resolve_model("smollm2"))
    config = preset("default").bound_to(tokenizer.fingerprint)
    keys = {"own": SecretKey.generate(), "other": SecretKey.generate()}
    start, end = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    with tempfile.TemporaryDirectory() as temporary:
        policy_file = write_policy(Path(temporary), config, {"own": keys["own"]}, default="own")
        request = {
            "model": str(find_smollm2_gguf()),
            "policy": str(policy_file),
            "prompts": [f"{start}Tell me a long story about {topic}.{end}" for topic in TOPICS],
            "loads": LOADS,
            "n_tokens": tokens,
            "repeats": repeats,
        }
        done = subprocess.run(
            [
                ROOT / ".engines" / "llama_cpp" / "bin" / "python",
                Path(__file__).with_name("serving_llama_cpp_engine.py"),
            ],
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
    reply = json.loads(done.stdout.splitlines()[-1])
    measured: dict[str, Any] = {
        "llama_cpp_python": reply["version"], "tokens": tokens, "repeats": repeats,
        "prompts": len(TOPICS),
    }  # fmt: skip
    for load in LOADS:
        rounds = [r for r in reply["rounds"] if r["load"] == load]
        answers = [ids for r in rounds if r["kind"] == "marked" for ids in r["token_ids"]]
        readings = {
            name: [_log10_p(ids, tokenizer, config, key) for ids in answers]
            for name, key in keys.items()
        }
        measured[load] = {
            "cpu": _costs(rounds, "cpu_seconds"),
            "wall": _costs(rounds, "wall_seconds"),
            "answers": len(answers),
            "own_log10_p_median": median(readings["own"]),
            "own_below_1e-6": sum(p < -6 for p in readings["own"]),
            "other_log10_p_smallest": min(readings["other"]),
        }
    click.echo(json.dumps(measured, indent=2))
    click.echo(f"wrote {write_result('serving_llama_cpp', seed=0, measured=measured)}")


def _log10_p(
    ids: list[int], tokenizer: TextTokenizer, config: WatermarkConfig, key: SecretKey
) -> float:
    pieces = ("",) * len(ids)
    result = assess_tokens(
        np.array(ids), tokenizer=tokenizer, config=config, key=key, pieces=pieces
    )
    return result.finding.tail.log10_p


def _costs(rounds: list[dict[str, Any]], clock: str) -> dict[str, Any]:
    speeds = paired_speeds(rounds, clock)
    return {**speeds.to_dict(), "ratio": median(speeds.ratios)}


if __name__ == "__main__":
    main()
