"""The part of `benchmarks.truncation` that runs in vLLM's environment: JSON in, JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

from watermark.serving.truncation import Truncation, cutoffs, stack_truncations


def _logits(rows: int, vocabulary: int) -> torch.Tensor:
    """Draw logits whose nucleus of 0.9 is a tenth of the vocabulary: nothing is easy about them."""
    return torch.randn((rows, vocabulary), generator=torch.Generator().manual_seed(0)) * 2.5


def _milliseconds(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Any]:
    """Time calls in turns; processor time, since the machine may have other work."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(1e3 * (time.process_time() - start))
    result: dict[str, Any] = {name: round(median(t), 2) for name, t in times.items()}
    ratios = [a / b for a, b in zip(times["engine"], times["ours"], strict=True)]
    return {**result, "engine_by_ours": round(median(ratios), 1)}


def main() -> None:
    request = json.load(sys.stdin)
    torch.set_num_threads(1)
    reply: dict[str, Any] = {}
    for vocabulary in request["vocabularies"]:
        logits = _logits(request["rows"], vocabulary)
        alone = torch.full_like(logits, -torch.inf)
        alone[:, 7] = 0.0
        for name, (k, p) in request["cuts"].items():
            cut = stack_truncations([Truncation(k, p)] * len(logits), vocabulary)
            top_k = cut[:, 0].int() if k else None
            top_p = cut[:, 1].float() if p < 1 else None

            def engine(rows: torch.Tensor, top_k: Any = top_k, top_p: Any = top_p) -> torch.Tensor:
                k_of_rows = None if top_k is None else top_k.clone()
                return apply_top_k_top_p_pytorch(rows.clone(), k_of_rows, top_p, True)

            calls: dict[str, Callable[[], Any]] = {
                "engine": lambda logits=logits, engine=engine: engine(logits),
                "engine_after_us": lambda alone=alone, engine=engine: engine(alone),
                "ours": lambda logits=logits, cut=cut: cutoffs(logits, cut),
            }
            same = (engine(logits).isfinite() == (logits >= cutoffs(logits, cut)[:, None])).float()
            times = _milliseconds(calls, request["repeats"])
            reply[f"{name}, {vocabulary}"] = {**times, "same_tokens": float(same.mean())}
    print(json.dumps(reply))


if __name__ == "__main__":
    main()
