"""The part of `benchmarks.serving_llama_cpp` that runs in the library's environment."""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from typing import Any

import llama_cpp
from llama_cpp import Llama

from watermark.serving.llama_cpp import mark_llama
from watermark.serving.policy import load_policy


def _round(llama: Llama, request: dict[str, Any], sampling: dict[str, Any]) -> dict[str, Any]:
    cpu = wall = 0.0
    answers = []
    for i, prompt in enumerate(request["prompts"]):
        llama.set_seed(i)
        tokens = llama.tokenize(prompt.encode(), special=True)
        generated = llama.generate(tokens, **sampling)
        # The first token costs the reading of the prompt.
        ids = [int(next(generated))]
        at = time.process_time(), time.perf_counter()
        ids += [int(token) for token in islice(generated, request["n_tokens"] - 1)]
        cpu += time.process_time() - at[0]
        wall += time.perf_counter() - at[1]
        answers.append(ids)
    n = sum(map(len, answers)) - len(answers)
    return {"n_tokens": n, "cpu_seconds": cpu, "wall_seconds": wall, "token_ids": answers}


def main() -> None:
    request = json.load(sys.stdin)
    llamas = {
        kind: Llama(request["model"], n_ctx=1024, n_threads=1, verbose=False)
        for kind in ("plain", "marked")
    }
    mark_llama(llamas["marked"], load_policy(request["policy"]))
    rounds: list[dict[str, Any]] = []
    for name, sampling in request["loads"].items():
        # Forth and back, so that a machine that gets slower slows both alike.
        for kind in ("plain", "marked", "marked", "plain") * request["repeats"]:
            done = _round(llamas[kind], request, sampling)
            rounds.append({"load": name, "kind": kind, **done})
            print(name, kind, round(done["cpu_seconds"], 2), file=sys.stderr, flush=True)
    print(json.dumps({"rounds": rounds, "version": llama_cpp.__version__}))


if __name__ == "__main__":
    main()
