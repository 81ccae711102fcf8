"""transformers: speculative decoding with a draft model, both models' draws marked.

    speculative = SpeculativeWatermark(config, key, draft)
    model.generate(**inputs, do_sample=True, custom_generate=speculative)

`assistant_model=` with `TransformersWatermark` is exact and marked as well, but there the target
leaves one token a place, and every other draft is rejected. Why this is exact too is said in
`watermark.generation.speculative_sampling`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.utils import GenerateDecoderOnlyOutput

from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, GenerationError
from watermark.generation.speculative_sampling import (
    DRAFT,
    PLAIN,
    TARGET,
    Drafted,
    SpeculativeMarker,
    SpeculativeStep,
    Verified,
    verify,
)
from watermark.keys import Key
from watermark.processor import WatermarkProcessor

__all__ = ["Round", "SpeculativeWatermark", "speculate"]

_N_DRAFTS = 4
_KNOWN_INPUTS = frozenset(
    {"attention_mask", "logits_to_keep", "past_key_values", "position_ids", "use_cache"}
)
_OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


class Round(NamedTuple):
    """What one pass of the target gave.

    Attributes:
        tokens: ids, at least one; all but the last, at most, are the draft's.
        n_accepted: how many of them are the draft's.
        overlaps: for each draft that was tested, the probability that it would be accepted.
    """

    tokens: tuple[int, ...]
    n_accepted: int
    overlaps: tuple[float, ...]


@torch.no_grad()
def speculate(
    target: Any,
    draft: Any,
    prompt_ids: Tensor,
    *,
    marker: SpeculativeMarker | None,
    processors: LogitsProcessorList,
    stops: StoppingCriteriaList,
    n_drafts: int = _N_DRAFTS,
    generator: torch.Generator | None = None,
    on_round: Callable[[Round], object] = lambda _: None,
) -> Tensor:
    """Continue one prompt.

    Args:
        target: the transformers causal language model whose law the text has.
        draft: a causal language model with the same vocabulary.
        prompt_ids: int64, shape (1, P), P >= 1, without padding.
        marker: marks; None for plain speculative sampling.
        processors: temperature, truncation and so on, applied to both models' logits; functions of
            the ids alone.
        stops: when to end; one of them a `MaxLengthCriteria`.
        n_drafts: tokens drafted for each pass of the target.
        generator: CPU source of all that is drawn without words; None is torch's global one.
        on_round: called after each pass of the target.

    Returns:
        int64, shape (1, P + T), prompt and response.

    Raises:
        ConfigError: n_drafts below 1, or borders that are not in the vocabulary.
        GenerationError: models or inputs with which this does not work, or bad logits.
    """
    if n_drafts < 1:
        raise ConfigError(f"n_drafts must be at least 1, got {n_drafts}")
    if prompt_ids.ndim != 2 or len(prompt_ids) != 1 or not prompt_ids.shape[1]:
        raise GenerationError(
            "speculative decoding continues one prompt at a time, shape (1, length), got "
            f"{tuple(prompt_ids.shape)}; call it once for each prompt and each answer"
        )
    if stops.max_length is None:
        raise GenerationError("the stopping criteria hold no MaxLengthCriteria; add one")
    _check_models(target, draft)
    if marker is not None:
        marker.config.check_vocabulary(target.config.get_text_config().vocab_size)
    run = _Run(_Reader(target), _Reader(draft), marker, processors, stops, n_drafts, generator)
    return run.finish(prompt_ids, on_round)


@final
class SpeculativeWatermark:
    """Marks `generate(custom_generate=...)` with a draft model.

    Args:
        config: the deployment; see `SpeculativeMarker`.
        key: the key.
        draft: a transformers causal language model with the target's tokenizer.
        n_drafts: tokens drafted for each pass of the target.
        generator: CPU source of coins and plain draws; None is torch's global one.
        on_round: called after each pass of the target, since transformers gives its streamer to no
            callable.
    """

    def __init__(
        self,
        config: WatermarkConfig,
        key: Key,
        draft: Any,
        *,
        n_drafts: int = _N_DRAFTS,
        generator: torch.Generator | None = None,
        on_round: Callable[[Round], object] = lambda _: None,
    ) -> None:
        self._marker = SpeculativeMarker(config, key)
        self._draft, self._n_drafts = draft, n_drafts
        self._generator, self._on_round = generator, on_round

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Tensor | GenerateDecoderOnlyOutput:
        """Generate; transformers calls this.

        Args:
            model: the target.
            input_ids: int64, shape (1, P).
            logits_processor: all processors and warpers of the call.
            stopping_criteria: all of the call.
            generation_config: of the call.
            **model_kwargs: other inputs; none that the draft could not be given.

        Returns:
            int64, shape (1, P + T), or the object that `return_dict_in_generate` asks for.

        Raises:
            GenerationError: a generation mode, an input or a second mark with which this does not
                work.
        """
        _refuse_modes(generation_config)
        _refuse_second_mark(generation_config, logits_processor)
        _refuse_inputs(model_kwargs)
        ids = speculate(
            model,
            self._draft,
            input_ids,
            marker=self._marker,
            processors=logits_processor,
            stops=stopping_criteria,
            n_drafts=self._n_drafts,
            generator=self._generator,
            on_round=self._on_round,
        )
        if not generation_config.return_dict_in_generate:
            return ids
        return GenerateDecoderOnlyOutput(sequences=ids)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"SpeculativeWatermark({self._marker!r}, n_drafts={self._n_drafts})"


@final
class _Reader:
    """A model that has read part of a text, and reads the rest when asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        # Where a cache can record, it waits for each crop, also one of nothing, to drop what its
        # sliding windows have left behind; in older versions crop(0) empties the cache.
        self._records = hasattr(self._cache, "activate_past_recording")
        if self._records:
            self._cache.activate_past_recording()
        if model._is_stateful or not getattr(self._cache, "is_croppable", True):
            raise GenerationError(
                f"{type(model).__name__} keeps a state that cannot be taken back behind a rejected "
                "draft; use models whose cache can be cropped"
            )

    def scores(self, ids: Tensor, n_last: int) -> Tensor:
        """Compute logits behind each of the last tokens, float32, shape (n_last, V)."""
        keeps = {"logits_to_keep": n_last} if self._model._supports_logits_to_keep() else {}
        logits = self._model(
            input_ids=ids[:, self._cache.get_seq_length() :].to(self._model.device),
            past_key_values=self._cache,
            use_cache=True,
            **keeps,
        ).logits
        return logits[0, -n_last:].to(ids.device, torch.float32)  # type: ignore[no-any-return]

    def forget(self, length: int) -> None:
        """Take back what was read beyond a length."""
        beyond = max(self._cache.get_seq_length() - length, 0)
        if beyond or self._records:
            self._cache.crop(-beyond)


