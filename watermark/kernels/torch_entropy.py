"""How much choice rows of logits leave: the entropy gate, in torch."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["has_entropy", "row_entropies"]

# exp(-80) is next to nothing and still a normal number: denormal ones are slow.
_NOTHING: Final = -80.0


def row_entropies(logits: Tensor, least: Tensor | None = None) -> Tensor:
    """Compute the entropy of the distribution that each row of logits stands for.

    Args:
        logits: float, shape (B, V), final logits; -inf is probability 0.
        least: shape (B,): tokens with smaller logits are cut away; None cuts none.

    Returns:
        float32, shape (B,), in nats; NaN for rows with NaN, +inf, or nothing finite.
    """
    logits = logits.float()
    shifted = (logits - logits.amax(dim=1, keepdim=True)).clamp_(min=_NOTHING)
    if least is not None:
        shifted = shifted.masked_fill_(logits < least[:, None], _NOTHING)
    weights = shifted.exp()
    total = weights.sum(dim=1)
    mean: Tensor = torch.linalg.vecdot(weights, shifted) / total
    return total.log() - mean


def has_entropy(logits: Tensor, min_entropy: float, least: Tensor | None = None) -> Tensor:
    """Tell which rows leave enough choice to be marked.

    Args:
        logits: as for `row_entropies`.
        min_entropy: in nats.
        least: as for `row_entropies`.

    Returns:
        bool, shape (B,); True for rows that are no numbers: others report them.
    """
    return ~(row_entropies(logits, least) < min_entropy)
