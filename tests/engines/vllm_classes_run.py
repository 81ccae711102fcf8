"""Runs in vLLM's environment: the class against both real interfaces, without a model; JSON out."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessor as InterfaceV1
from vllm.v1.sample.logits_processor import _load_logitsprocs_by_fqcns
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as InterfaceV2
from vllm.v1.worker.gpu.sample.logits_processor.loader import (
    _load_v2_logitsprocs_by_fqcns,
    build_custom_logits_processors_params_validator,
)

NAME = "watermark.serving.vllm:HeirmarkLogitsProcessor"


def _buffer(values: torch.Tensor) -> Any:
    """What is read of StagedWriteTensor and UvaBackedTensor, which need Triton to be written."""
    return SimpleNamespace(gpu=values, np=values.numpy())


def _speculate(loaded: type, key: str, answer: list[int], n_drafts: int) -> list[list[int]]:
    """Mark a step with drafts through the real context class; the tokens that stay in each row."""
    vocabulary, prompt = 64, [9, 9, 9]
    committed = [*prompt, *answer[: len(answer) - n_drafts]]
    tokens = torch.zeros((4, 40), dtype=torch.int32)
    tokens[2, : len(committed)] = torch.tensor(committed, dtype=torch.int32)
    lengths = torch.tensor([0, 0, len(committed), 0], dtype=torch.int32)
    prompts = torch.tensor([0, 0, len(prompt), 0], dtype=torch.int32)
    states = LogitsProcRequestState(
        device=torch.device("cpu"),
        max_num_reqs=4,
        vocab_size=vocabulary,
        all_token_ids=_buffer(tokens),
        prompt_len=_buffer(prompts),
        prefill_len=_buffer(prompts),
        total_len=_buffer(lengths),
    )
    model = SimpleNamespace(seed=0, tokenizer="none", get_vocab_size=lambda: vocabulary)
    config = SimpleNamespace(model_config=model, watermark_config=None)
    processor = loaded(config, states)
    params = SamplingParams(temperature=0.7, top_k=20, extra_args={"heirmark_key_id": key}, seed=5)
    assert processor.add_request(2, params)
    processor.apply_staged_writes()
    n = n_drafts + 1
    fed = [committed[-1], *answer[len(answer) - n_drafts :]] if n_drafts else [committed[-1]]
    context = LogitsContext(
        expanded_idx_mapping=torch.full((n,), 2),
        idx_mapping=torch.tensor([2]),
        idx_mapping_np=np.array([2]),
        expanded_local_pos=torch.arange(n, dtype=torch.int32),
        input_ids=torch.tensor(fed, dtype=torch.int32),
        pos=torch.arange(n) + len(committed) - 1,
        seq_lens_upper_bound_np=np.array([len(committed) + n_drafts]),
    )
    logits = torch.randn((n, vocabulary), generator=torch.Generator().manual_seed(1))
    marked = processor.apply(logits, context)
    return [row.isfinite().nonzero().flatten().tolist() for row in marked]


def main() -> None:
    request = json.load(sys.stdin)
    (one,) = _load_logitsprocs_by_fqcns([NAME])
    (two,) = _load_v2_logitsprocs_by_fqcns([NAME])
    validate = build_custom_logits_processors_params_validator([NAME])
    validate(SamplingParams(temperature=1.0))
    try:
        validate(SamplingParams(temperature=0.0))
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    except Exception as error:
        refusal = f"{type(error).__name__}: {error}"
    reply = {
        "same": one is two,
        "interfaces": [issubclass(one, InterfaceV1), issubclass(two, InterfaceV2)],
        "refusal": refusal,
        "rows": {
            str(n): _speculate(two, request["key"], request["answer"], n) for n in request["drafts"]
        },
    }
    print(json.dumps(reply))


if __name__ == "__main__":
    main()