@final
class _Run(NamedTuple):
    """One response under way."""

    target: _Reader
    draft: _Reader
    marker: SpeculativeMarker | None
    processors: LogitsProcessorList
    stops: StoppingCriteriaList
    n_drafts: int
    generator: torch.Generator | None

    def finish(self, prompt_ids: Tensor, on_round: Callable[[Round], object]) -> Tensor:
        n_prompt, ids, ended = prompt_ids.shape[1], prompt_ids, False
        while not ended:
            drafts, proposed = self._propose(ids, n_prompt)
            scores = self.target.scores(proposed, len(drafts) + 1)
            done, ended = self._take(ids, n_prompt, drafts, scores)
            ids = _append(ids, *done.tokens)
            # The newest token is read in the next round, by both models.
            self.target.forget(ids.shape[1] - 1)
            self.draft.forget(ids.shape[1] - 1)
            on_round(done)
        return ids

    def _propose(self, ids: Tensor, n_prompt: int) -> tuple[list[Drafted], Tensor]:
        drafts: list[Drafted] = []
        while len(drafts) < self.n_drafts and not (drafts and self._ends(ids)):
            step = self._step(ids, n_prompt)
            law = step.law(self._processed(ids, self.draft.scores(ids, 1)[0]))
            drafts.append(Drafted(step.draw(law, DRAFT, self.generator), law, step))
            ids = _append(ids, drafts[-1].token)
        return drafts, ids

    def _take(
        self, ids: Tensor, n_prompt: int, drafts: list[Drafted], scores: Tensor
    ) -> tuple[Round, bool]:
        """Verify drafts in order; behind the last, the target draws a token of its own."""
        verified: list[Verified] = []
        ended = False
        for drafted, row in zip(drafts, scores, strict=False):
            law = drafted.step.law(self._processed(ids, row))
            verified.append(verify(drafted, law, self.generator))
            ids = _append(ids, verified[-1].token)
            ended = self._ends(ids)
            if ended or not verified[-1].accepted:
                break
        tokens = [v.token for v in verified]
        if not ended and all(v.accepted for v in verified):
            step = self._step(ids, n_prompt)
            law = step.law(self._processed(ids, scores[-1]))
            tokens.append(step.draw(law, TARGET, self.generator))
            ended = self._ends(_append(ids, tokens[-1]))
        n_accepted = sum(v.accepted for v in verified)
        return Round(tuple(tokens), n_accepted, tuple(v.overlap for v in verified)), ended

    def _step(self, ids: Tensor, n_prompt: int) -> SpeculativeStep:
        return PLAIN if self.marker is None else self.marker.step(ids[0, n_prompt:])

    def _processed(self, ids: Tensor, row: Tensor) -> Tensor:
        # Processors may write into what they are given.
        return self.processors(ids, row[None].clone())[0]  # type: ignore[arg-type]

    def _ends(self, ids: Tensor) -> bool:
        return bool(self.stops(ids, None).all())


