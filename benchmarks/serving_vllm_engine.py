"""The part of `benchmarks.serving_vllm` that runs in vLLM's environment: JSON in, JSON out.

Two engines stand side by side, one with the processor and one as vLLM comes, and answer the same
load in turns. The machine is shared, so that besides wall time the processor time of the engine's
processes is counted.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import psutil
import vllm
from vllm import LLM, SamplingParams

PROCESSOR = "watermark.serving.vllm:HeirmarkLogitsProcessor"


def _engine(request: dict[str, Any], *, marked: bool) -> LLM:
    return LLM(
        request["model"],
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=64,
        disable_log_stats=True,
        generation_config="vllm",
        enable_prefix_caching=False,
        logits_processors=[PROCESSOR] if marked else None,
    )


def _cpu_seconds() -> float:
    children = psutil.Process().children(recursive=True)
    times = [child.cpu_times() for child in children]
    return sum(t.user + t.system for t in times)


def _round(llm: LLM, request: dict[str, Any], sampling: dict[str, Any], n: int) -> dict[str, Any]:
    prompts = [request["prompts"][i % len(request["prompts"])] for i in range(n)]
    keys = request["keys"]
    asked = [
        SamplingParams(extra_args={"heirmark_key_id": keys[i % len(keys)]}, **sampling)
        for i in range(n)
    ]
    cpu, wall = _cpu_seconds(), time.perf_counter()
    outputs = llm.generate(prompts, asked, use_tqdm=False)
    ids = [list(output.outputs[0].token_ids) for output in outputs]
    return {
        "n_tokens": sum(map(len, ids)),
        "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": _cpu_seconds() - cpu,
        "token_ids": ids,
    }


def main() -> None:
    request = json.load(sys.stdin)
    engines = {kind: _engine(request, marked=kind == "marked") for kind in ("plain", "marked")}
    rounds: list[dict[str, Any]] = []
    for name, sampling in request["loads"].items():
        for llm in engines.values():
            _round(llm, request, {**sampling, "max_tokens": 4}, request["n_requests"])
        # Forth and back, so that a machine that gets slower slows both alike.
        for kind in ("plain", "marked", "marked", "plain") * request["repeats"]:
            done = _round(engines[kind], request, sampling, request["n_requests"])
            rounds.append({"load": name, "kind": kind, **done})
            print(name, kind, round(done["cpu_seconds"], 2), file=sys.stderr, flush=True)
    failed = 0
    if request["n_many"]:
        short = {"temperature": 1.0, "max_tokens": request["many_tokens"]}
        many = _round(engines["marked"], request, short, request["n_many"])
        failed = sum(not ids for ids in many["token_ids"])
    print(json.dumps({"rounds": rounds, "failed": failed, "vllm": vllm.__version__}))


if __name__ == "__main__":
    main()
