"""Which rows of a step may be marked: `watermark.markable`, of the next token of many responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig

__all__ = ["DueRows", "channel_starts", "due_rows"]


class DueRows(NamedTuple):
    """Rows of a step.

    Attributes:
        is_due: bool, shape (B,): the next token may be marked, by the ids alone.
        contexts: int64, shape (B, h), oldest first; where there is none, whatever ids.
    """

    is_due: Tensor
    contexts: Tensor


def due_rows(
    config: WatermarkConfig, response_ids: Tensor, lengths: Tensor | None = None
) -> DueRows:
    """Tell which rows the next token of may be marked, by the ids alone, and after what.

    Args:
        config: the deployment.
        response_ids: int64, shape (B, L), the responses so far, without prompt and padding.
        lengths: int64, shape (B,): tokens behind them are not looked at; None is L for all.

    Returns:
        The rows.
    """
    (n_rows, width), h = response_ids.shape, config.context_width
    if width < h:
        nothing = response_ids.new_zeros((n_rows, h))
        return DueRows(nothing.new_zeros(n_rows, dtype=torch.bool), nothing)
    if lengths is None:
        lengths = response_ids.new_full((n_rows,), width)
    starts = None
    if config.reasoning is None:
        is_due = lengths >= h
    else:
        starts, is_left = channel_starts(response_ids, lengths, config.reasoning)
        is_due = (lengths - starts >= h) & ~is_left
    if h == 0:
        return DueRows(is_due, response_ids[:, :0])
    last = lengths[:, None] - h + torch.arange(h, device=response_ids.device)
    # An engine's idle rows may say that they are longer than all that is shown.
    contexts = response_ids.gather(1, last.clamp(0, width - 1))
    if width > h and not config.source.marks_repeats:
        earlier = response_ids[:, :-1].unfold(1, h, 1)
        places = torch.arange(width - h, device=response_ids.device)
        is_met = (earlier == contexts[:, None]).all(dim=2) & (places < (lengths - h)[:, None])
        if starts is not None:
            is_met &= places >= starts[:, None]
        is_due &= ~is_met.any(dim=1)
    return DueRows(is_due, contexts)


def channel_starts(
    response_ids: Tensor, lengths: Tensor, reasoning: ReasoningChannel
) -> tuple[Tensor, Tensor]:
    """Find the channel in which the next token of each row stands: `ReasoningChannel.place`.

    Args:
        response_ids: int64, shape (B, L).
        lengths: int64, shape (B,): tokens behind them are not looked at.
        reasoning: the borders.

    Returns:
        int64, shape (B,), where the channel starts, and bool, shape (B,), True where it is left
        unmarked.
    """
    begun = _last_ends(response_ids, lengths, reasoning.begin_ids)
    ended = _last_ends(response_ids, lengths, reasoning.end_ids)
    starts = torch.maximum(begun, ended)
    if reasoning.is_marked:
        return starts, torch.zeros_like(starts, dtype=torch.bool)
    in_reasoning = begun > ended
    if reasoning.starts_open:
        in_reasoning = in_reasoning | (starts == 0)
    return starts, in_reasoning


def _last_ends(token_ids: Tensor, lengths: Tensor, border: Sequence[int]) -> Tensor:
    """Find the place behind the last border of each row, 0 where there is none."""
    width = len(border)
    n_places = token_ids.shape[1] - width + 1
    if n_places <= 0:
        return torch.zeros_like(lengths)
    # Column by column: ids that stay on the host need no transfer, for which a device would wait.
    found = token_ids[:, :n_places] == border[0]
    for i in range(1, width):
        found = found & (token_ids[:, i : i + n_places] == border[i])
    ends = torch.arange(width, width + n_places, device=token_ids.device)
    return (ends * (found & (ends <= lengths[:, None]))).amax(dim=1)
