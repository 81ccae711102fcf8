"""Runs in vLLM's environment: one offline engine, all that is asked of it, JSON out.

The key-value cache is made so small that requests are preempted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from vllm import LLM, SamplingParams
from vllm.sampling_params import BeamSearchParams, StructuredOutputsParams

PROCESSOR = "watermark.serving.vllm:HeirmarkLogitsProcessor"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def _params(key: str, **more: Any) -> SamplingParams:
    chosen = {"temperature": 1.0, "max_tokens": 70, **more}
    return SamplingParams(extra_args={"heirmark_key_id": key}, **chosen)


def _ids(outputs: Sequence[Any]) -> list[list[int]]:
    return [list(answer.token_ids) for output in outputs for answer in output.outputs]


def _refusal(llm: LLM, params: SamplingParams | BeamSearchParams) -> str:
    try:
        if isinstance(params, BeamSearchParams):
            llm.beam_search([{"prompt": "Hello"}], params)
        else:
            llm.generate("Hello", params, use_tqdm=False)
    except ValueError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    request = json.load(sys.stdin)
    keys, prompts = request["keys"], request["prompts"]
    llm = LLM(
        request["model"],
        enforce_eager=True,
        max_model_len=384,
        max_num_seqs=16,
        block_size=32,
        num_gpu_blocks_override=request["blocks"],
        disable_log_stats=False,
        generation_config="vllm",
        logits_processors=[PROCESSOR],
        # Where line breaks are allowed, this small model goes on with them, marked or not.
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
    )
    variants: list[dict[str, Any]] = [
        {}, {"top_k": 40}, {"top_p": 0.95}, {"min_p": 0.02, "temperature": 1.2},
        {"repetition_penalty": 1.1}, {"seed": 7},
    ]  # fmt: skip
    asked = [_params(keys[i % len(keys)], **variants[i % 6]) for i in range(len(prompts))]
    reply: dict[str, Any] = {"answers": _ids(llm.generate(prompts, asked, use_tqdm=False))}
    reply["preemptions"] = sum(
        int(m.value) for m in llm.get_metrics() if m.name == "vllm:num_preemptions"
    )
    reply["several"] = _ids(llm.generate(prompts[:1], _params(keys[0], n=3), use_tqdm=False))
    seeded = [_params(keys[1], seed=11, max_tokens=24)] * 2
    reply["seeded"] = _ids(llm.generate([prompts[0]] * 2, seeded, use_tqdm=False))
    schema = StructuredOutputsParams(json=SCHEMA)
    constrained = [_params(k, structured_outputs=schema, max_tokens=60) for k in keys]
    outputs = llm.generate(prompts[: len(keys)], constrained, use_tqdm=False)
    reply["constrained"] = [output.outputs[0].text for output in outputs]
    reply["constrained_ends"] = [output.outputs[0].finish_reason for output in outputs]
    reply["refusals"] = {
        "unknown key": _refusal(llm, _params("nobody")),
        "greedy": _refusal(llm, _params(keys[0], temperature=0.0)),
        "own key": _refusal(llm, SamplingParams(extra_args={"heirmark_key": "31337"})),
        "opt out": _refusal(llm, SamplingParams(extra_args={"heirmark_opt_out": True})),
        "native opt out": _refusal(llm, SamplingParams(watermarking=False)),
        "beams": _refusal(llm, BeamSearchParams(beam_width=2, max_tokens=4, temperature=1.0)),
    }
    print(json.dumps(reply))


if __name__ == "__main__":
    main()
