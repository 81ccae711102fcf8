"""Runs in vLLM's environment: V1's real batch under asynchronous scheduling; JSON out.

vLLM switches this scheduling off on processors. So a step is played with the runner's own batch:
the last token is a placeholder until the copy of the step before has arrived.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessors, _load_logitsprocs_by_fqcns
from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch

NAME = "watermark.serving.vllm:HeirmarkLogitsProcessor"
VOCABULARY = 64


def _batch() -> InputBatch:
    (loaded,) = _load_logitsprocs_by_fqcns([NAME])
    model = SimpleNamespace(seed=0, tokenizer="none", get_vocab_size=lambda: VOCABULARY)
    config: Any = SimpleNamespace(model_config=model, watermark_config=None)
    return InputBatch(
        max_num_reqs=4,
        max_model_len=64,
        max_num_batched_tokens=64,
        device=torch.device("cpu"),
        vocab_size=VOCABULARY,
        block_sizes=[16],
        max_num_blocks_per_req=[4],
        logitsprocs=LogitsProcessors([loaded(config, torch.device("cpu"), False)]),
        logitsprocs_need_output_token_ids=True,
    )


def _put(batch: InputBatch, name: str, key: str, answer: list[int]) -> list[int]:
    params = SamplingParams(temperature=1.0, extra_args={"heirmark_key_id": key}, seed=5)
    generator = torch.Generator().manual_seed(5)
    state = CachedRequestState(name, [9, 9], [], params, generator, ([1],), 2, list(answer))
    batch.add_request(state)
    return state.output_token_ids


def _marked(batch: InputBatch) -> list[list[int]]:
    logits = torch.randn((2, VOCABULARY), generator=torch.Generator().manual_seed(1))
    for processor in batch.sampling_metadata.logitsprocs.all:
        logits = processor.apply(logits)
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def _steps(answers: dict[str, list[int]], *, is_async: bool) -> list[list[list[int]]]:
    """Mark a step, and two more after the tokens of the one before have arrived."""
    batch = _batch()
    live = [_put(batch, key, key, answer[:-2]) for key, answer in answers.items()]
    batch.refresh_metadata()
    ends = torch.tensor([answer[-2:] for answer in answers.values()], dtype=torch.int32)
    found = [_marked(batch)]
    for step in range(2):
        arrived = ends[:, step : step + 1]
        for output, token in zip(live, arrived.flatten().tolist(), strict=True):
            output.append(-1 if is_async else token)
        if is_async:
            # What stands in the batch is not known yet, and is no context.
            found.append(_marked(batch))
            # In the step before, the rows stood in another order.
            batch.prev_req_id_to_index = {name: 1 - i for i, name in enumerate(answers)}
            ready: Any = SimpleNamespace(synchronize=lambda: None)
            batch.set_async_sampled_token_ids(arrived.flip(0), ready)
            batch.refresh_metadata()
            batch.update_async_output_token_ids()
        else:
            batch.refresh_metadata()
        found.append(_marked(batch))
    return found


def main() -> None:
    answers = json.load(sys.stdin)["answers"]
    reply = {name: _steps(answers, is_async=name == "async") for name in ("synchronous", "async")}
    print(json.dumps(reply))


if __name__ == "__main__":
    main()
