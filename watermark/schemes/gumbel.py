"""Gumbel-max (Aaronson 2022): the keyed draw replaces the random one.

The token with the largest log p + G, G = -log(-log u), has exactly the model's distribution when
u is uniform; the u of the chosen token is then near 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.base import Scheme
from watermark.schemes.laws import Exponential

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Gumbel", "force_gumbel_winner", "upper_tail"]

_WORDS = 2.0**32


@final
@dataclass(frozen=True)
class Gumbel(Scheme):
    """Gumbel-max under one key."""

    name: ClassVar[str] = "gumbel"
    unbiased: ClassVar[bool] = True
    always_samples: ClassVar[bool] = True
    takes_gumbel_winner: ClassVar[bool] = True

    def embed(self, logits: Tensor, words: Tensor) -> Tensor:
        """Leave only the keyed winner; see `Scheme.embed`."""
        return force_gumbel_winner(logits, words)

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return -ln(1 - u); see `Scheme.score`."""
        return -np.log(upper_tail(words[0]))

    @property
    def law(self) -> Exponential:
        """Exponential with mean 1; `upper_tail` says why the grid of words can only lose."""
        return Exponential()


def upper_tail(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Compute 1 - u with u = word / 2^32, in (0, 1].

    A continuous uniform inside the word's cell has a smaller 1 - u, hence a larger score: the
    score used is never above one with the continuous law, and tails of that law bound it.

    Args:
        words: uint32, any shape.

    Returns:
        float64, the same shape, multiples of 2^-32, exact.
    """
    return (_WORDS - words.astype(np.float64)) / _WORDS


def force_gumbel_winner(logits: Tensor, words: Tensor) -> Tensor:
    """Set every logit but that of the Gumbel-max winner to -inf.

    Args:
        logits: shape (B, K), at least one finite a row.
        words: int64, shape (B, K).

    Returns:
        shape (B, K); the winner keeps its logit, so that any sampler must take it.
    """
    import torch

    # float64: in float32 the largest words would round to u = 1 and win whatever their logit.
    uniform = (words.double() + 0.5) / _WORDS
    winner = (logits.double() - torch.log(-torch.log(uniform))).argmax(dim=1, keepdim=True)
    forced = torch.full_like(logits, -torch.inf)
    return forced.scatter(1, winner, logits.gather(1, winner))
