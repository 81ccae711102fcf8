"""Google's synthid-text says what its g-values are, marks tokens and scores them.

Runs where the package is importable: the release 0.2.1 (whose hash has a table, and is that of
transformers), or, with "checkout" in the request, a clone of the repository.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

_TABLE = {"sampling_table_size": 65_536, "sampling_table_seed": 0}


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    if "checkout" in request:
        sys.path.insert(0, request["checkout"] + "/src")
    print(json.dumps({name: _ASKED[name](request) for name in request["want"]}))


def _processor(request: dict[str, Any], top_k: int = 40) -> Any:
    import torch
    from synthid_text.logits_processing import SynthIDLogitsProcessor

    known = inspect.signature(SynthIDLogitsProcessor.__init__).parameters
    return SynthIDLogitsProcessor(
        ngram_len=request["ngram_len"],
        keys=request["keys"],
        context_history_size=1024,
        temperature=1.0,
        top_k=top_k,
        device=torch.device("cpu"),
        **{k: v for k, v in _TABLE.items() if k in known},
    )


def _has_table(request: dict[str, Any]) -> bool:
    return hasattr(_processor(request), "sampling_table")


def _g_values(request: dict[str, Any]) -> list[str]:
    """The g-values of every window of the text, a string of digits for each."""
    import torch

    found = _processor(request).compute_g_values(torch.tensor([request["token_ids"]]))
    return ["".join(map(str, row)) for row in found[0].tolist()]


def _marked(request: dict[str, Any]) -> list[int]:
    """Tokens drawn from random logits, marked."""
    import torch

    generator = torch.Generator().manual_seed(request["seed"])
    processor, ids = _processor(request, request["vocabulary"]), torch.zeros((1, 1)).long()
    for _ in range(request["n"]):
        logits = 1.5 * torch.randn(1, request["vocabulary"], generator=generator)
        scores, indices, _ = processor.watermarked_call(ids, logits)
        drawn = torch.multinomial(scores.softmax(dim=1), 1, generator=generator)
        ids = torch.cat([ids, indices.gather(1, drawn)], dim=1)
    tokens: list[int] = ids[0, 1:].tolist()
    return tokens


def _mean_g(request: dict[str, Any]) -> float:
    """The package's score of the text: the mean g-value of contexts met for the first time."""
    import torch

    processor, ids = _processor(request), torch.tensor([request["token_ids"]])
    mask = processor.compute_context_repetition_mask(ids)[..., None]
    g = processor.compute_g_values(ids)
    return float((g * mask).sum() / (mask.sum() * g.shape[2]))


_ASKED = {"has_table": _has_table, "g_values": _g_values, "marked": _marked, "mean_g": _mean_g}


if __name__ == "__main__":
    main()
