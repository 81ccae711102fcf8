"""SGLang's own watermark code, asked for words, marked text and its verdict.

Its `watermarking` folder is imported alone, as its README says that it can be: the engine itself
does not run without CUDA. Words and verdicts come from its detector, text from `WatermarkState`,
which is what its sampler calls (here on its CPU path, in PyTorch).
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

_FOLDER = importlib.util.find_spec("sglang").submodule_search_locations[0]
sys.path.insert(0, str(Path(_FOLDER) / "srt" / "sampling"))
# Only the size of a Triton kernel's buffers, which the CPU path does not read.
_kernels = types.ModuleType("sglang.kernels.ops.sampling.textseal_selector")
_kernels.watermark_selector_num_splits = lambda vocab_size: 1
for name in ("sglang", "sglang.kernels", "sglang.kernels.ops", "sglang.kernels.ops.sampling"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[_kernels.__name__] = _kernels

from watermarking import WatermarkDetector  # noqa: E402
from watermarking.config import parse_watermark_key  # noqa: E402
from watermarking.core import WatermarkState  # noqa: E402
from watermarking.detector import hash_context, position_coin, watermark_hash  # noqa: E402


def words(request: dict[str, Any]) -> list[list[int]]:
    """Return the words of all pairs under each key, of the one that its coin chooses."""
    p = request["mixing_probability"]
    pairs = list(zip(request["contexts"], request["tokens"], strict=True))
    found = []
    for key in request["keys"]:
        keys = [parse_watermark_key(f"{k:x}") for k in key]
        row = []
        for context, token in pairs:
            hashed = hash_context(context)
            is_b = p is not None and position_coin(*keys, hashed) >= int(p * (1 << 32))
            row.append(watermark_hash(keys[is_b], hashed, token))
        found.append(row)
    return found


def generate(request: dict[str, Any]) -> list[list[int]]:
    """Write marked answers from random logits; key and key_b are the server's."""
    key, key_b = ([f"{k:x}" for k in request["key"]] + [None])[:2]
    n, vocab, h = len(request["prompts"]), request["vocabulary"], request["context_width"]
    state = WatermarkState(
        max_num_reqs=n, context_window=h, max_contexts_per_req=4096, key=key, key_b=key_b,
        mixing_probability=request["mixing_probability"] or 0.5, enforce_all=True, device="cpu",
    )  # fmt: skip
    rows = torch.arange(n)
    state.init_from_prompt(rows, [p[-h:] for p in request["prompts"]])
    ones = torch.ones(n, 1)
    sampling = types.SimpleNamespace(
        has_watermark_candidates=True, max_top_k=vocab, temperatures=ones,
        top_ks=torch.full((n,), vocab), top_ps=ones[:, 0], min_ps=0 * ones[:, 0],
        watermark_keys=None, watermark_context_windows=None, watermark_enabled=None,
    )  # fmt: skip
    random = torch.Generator().manual_seed(request["seed"])
    answers = []
    for _ in range(request["n_tokens"]):
        logits = 2 * torch.randn(n, vocab, generator=random)
        state.force(logits, rows, sampling)
        chosen = torch.multinomial(logits.softmax(dim=1), 1, generator=random)[:, 0]
        state.append(rows, chosen)
        answers.append(chosen)
    return torch.stack(answers, dim=1).tolist()


def detect(request: dict[str, Any]) -> list[dict[str, float]]:
    """Return the detector's combined result for each text."""
    key, key_b = ([f"{k:x}" for k in request["key"]] + [None])[:2]
    detector = WatermarkDetector(
        key, key_b=key_b, mixing_probability=request["mixing_probability"] or 0.5,
        context_window=request["context_width"],
    )  # fmt: skip
    found = [detector.detect_tokens(text).combined for text in request["texts"]]
    return [{"n": f.num_contexts, "score": f.score, "log_p": f.log_p_value} for f in found]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    kinds = {"words": words, "generate": generate, "detect": detect}
    print(json.dumps({kind: make(asked[kind]) for kind, make in kinds.items() if kind in asked}))
