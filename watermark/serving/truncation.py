"""Truncation row by row, as the engine would do it after us: top-k, top-p, min-p.

A drawing scheme must know what the engine would have left before it draws. Order and rules are
vLLM's: min-p on the scaled logits, then top-k, then top-p on what is left. The result is the
least logit that stays: of several tokens with that very logit all stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

__all__ = ["Truncation", "cutoffs", "stack_truncations"]

# On a processor sorting a vocabulary is slow, and a nucleus mostly ends within so many tokens.
_PREFIX = 256


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


def cutoffs(logits: Tensor, cut: Tensor) -> Tensor:
    """Find the least logit of each row that stays.

    Args:
        logits: float32 or float64, shape (B, V), temperature applied, no NaN, no +inf, something
            finite in each row.
        cut: float64, shape (B, 3), from `stack_truncations`.

    Returns:
        The dtype of `logits`, shape (B,): tokens below it are cut; -inf where nothing is.
    """
    least = logits.amax(dim=1) + cut[:, 2].log().to(logits.dtype)
    # Processors may look at what is to be done; an accelerator would wait for the answer.
    looks = logits.device.type == "cpu"
    k, p = cut[:, 0].long(), cut[:, 1]
    if looks and not (k < logits.shape[1]).any() and not (p < 1).any():
        return least
    # What min-p leaves in all matters only for a nucleus that no top-k has cut first.
    left = _left(logits, least) if not looks or (p < 1).any() else least.double()
    width = _first_width(k, p, logits.shape[1]) if looks else logits.shape[1]
    if width < logits.shape[1]:
        first = logits.topk(width, dim=1).values
        if _closes(first, k, p, least, left, logits.shape[1]):
            return _cut_sorted(first, k, p, least, left, logits.shape[1])
    whole = logits.sort(dim=1, descending=True).values
    return _cut_sorted(whole, k, p, least, left, logits.shape[1])


def _first_width(k: Tensor, p: Tensor, vocabulary: int) -> int:
    has_k = k < vocabulary
    largest = int(k[has_k].max()) if has_k.any() else 0
    alone = bool(((p < 1) & ~has_k).any())
    return min(max(largest, _PREFIX if alone else 0), vocabulary)


def _left(logits: Tensor, least: Tensor) -> Tensor:
    """Sum what min-p leaves, relative to the likeliest token, shape (B,)."""
    top = logits.amax(dim=1, keepdim=True)
    return (logits - top).exp_().masked_fill_(logits < least[:, None], 0.0).sum(dim=1).double()


def _after_top_k(first: Tensor, k: Tensor, least: Tensor, vocabulary: int) -> Tensor:
    kth = first.gather(1, (k.clamp(max=first.shape[1]) - 1)[:, None]).squeeze(1)
    return torch.where(k < vocabulary, torch.maximum(least, kth), least)


def _before(first: Tensor, k: Tensor, least: Tensor, left: Tensor, vocabulary: int) -> Tensor:
    """Sum what stands before each of the first tokens, as a share of what is left, float64."""
    # What is cut already must not count: it stands behind all that is left.
    weights = (first - first[:, :1]).double().exp().masked_fill(first < least[:, None], 0.0)
    total = torch.where(k < vocabulary, weights.sum(dim=1), left)
    return (weights.cumsum(dim=1) - weights) / total[:, None]


def _closes(
    first: Tensor, k: Tensor, p: Tensor, least: Tensor, left: Tensor, vocabulary: int
) -> bool:
    """True if what is left of every row ends within the first tokens."""
    after = _after_top_k(first, k, least, vocabulary)
    before = _before(first, k, after, left, vocabulary)[:, -1]
    return bool(((p >= 1) | (k < vocabulary) | (before >= p) | (first[:, -1] < after)).all())


def _cut_sorted(
    first: Tensor, k: Tensor, p: Tensor, least: Tensor, left: Tensor, vocabulary: int
) -> Tensor:
    least = _after_top_k(first, k, least, vocabulary)
    stays = _before(first, k, least, left, vocabulary) < p[:, None]
    stays[:, 0] = True
    last = stays.sum(dim=1, keepdim=True) - 1
    nucleus = first.gather(1, last).squeeze(1)
    return torch.where(p < 1, torch.maximum(least, nucleus), least)
