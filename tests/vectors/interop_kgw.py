"""Write the frozen vectors of torch-seeded marks, by transformers and torch themselves.

`python -m tests.vectors.interop_kgw`. transformers' own processor says which tokens are green.
For three_bricks, whose licence (CC BY-NC) keeps its code out of this project, the rule is stated
anew in torch, from published facts: an independent implementation, not the original.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import WatermarkLogitsProcessor

__all__ = ["FILES", "FOLDER", "KgwOracle", "rolled_seed", "three_bricks_numbers"]

FOLDER = Path(__file__).parent


class KgwOracle:
    """transformers' green lists."""

    def __init__(self, scheme: str, vocab_size: int, ratio: float, key: int, width: int) -> None:
        self.scheme = scheme
        self.processor = WatermarkLogitsProcessor(
            vocab_size,
            "cpu",
            greenlist_ratio=ratio,
            hashing_key=key,
            seeding_scheme=scheme,
            context_width=width,
        )

    def green(self, context: Sequence[int], tokens: Sequence[int]) -> list[bool]:
        """Tell which tokens are green after a context."""
        if self.scheme == "lefthash":
            return torch.isin(torch.tensor(tokens), self._list(context)).tolist()
        return [bool((self._list([*context, x]) == x).any()) for x in tokens]

    def _list(self, window: Sequence[int]) -> torch.Tensor:
        return self.processor._get_greenlist_ids(torch.LongTensor(window))


def rolled_seed(seed: int, salt_key: int, context: Sequence[int]) -> int:
    """Seed of three_bricks."""
    for token in context:
        seed = (seed * salt_key + token) % (2**64 - 1)
    return seed


def three_bricks_numbers(
    method: str, vocab_size: int, gamma: float, payload: int, seed: int
) -> NDArray[np.float64]:
    """All tokens' numbers ("openai"), or 1 for green and 0 for red ("maryland"), in torch."""
    generator = torch.Generator()
    generator.manual_seed(seed)
    if method == "openai":
        secret = torch.rand(vocab_size, generator=generator)
    else:
        secret = torch.zeros(vocab_size)
        secret[torch.randperm(vocab_size, generator=generator)[: int(gamma * vocab_size)]] = 1
    return secret.roll(-payload).double().numpy()


def kgw_vectors() -> dict[str, Any]:
    """Green or not, for a few settings, contexts and tokens."""
    rng = np.random.default_rng(1)
    rows = []
    for scheme, width in (("lefthash", 1), ("selfhash", 1), ("selfhash", 4)):
        for vocab_size, ratio in ((1_000, 0.25), (49_152, 0.5)):
            for key in (15485863, 2**62 + 12345):
                oracle = KgwOracle(scheme, vocab_size, ratio, key, width)
                context = rng.integers(0, vocab_size, 1 if scheme == "lefthash" else width - 1)
                tokens = rng.integers(0, vocab_size, 12).tolist()
                rows.append(
                    {
                        "seeding_scheme": scheme,
                        "vocab_size": vocab_size,
                        "greenlist_ratio": ratio,
                        "hashing_key": key,
                        "context": context.tolist(),
                        "tokens": tokens,
                        "green": oracle.green(context.tolist(), tokens),
                    }
                )
    return {"source": "transformers 5.23.0, torch 2.13.0, CPU", "rows": rows}


def three_bricks_vectors() -> dict[str, Any]:
    """Numbers of a few tokens, in units of 2^-24."""
    rng = np.random.default_rng(2)
    rows = []
    for method in ("openai", "maryland"):
        for vocab_size, payload in ((1_000, 0), (32_000, 0), (32_000, 7)):
            for key in ((0, 35317), (2**63 + 9, 2**62 + 11)):
                context = rng.integers(0, vocab_size, 3).tolist()
                tokens = rng.integers(0, vocab_size, 12).tolist()
                seed = rolled_seed(*key, context)
                numbers = three_bricks_numbers(method, vocab_size, 0.25, payload, seed)[tokens]
                rows.append(
                    {
                        "method": method,
                        "vocab_size": vocab_size,
                        "gamma": 0.25,
                        "payload": payload,
                        "key": list(key),
                        "context": context,
                        "tokens": tokens,
                        "numbers": (numbers * 2**24).astype(np.int64).tolist(),
                    }
                )
    return {"source": "the rule restated in torch 2.13.0, CPU", "rows": rows}


FILES = {"transformers_kgw.json": kgw_vectors, "three_bricks.json": three_bricks_vectors}


if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")
