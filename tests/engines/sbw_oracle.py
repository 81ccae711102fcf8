"""The package sbw's seeds, words, samplers and detector, on CPU; see `tests.engines.oracle`.

Its schemes "gpu-..." are plain torch and run here too, uncompiled. Frozen vectors:
`echo '{"ask": "vectors"}' | .engines/sbw/bin/python tests/engines/sbw_oracle.py`.
"""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import Any

# Before torch: the same functions without a compiler.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
from sbw import batch
from sbw.detector import WatermarkDetector


def _scheme(seeding: str, width: int) -> str:
    """SBW's name; a self-hashing width counts the token itself."""
    if seeding == "lefthash":
        return "gpu-fused-simple_4" if width == 4 else f"gpu-ff-additive_prf-{width}-False"
    return "gpu-fused-selfhash" if width == 3 else f"gpu-ff-anchored_minhash_prf-{width + 1}-True"


def _batch(request: dict[str, Any], n_tokens: int) -> Any:
    scheme = _scheme(request["seeding"], request["width"])
    options = {k: request[k] for k in ("gamma", "delta") if k in request}
    return batch.WatermarkBatch(
        list(range(n_tokens)), seeding_scheme=scheme, hash_key=request["key"], **options
    )


def words(request: dict[str, Any]) -> list[int]:
    """The Philox words that the detector's function draws, before 31 bits become a float."""
    contexts, tokens = torch.tensor(request["contexts"]), torch.tensor(request["tokens"])
    if request["seeding"] == "selfhash":
        contexts = torch.cat([contexts.reshape(len(tokens), -1), tokens[:, None]], dim=1).long()
    drawn = []
    philox = batch._philox4x32_10_compiled

    def recorded(*counter: torch.Tensor) -> Any:
        drawn.append(torch.stack(philox(*counter)))
        return drawn[-1]

    batch._philox4x32_10_compiled = lambda *c: tuple(recorded(*c))
    try:
        batch.philox_at_positions(_batch(request, 1)._compute_seeds(contexts), tokens)
    finally:
        batch._philox4x32_10_compiled = philox
    found: list[int] = drawn[0][:, :, 0].gather(0, (tokens % 4)[None])[0].tolist()
    return found


def _embed(marker: Any, request: dict[str, Any], contexts: Any, logits: Any) -> Any:
    if request["seeding"] == "selfhash":
        if marker.is_fused:
            return marker.apply_watermark_selfsalt_fused(contexts, logits, num_candidates=0)
        return marker.apply_watermark_selfsalt_direct(contexts, logits, num_candidates=0)
    if marker.is_fused:
        return marker.apply_watermark_simple_fused(contexts, logits)
    return marker.apply_watermark_fused(contexts, logits)


def _padded(ids: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(ids, (width, 0))[:, ids.shape[1] :]


def green(request: dict[str, Any]) -> list[list[int]]:
    """Green ids of the whole vocabulary after each context, by the sampler's own function."""
    marker = _batch({**request, "delta": 1.0}, request["vocabulary"])
    contexts = torch.tensor(request["contexts"])
    contexts = _padded(contexts, marker.context_width)
    logits = torch.zeros((len(contexts), request["vocabulary"]))
    biased = _embed(marker, request, contexts, logits)
    return [row.nonzero().squeeze(1).tolist() for row in biased]


def generate(request: dict[str, Any]) -> list[list[int]]:
    """Texts drawn from random logits that SBW has biased."""
    n, vocabulary = request["n"], request["vocabulary"]
    marker = _batch(request, vocabulary)
    generator = torch.Generator().manual_seed(request["seed"])
    ids = torch.zeros((n, 0), dtype=torch.int64)
    for _ in range(request["length"]):
        logits = request["scale"] * torch.randn((n, vocabulary), generator=generator)
        biased = _embed(marker, request, _padded(ids, marker.context_width), logits)
        ids = torch.cat([ids, torch.multinomial(biased.softmax(-1), 1, generator=generator)], 1)
    found: list[list[int]] = ids.tolist()
    return found


def detect(request: dict[str, Any]) -> list[dict[str, Any]]:
    """What SBW's detector says of each text."""
    detector = WatermarkDetector(
        device=torch.device("cpu"),
        tokenizer=SimpleNamespace(bos_token_id=-1),
        vocab=list(range(request["vocabulary"])),
        gamma=request["gamma"],
        seeding_scheme=_scheme(request["seeding"], request["width"]),
        hash_key=request["key"],
        normalizers=[],
    )
    found = [detector.detect(tokenized_text=torch.tensor(text)) for text in request["texts"]]
    kept = ("z_score", "p_value", "num_tokens_scored", "num_green_tokens")
    return [{name: float(f[name]) for name in kept} for f in found]


def vectors() -> dict[str, Any]:
    """A few words of each kind, for `tests/vectors/sbw.json`."""
    tokens = [0, 1, 2, 3, 4, 49_151, 128_255]
    rows = []
    for seeding, contexts in (
        ("lefthash", [[7], [49151, 7], [10, 20, 30, 40], [128255] * 4]),
        ("selfhash", [[], [7], [10, 20, 30], [30, 20, 10], [7, 7, 49151], [1, 2, 3, 4, 5]]),
    ):
        for key in (15485863, -5, 2**63 - 1):
            for c in contexts:
                request = {"seeding": seeding, "width": len(c), "key": key, "tokens": tokens}
                found = words({**request, "contexts": [c] * len(tokens)})
                rows.append({"seeding": seeding, "key": key, "context": c, "words": found})
    return {"source": "sbw 1.0.0", "tokens": tokens, "rows": rows}


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    answers = {"words": words, "green": green, "generate": generate, "detect": detect}
    if request["ask"] == "vectors":
        reply = vectors()
    else:
        reply = {"reply": [answers[request["ask"]](one) for one in request["batches"]]}
    sys.stdout.write("\n" + json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
