"""Rows of logits, each under its own key and with its own number of tokens so far.

What engines' adapters share: they gather the rows that are due, and one of two things is done to
them. A scheme that draws finds each row's token here, so that the engine can only take it; a
scheme that tilts adds to the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from watermark.config import WatermarkConfig
from watermark.kernels import torch_prf
from watermark.kernels.torch_entropy import has_entropy
from watermark.marking import MarkedStep
from watermark.serving.truncation import Truncation, cutoffs, stack_truncations

__all__ = ["BAD_ROW", "Rows", "draw_tokens", "force_drawn", "tilt_logits", "warm_up"]

BAD_ROW: Final = -1

# Coins are keyed by a public constant: they must be fresh and reproducible, not secret.
_COINS: Final = torch_prf.signed(0x6865_6972_636F_696E)


@final
class Rows(NamedTuple):
    """Rows that are due.

    Attributes:
        keys: int64, shape (B, k), the bits of each row's key integers.
        contexts: int64, shape (B, h), oldest first.
        coin_seeds: int64, shape (B,): a request's own seed, or a random number of its own.
        positions: int64, shape (B,), response tokens so far.
    """

    keys: Tensor
    contexts: Tensor
    coin_seeds: Tensor
    positions: Tensor

    @classmethod
    def gather(
        cls,
        keys: Sequence[Tensor],
        responses: Sequence[list[int]],
        coin_seeds: Sequence[int],
        context_width: int,
    ) -> Rows:
        """Stack the rows of responses that are due, each of at least h tokens."""
        contexts = [response[len(response) - context_width :] for response in responses]
        return cls(
            torch.stack(list(keys)),
            torch.tensor(contexts, dtype=torch.int64),
            torch.tensor(coin_seeds, dtype=torch.int64),
            torch.tensor([len(response) for response in responses], dtype=torch.int64),
        )

    def coins(self, stream: int) -> Tensor:
        """Flip a coin for each row, the same again for the same seed and position.

        So that a request with a seed stays reproducible, a preempted one goes on as it would
        have, and all ranks of a parallel engine agree.

        Args:
            stream: independent coins have different streams.

        Returns:
            float64, shape (B,), uniform in [0, 1).
        """
        hashes = torch.stack([self.coin_seeds, torch.full_like(self.coin_seeds, _COINS)], dim=1)
        streams = torch.full_like(self.positions, stream)
        words = torch_prf.words(hashes, self.positions[:, None], streams).squeeze(1)
        return words.double() / 2**32

    def only(self, kept: Tensor) -> Rows:
        """Return some of the rows; `kept` is bool, shape (B,)."""
        return Rows(*(values[kept.to(values.device)] for values in self))

    def step(self, config: WatermarkConfig) -> MarkedStep:
        """Return the marking of this step."""
        streams = config.scheme.route(self.coins(0)).to(self.contexts.device)
        return MarkedStep(config, self.keys, self.contexts, streams)

    def __repr__(self) -> str:
        return f"Rows({len(self.positions)}, keys hidden)"


def force_drawn(
    config: WatermarkConfig,
    rows: Rows,
    logits: Tensor,
    index: Tensor,
    least: Tensor | None = None,
) -> Tensor:
    """Draw the token of each row by its key, and leave it alone in its row, in place.

    Args:
        config: a deployment whose scheme draws (`Scheme.always_samples`).
        rows: what the marks depend on.
        logits: float32, shape (N, V), temperature applied.
        index: int64, shape (B,), the rows' places in `logits`.
        least: see `draw_tokens`.

    Returns:
        int64, shape (B,), the tokens; see `draw_tokens`.
    """
    step = rows.step(config)
    if step.finds_winners(logits) and logits.is_contiguous():
        return step.winners(logits, index, least, forces=True)
    tokens = draw_tokens(config, rows, logits[index], least)
    good = tokens != BAD_ROW
    logits[index[good]] = -torch.inf
    logits[index[good], tokens[good]] = 0.0
    return tokens


def draw_tokens(
    config: WatermarkConfig, rows: Rows, logits: Tensor, least: Tensor | None = None
) -> Tensor:
    """Draw the token of each row by its key.

    Args:
        config: a deployment whose scheme draws (`Scheme.always_samples`).
        rows: what the marks depend on.
        logits: float32, shape (B, V), temperature applied.
        least: float32, shape (B,), from `cutoffs`: what is below is never drawn; None cuts nothing.

    Returns:
        int64, shape (B,), token ids with finite logits; BAD_ROW where a row holds NaN, +inf or
        nothing but -inf, which must not stop a server.
    """
    step = rows.step(config)
    if step.finds_winners(logits):
        return step.winners(logits, None, least)
    usable = torch.isfinite(logits.amax(dim=1))
    # Such a row is drawn as if it were flat, and what comes of it is dropped.
    logits = torch.where(usable[:, None], logits, 0.0)
    if least is not None:
        least = torch.where(usable, least, 0.0)
        logits = logits.masked_fill(logits < least[:, None], -torch.inf)
    drawn = _draw(_marked(step, logits), rows.coins(1))
    return torch.where(usable, drawn, BAD_ROW)


def _marked(step: MarkedStep, logits: Tensor) -> Tensor:
    return (
        step.mark_vocabulary(logits) if logits.device.type == "cpu" else step.mark_densely(logits)
    )


def _draw(marked: Tensor, coins: Tensor) -> Tensor:
    """Draw by the inverse of the cumulative distribution; one finite logit is always taken."""
    cumulative = marked.double().softmax(dim=1).cumsum(dim=1)
    target = coins[:, None].to(cumulative.device) * cumulative[:, -1:]
    # right=True never lands on a token of probability zero.
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def tilt_logits(
    config: WatermarkConfig,
    rows: Rows,
    logits: Tensor,
    temperatures: Tensor,
) -> Tensor:
    """Tilt logits before the engine divides them by the temperature.

    Args:
        config: a deployment whose scheme tilts (not `Scheme.always_samples`).
        rows: what the marks depend on.
        logits: float32, shape (B, V), not yet scaled.
        temperatures: float32, shape (B,), what the engine will divide by; 1 where it is greedy.

    Returns:
        float32, shape (B, V): after the division, the marked logits. Rows with NaN, +inf or
        nothing finite come back unchanged, as do those that the gate leaves unmarked.
    """
    usable = torch.isfinite(logits.amax(dim=1))[:, None]
    step, scale = rows.step(config), temperatures[:, None]
    if config.min_entropy:
        # As the model has it: a client's temperature or truncation must not switch the mark off.
        open_rows = has_entropy(torch.where(usable, logits, 0.0), config.min_entropy)
        usable = usable & open_rows[:, None]
    if step.marks_rows(logits):
        scales = torch.where(usable[:, 0], temperatures, 0.0)
        return step.mark_rows(logits.clone(memory_format=torch.contiguous_format), scales=scales)
    marked = _marked(step, torch.where(usable, logits, 0.0) / scale) * scale
    return torch.where(usable, marked, logits)


def warm_up(config: WatermarkConfig, vocabulary: int) -> None:
    """Load and compile what marking needs, so that the first request does not wait for it."""
    n = config.source.n_key_integers
    rows = Rows(
        torch.zeros((16, n), dtype=torch.int64),
        torch.zeros((16, config.context_width), dtype=torch.int64),
        torch.zeros(16, dtype=torch.int64),
        torch.zeros(16, dtype=torch.int64),
    )
    logits = torch.zeros((16, vocabulary))
    if config.scheme.always_samples:
        cut = stack_truncations([Truncation(top_p=0.9)] * 16, vocabulary)
        force_drawn(config, rows, logits, torch.arange(16), cutoffs(logits, cut))
    else:
        tilt_logits(config, rows, logits, torch.ones(16))
