"""How answers are drawn. No torch here: who asks an endpoint needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Sampling"]


@final
@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_new_tokens: longest answer.
        temperature: > 0.
        top_k: keep the k likeliest tokens; 0 keeps all.
        batch_size: answers drawn side by side.
        seed: of the sampler; not a key.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    batch_size: int = 64
    seed: int = 0
