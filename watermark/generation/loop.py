"""A fast sampling loop for answers in bulk: demo, benchmarks and suspects run on it.

transformers' `generate()` spends as long in `torch.multinomial` over the vocabulary as in the
model, on a processor without accelerator. This loop draws by the inverse of the cumulative
distribution, and drops rows that have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from watermark.errors import GenerationError
from watermark.generation.sampling import Sampling
from watermark.marking import Marker

__all__ = ["Answer", "Sampling", "chat_prompt", "sample_answers"]


@final
@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        token_ids: the response, without the end token.
        log_probs: natural log of each token's probability (the end token's, if drawn, last) under
            the unmarked model at temperature 1 without truncation.
    """

    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]


def chat_prompt(tokenizer: Any, text: str) -> list[int]:
    """Format one user message as the model's chat template wants it.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        text: the message.

    Returns:
        Token ids up to where the answer begins.
    """
    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])


def sample_answers(
    model: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    end_ids: Sequence[int],
    marker: Marker | None = None,
    on_tokens: Callable[[int], object] = lambda n: None,
) -> list[Answer]:
    """Draw one answer to each prompt.

    Args:
        model: a transformers causal language model.
        prompts: token ids of each prompt, none empty.
        sampling: how.
        end_ids: ids that end an answer.
        marker: marks the final logits, under one key or under one for each prompt.
        on_tokens: called with the number of tokens drawn since the last call.

    Returns:
        The answers, in the order of the prompts.

    Raises:
        GenerationError: an empty prompt, more or fewer keys than prompts, or logits that are no
            numbers.
    """
    if any(not prompt for prompt in prompts):
        raise GenerationError("every prompt needs at least one token, got an empty one")
    if marker is not None and len(marker.key_ids) not in (1, len(prompts)):
        raise GenerationError(
            f"{len(marker.key_ids)} keys for {len(prompts)} prompts; give one key, or one for each"
        )
    generator = torch.Generator().manual_seed(sampling.seed)
    # Prompts of like length share a batch, so that little is spent on padding.
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, Answer] = {}
    for start in range(0, len(order), sampling.batch_size):
        chosen = order[start : start + sampling.batch_size]
        batch = _Batch(model, [prompts[i] for i in chosen], end_ids, generator)
        drawn = batch.run(sampling, marker and marker.for_rows(chosen), on_tokens)
        answers.update(zip(chosen, drawn, strict=True))
    return [answers[i] for i in range(len(prompts))]


@final
class _Batch:
    """The answers under way; a row leaves when it ends."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        end_ids: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        width = max(len(p) for p in prompts)
        self.model = model
        self.generator = generator
        device = model.device
        self.end_ids = torch.tensor(list(end_ids), device=device)
        padded = [[0] * (width - len(p)) + list(p) for p in prompts]
        known = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
        self.inputs = torch.tensor(padded, device=device)
        self.mask = torch.tensor(known, device=device)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.response = torch.empty((len(prompts), 0), dtype=torch.int64, device=device)
        self.log_probs = torch.empty((len(prompts), 0), device=device)
        self.rows = torch.arange(len(prompts), device=device)
        self.done: dict[int, Answer] = {}

    @torch.inference_mode()
    def run(
        self, sampling: Sampling, marker: Marker | None, on_tokens: Callable[[int], object]
    ) -> list[Answer]:
        from transformers import DynamicCache

        n_rows, cache = len(self.rows), DynamicCache()
        for _ in range(sampling.max_new_tokens):
            logits = self.model(
                input_ids=self.inputs,
                attention_mask=self.mask,
                position_ids=self.positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            tokens = self._draw(logits.float(), sampling, marker)
            on_tokens(len(tokens))
            going = ~torch.isin(tokens, self.end_ids)
            self._retire(~going)
            if not going.any():
                break
            if not going.all():
                kept = going.nonzero().squeeze(1)
                cache.batch_select_indices(kept)
                marker = marker and marker.for_rows(kept.tolist())
            self._advance(tokens, going)
        self._retire(torch.ones_like(self.rows, dtype=torch.bool))
        return [self.done[i] for i in range(n_rows)]

    def _draw(self, logits: Tensor, sampling: Sampling, marker: Marker | None) -> Tensor:
        normalizer = logits.logsumexp(dim=1, keepdim=True)
        token_ids = None
        kept = logits
        if 0 < sampling.top_k < logits.shape[1]:
            kept, token_ids = logits.topk(sampling.top_k, dim=1)
        final = kept / sampling.temperature
        if marker is not None:
            final = marker(self.response, final, self.generator, token_ids=token_ids)
        drawn = _draw_index(final, self.generator)
        self.log_probs = torch.cat([self.log_probs, kept.gather(1, drawn) - normalizer], dim=1)
        return (drawn if token_ids is None else token_ids.gather(1, drawn)).squeeze(1)

    def _advance(self, tokens: Tensor, going: Tensor) -> None:
        self.rows, self.log_probs = self.rows[going], self.log_probs[going]
        self.inputs = tokens[going, None]
        self.response = torch.cat([self.response[going], self.inputs], dim=1)
        self.mask = torch.cat([self.mask[going], torch.ones_like(self.inputs)], dim=1)
        self.positions = self.positions[going, -1:] + 1

    def _retire(self, ended: Tensor) -> None:
        for i in ended.nonzero().flatten().tolist():
            self.done[int(self.rows[i])] = Answer(
                tuple(self.response[i].tolist()), tuple(self.log_probs[i].tolist())
            )


def _draw_index(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a column of each row, shape (B, 1), by the inverse of the cumulative distribution."""
    cumulative = logits.softmax(dim=1).cumsum(dim=1)
    if not torch.isfinite(cumulative[:, -1]).all():
        raise GenerationError("the model gave logits that are no numbers (NaN or infinite)")
    # On the processor: the same seed gives the same coins wherever the model lives.
    uniform = torch.rand(len(logits), 1, generator=generator).to(logits.device)
    # right=True never lands on a token of probability zero.
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return drawn.clamp(max=logits.shape[1] - 1)