def _append(ids: Tensor, *tokens: int) -> Tensor:
    return torch.cat([ids, ids.new_tensor([tokens])], dim=1)


def _check_models(target: Any, draft: Any) -> None:
    if any(model.config.is_encoder_decoder for model in (target, draft)):
        raise GenerationError("speculative decoding is for decoder-only models, got an encoder")
    sizes = [model.config.get_text_config().vocab_size for model in (target, draft)]
    if sizes[0] != sizes[1]:
        raise GenerationError(
            f"target and draft need the same vocabulary, got {sizes[0]} and {sizes[1]} ids; take a "
            "draft of the same family"
        )


def _refuse_modes(generation_config: GenerationConfig) -> None:
    if generation_config.do_sample is not True or (generation_config.num_beams or 1) > 1:
        raise GenerationError(
            "speculative sampling cannot be greedy and has no beams: set do_sample=True and "
            "num_beams=1"
        )
    asked = [name for name in _OUTPUTS if getattr(generation_config, name, False)]
    if generation_config.return_dict_in_generate and asked:
        raise GenerationError(f"{', '.join(asked)} cannot be returned here; leave them out")


def _refuse_second_mark(
    generation_config: GenerationConfig, processors: LogitsProcessorList
) -> None:
    in_list = any(isinstance(processor, WatermarkProcessor) for processor in processors)
    if in_list or generation_config.watermarking_config is not None:
        raise GenerationError(
            "custom_generate=SpeculativeWatermark(...) marks by itself: leave watermarking_config "
            "and WatermarkProcessor out"
        )


def _refuse_inputs(model_kwargs: dict[str, Any]) -> None:
    given = {name for name, value in model_kwargs.items() if value is not None}
    if unknown := sorted(given - _KNOWN_INPUTS):
        raise GenerationError(
            f"the draft cannot be given {', '.join(unknown)}: only input_ids are supported"
        )
    mask, cache = model_kwargs.get("attention_mask"), model_kwargs.get("past_key_values")
    if mask is not None and not bool(mask.all()):
        raise GenerationError("the prompt is padded or masked; give its ids without padding")
    if cache is not None and cache.get_seq_length():
        raise GenerationError("a cache that holds tokens already cannot be used; leave it out")
