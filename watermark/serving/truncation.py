"""Truncation row by row, as the engine would do it after us: top-k, top-p, min-p.

A drawing scheme must know what the engine would have left before it draws. Order and rules are
vLLM's: min-p on the scaled logits, then top-k, then top-p on what is left. The result is the
least logit that stays: of several tokens with that very logit all stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

__all__ = ["Truncation", "cutoffs", "stack_truncations"]

# Fewer logits are sorted before numba has been imported (0.5 s).
_COMPILE_FROM = 500_000


@final
class Truncation(NamedTuple):
    """How much of the distribution is left.

    Attributes:
        top_k: keep the k likeliest tokens; 0 or less keeps all.
        top_p: keep the fewest likeliest tokens of at least this probability; 1 keeps all.
        min_p: keep tokens of at least this share of the likeliest one's probability; 0 keeps all.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def keeps_all(self) -> bool:
        """True if nothing is cut."""
        return self.top_k <= 0 and self.top_p >= 1 and self.min_p <= 0


def stack_truncations(
    rows: Sequence[Truncation], vocabulary: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Put the truncations of rows into one tensor for `cutoffs`.

    Args:
        rows: one for each row.
        vocabulary: V.
        device: where the logits live.

    Returns:
        float64, shape (B, 3): k from 1 to V, top-p, min-p.
    """
    cut = [(r.top_k if 0 < r.top_k < vocabulary else vocabulary, r.top_p, r.min_p) for r in rows]
    return torch.tensor(cut, dtype=torch.float64, device=device).reshape(len(cut), 3)


def cutoffs(logits: Tensor, cut: Tensor, rows: Tensor | None = None) -> Tensor:
    """Find the least logit of each row that stays.

    Args:
        logits: float32 or float64, shape (N, V), temperature applied, no NaN, no +inf, something
            finite in each row.
        cut: float64, shape (B, 3), from `stack_truncations`.
        rows: int64, shape (B,), which rows are meant; None is all.

    Returns:
        The dtype of `logits`, shape (B,): tokens below it are cut; -inf where nothing is.
    """
    if _has_kernel(logits):
        from watermark.kernels.numba_truncation import row_cutoffs

        chosen = np.arange(len(logits)) if rows is None else rows.numpy()
        return torch.from_numpy(row_cutoffs(logits.numpy(), chosen, cut.numpy()))
    if rows is not None:
        logits = logits[rows]
    k, p, vocabulary = cut[:, 0].long(), cut[:, 1], logits.shape[1]
    ordered = logits.sort(dim=1, descending=True).values
    least = ordered[:, 0] + cut[:, 2].log().to(logits.dtype)
    kth = ordered.gather(1, (k - 1)[:, None]).squeeze(1)
    least = torch.where(k < vocabulary, torch.maximum(least, kth), least)
    # What is cut already must not count: it stands behind all that is left.
    weights = (ordered - ordered[:, :1]).double().exp()
    weights = weights.masked_fill(ordered < least[:, None], 0.0)
    before = weights.cumsum(dim=1) - weights
    stays = before < (p * weights.sum(dim=1))[:, None]
    stays[:, 0] = True
    last = stays.sum(dim=1, keepdim=True) - 1
    nucleus = ordered.gather(1, last).squeeze(1)
    return torch.where(p < 1, torch.maximum(least, nucleus), least)


def _has_kernel(logits: Tensor) -> bool:
    return (
        logits.device.type == "cpu"
        and logits.dtype == torch.float32
        and logits.is_contiguous()
        and logits.numel() >= _COMPILE_FROM
    )
