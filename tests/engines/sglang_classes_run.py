"""Runs in SGLang's environment: the processor on SGLang's own base class, parameters and call.

The engine needs CUDA and Triton. Real are `CustomLogitProcessor`, `SamplingParams` and the function
of its sampler that calls processors; the request, the batch, the settings and the abort are
doubles with the attributes that are used.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import logging
import sys
import types
import weakref
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(importlib.util.find_spec("sglang").submodule_search_locations[0])
_FOLDERS = {
    "sglang": _ROOT,
    "sglang.srt": _ROOT / "srt",
    "sglang.srt.sampling": _ROOT / "srt" / "sampling",
    "sglang.srt.managers": _ROOT / "srt" / "managers",
    "sglang.kernels": _ROOT / "kernels",
}
for _name, _folder in _FOLDERS.items():
    sys.modules[_name] = types.ModuleType(_name)
    sys.modules[_name].__path__ = [str(_folder)]
# Settings and abort of a running engine.
_context = types.ModuleType("sglang.srt.runtime_context")
_schedule = types.SimpleNamespace(disable_overlap_schedule=True)
_spec = types.SimpleNamespace(speculative_algorithm=None)
_context.get_schedule = lambda: _schedule
_context.get_spec = lambda: _spec
_batches = types.ModuleType("sglang.srt.managers.schedule_batch")


class _Abort:
    def __init__(self, message: str, status_code: int, err_type: str) -> None:
        self.message, self.status_code, self.err_type = message, status_code, err_type


_batches.FINISH_ABORT = _Abort
_splits = types.ModuleType("sglang.kernels.ops.sampling.textseal_selector")
_splits.watermark_selector_num_splits = lambda vocab_size: 1
for _name in ("sglang.kernels.ops", "sglang.kernels.ops.sampling"):
    sys.modules[_name] = types.ModuleType(_name)
for _module in (_context, _batches, _splits):
    sys.modules[_module.__name__] = _module

from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor  # noqa: E402
from sglang.srt.sampling.sampling_params import SamplingParams  # noqa: E402

from watermark.channels import ReasoningChannel  # noqa: E402
from watermark.serving import sglang as adapter  # noqa: E402
from watermark.serving.policy import current_policy  # noqa: E402
from watermark.serving.sglang import HeirmarkLogitProcessor  # noqa: E402


def _applied() -> Any:
    """SGLang's own `apply_custom_logit_processor`, without the module that holds it."""
    source = (_ROOT / "srt" / "layers" / "sampler.py").read_text()
    found = next(
        node
        for node in ast.parse(source).body
        if getattr(node, "name", "") == "apply_custom_logit_processor"
    )
    names: dict[str, Any] = {
        "torch": torch, "SamplingBatchInfo": object, "logger": logging.getLogger("sglang"),
    }  # fmt: skip
    exec(compile(ast.Module([found], []), "sampler.py", "exec"), names)
    return names["apply_custom_logit_processor"]


class Request:
    """SGLang's Req, as far as processors see it."""

    def __init__(self, rid: str, params: SamplingParams) -> None:
        self.rid, self.output_ids, self.to_finish = rid, array("q"), None
        if isinstance(params.custom_params, dict):
            params.custom_params = {**params.custom_params, "__req__": weakref.proxy(self)}
        self.sampling_params = params


class Batch:
    """SGLang's SamplingBatchInfo, as far as its call of processors reads it."""

    device = "cpu"

    def __init__(self, requests: list[Request]) -> None:
        rows = list(range(len(requests)))
        processor = CustomLogitProcessor.from_str(HeirmarkLogitProcessor.to_str())
        entry = types.SimpleNamespace(processor=processor, rows=rows, indices=torch.tensor(rows))
        self.custom_logit_processor = {0: entry}
        self.custom_params = [r.sampling_params.custom_params for r in requests]

    def __len__(self) -> int:
        return len(self.custom_params)


def _request(i: int, asked: dict[str, Any]) -> Request:
    params = SamplingParams(**asked)
    params.verify(1 << 20)
    return Request(f"r{i}", params)


def generate(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Draw answers from random logits as SGLang's sampler would: all rows in one batch."""
    apply, vocabulary = _applied(), request["vocabulary"]
    requests = [_request(i, asked) for i, asked in enumerate(request["requests"])]
    random = torch.Generator().manual_seed(request["seed"])
    for _ in range(request["n_tokens"]):
        logits = 2 * torch.randn((len(requests), vocabulary), generator=random)
        apply(logits, Batch(requests))
        temperatures = torch.tensor([r.sampling_params.temperature for r in requests])
        for one, row in zip(requests, logits / temperatures[:, None], strict=True):
            if one.sampling_params.top_k == 1:
                one.output_ids.append(int(row.argmax()))
            else:
                drawn = torch.multinomial(row.softmax(0), 1, generator=random)
                one.output_ids.append(int(drawn))
    return [_outcome(one) for one in requests]


def _outcome(request: Request) -> dict[str, Any]:
    reason = request.to_finish
    refusal = None if reason is None else [reason.message, reason.status_code]
    return {"ids": list(request.output_ids), "refusal": refusal}


def one_step(request: dict[str, Any]) -> dict[str, Any]:
    """Mark one step of one request; what it holds, and how many tokens are left."""
    _schedule.disable_overlap_schedule = request.get("no_overlap", True)
    _spec.speculative_algorithm = request.get("speculative")
    one = _request(0, request["asked"])
    one.output_ids.extend(request["ids"])
    logits = torch.randn((1, 50), generator=torch.Generator().manual_seed(0))
    if request.get("nan"):
        logits[0, 3] = torch.nan
    policy = current_policy()
    border = request.get("border")
    reasoning = None if border is None else ReasoningChannel((border,), (border + 1,))
    config = replace(
        policy.config, min_entropy=request.get("min_entropy", 0.0), reasoning=reasoning
    )
    adapter.current_policy = lambda: replace(policy, config=config)
    _applied()(logits, Batch([one]))
    adapter.current_policy = current_policy
    _schedule.disable_overlap_schedule, _spec.speculative_algorithm = True, None
    left = logits[0].isfinite().nonzero().flatten().tolist()
    return {**_outcome(one), "left": left}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    reply = {
        "class": HeirmarkLogitProcessor.to_str(),
        "generate": generate(asked["generate"]),
        "steps": {name: one_step(step) for name, step in asked["steps"].items()},
    }
    print(json.dumps(reply))
