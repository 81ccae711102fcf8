"""Which rows of a step may be marked: those with a context of their own, in a marked channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig

__all__ = ["channel_starts", "due_rows", "markable_rows"]


def due_rows(config: WatermarkConfig, response_ids: Tensor) -> Tensor:
    """Tell which rows the next token of may be marked, by the ids alone.

    Args:
        config: the deployment.
        response_ids: int64, shape (B, t), the responses so far, without prompt and padding.

    Returns:
        bool, shape (B,).
    """
    n_rows, length = response_ids.shape
    starts = is_left = None
    if config.reasoning is not None:
        lengths = response_ids.new_full((n_rows,), length)
        starts, is_left = channel_starts(response_ids, lengths, config.reasoning)
    if not config.source.marks_repeats:
        due = markable_rows(response_ids, config.context_width, starts)
    elif starts is None:
        due = response_ids.new_full((n_rows,), length >= config.context_width, dtype=torch.bool)
    else:
        due = length - starts >= config.context_width
    return due if is_left is None else due & ~is_left


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


def markable_rows(response_ids: Tensor, context_width: int, starts: Tensor | None = None) -> Tensor:
    """Tell which rows have a context that was not met before in the same response.

    Args:
        response_ids: int64, shape (B, t).
        context_width: h.
        starts: int64, shape (B,), where each row's channel starts: no context reaches beyond, and
            what was met before it does not count. None is the start of the response.

    Returns:
        bool, shape (B,). With h = 0 always True.
    """
    n_rows, length = response_ids.shape
    h = context_width
    if h == 0 or length < h:
        return response_ids.new_full((n_rows,), h == 0, dtype=torch.bool)
    past = (
        response_ids[:, :-1].unfold(1, h, 1)
        if length > h
        else response_ids.new_empty((n_rows, 0, h))
    )
    is_met = (past == response_ids[:, None, length - h :]).all(dim=2)
    if starts is None:
        return ~is_met.any(dim=1)
    places = torch.arange(past.shape[1], device=starts.device)
    is_met = is_met & (places >= starts[:, None])
    return ~is_met.any(dim=1) & (length - starts >= h)
