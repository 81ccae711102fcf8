"""Runs in vLLM's environment: the same prompts in engines of several settings; JSON in and out."""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm import LLM, SamplingParams

PROCESSOR = "watermark.serving.vllm:HeirmarkLogitsProcessor"


def _counted(llm: LLM, name: str) -> int:
    return sum(int(m.value) for m in llm.get_metrics() if m.name == f"vllm:{name}")


def _answer(llm: LLM, asked: dict[str, Any]) -> list[list[int]]:
    params = [
        SamplingParams(extra_args={"heirmark_key_id": key}, **asked["sampling"])
        for key in asked["keys"]
    ]
    outputs = llm.generate(asked["prompts"], params, use_tqdm=False)
    return [list(answer.token_ids) for output in outputs for answer in output.outputs]


def main() -> None:
    request = json.load(sys.stdin)
    replies = {}
    for name, options in request["engines"].items():
        llm = LLM(
            request["model"],
            enforce_eager=True,
            max_model_len=384,
            max_num_seqs=16,
            block_size=32,
            disable_log_stats=False,
            generation_config="vllm",
            logits_processors=[PROCESSOR],
            **options,
        )
        replies[name] = {
            "rounds": [_answer(llm, asked) for asked in request["rounds"]],
            "prefix_hits": _counted(llm, "prefix_cache_hits"),
            "async_scheduling": llm.llm_engine.vllm_config.scheduler_config.async_scheduling,
        }
        del llm
    print(json.dumps(replies))


if __name__ == "__main__":
    main()
