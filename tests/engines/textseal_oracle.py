"""TextSeal's own code (PyPI 0.0.5), asked for draws, marked text and its verdict.

Its packages are entered without their `__init__`, which would want a sentence encoder, BLEU and
more; the modules asked are its own, whole.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(importlib.util.find_spec("textseal").submodule_search_locations[0])
for _name in ("", ".common", ".common.watermark", ".posthoc"):
    _package = types.ModuleType("textseal" + _name)
    _package.__path__ = [str(_ROOT.joinpath(*_name.split(".")[1:]))]
    sys.modules["textseal" + _name] = _package

from textseal.common.watermark.core import WatermarkConfig  # noqa: E402
from textseal.common.watermark.pseudorandom import prf_binary, prf_uniform  # noqa: E402
from textseal.posthoc.detector import build_detector  # noqa: E402
from textseal.posthoc.generator import GreenlistGenerator, GumbelmaxGenerator  # noqa: E402

_GENERATORS = {"gumbelmax": GumbelmaxGenerator, "greenlist": GreenlistGenerator}
_METHODS = {"gumbelmax": "uniform", "greenlist": "binary"}


def _signed(key: int) -> int:
    return key - (1 << 64) if key >= 1 << 63 else key


def _grid(request: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All pairs under each key: contexts (K, n, h), tokens and keys (K, n)."""
    keys = torch.tensor([_signed(k) for k in request["keys"]])
    contexts, tokens = torch.tensor(request["contexts"]), torch.tensor(request["tokens"])
    shape = (len(keys), len(tokens))
    return contexts.expand(*shape, -1), tokens.expand(shape), keys[:, None].expand(shape)


def uniforms(request: dict[str, Any]) -> list[list[float]]:
    """Return the draws of all pairs under each key."""
    return prf_uniform(*_grid(request)).tolist()


def green(request: dict[str, Any]) -> list[list[int]]:
    """Tell which pairs are green under each key."""
    return prf_binary(*_grid(request), request["gamma"]).tolist()


def _config(request: dict[str, Any]) -> WatermarkConfig:
    kind = request["type"]
    return WatermarkConfig(
        _signed(request["key"]), request["context_width"], kind, _METHODS[kind],
        gamma=request.get("gamma", 0.5),
    )  # fmt: skip


def generate(request: dict[str, Any]) -> list[list[int]]:
    """Write marked answers from random logits, by the generator's own `sample_next`."""
    vocab, h = request["vocabulary"], request["context_width"]
    settings = types.SimpleNamespace(
        max_position_embeddings=4096, eos_token_id=0, pad_token_id=0, vocab_size=vocab,
        _name_or_path="",
    )  # fmt: skip
    model = types.SimpleNamespace(config=settings)
    generator = _GENERATORS[request["type"]](model, None, _config(request))
    texts = torch.tensor(request["prompts"])
    torch.manual_seed(request["seed"])
    for _ in range(request["n_tokens"]):
        logits = 2 * torch.randn(len(texts), vocab)
        chosen = generator.sample_next(logits, texts[:, -h:], temperature=1.0, top_p=1.0)
        texts = torch.cat([texts, chosen[:, None]], dim=1)
    return texts[:, len(request["prompts"][0]) :].tolist()


class _Ids:
    """What the detector takes for a tokenizer: texts are ids already."""

    vocab_size = 1 << 32

    def encode(self, text: list[int], add_special_tokens: bool = False) -> list[int]:
        return list(text)

    def decode(self, ids: list[int]) -> list[int]:
        return ids

    add_special_tokens = None


def detect(request: dict[str, Any]) -> list[dict[str, float]]:
    """Return the detector's result for each text, distinct pairs only."""
    detector = build_detector(_Ids(), _config(request))
    found = []
    for text in request["texts"]:
        scores = detector.get_scores_by_t([text], scoring_method="v2", seen_windows=set())
        p = float(detector.get_pvalues(scores)[0])
        found.append({"n": len(scores[0]), "score": float(sum(scores[0])), "p": p})
    return found


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    kinds = {"uniforms": uniforms, "green": green, "generate": generate, "detect": detect}
    print(json.dumps({kind: make(asked[kind]) for kind, make in kinds.items() if kind in asked}))
