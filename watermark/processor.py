"""transformers: two ways to mark `generate()`.

    model.generate(**inputs, do_sample=True, watermarking_config=TransformersWatermark(config, key))
    model.generate(**inputs, do_sample=True, logits_processor=[WatermarkProcessor(...)])

The first runs after all warpers (temperature, top-k, top-p) and is the one to prefer. The second
runs before them; there the warpers are given to the processor and generate() must have none.
What would leave the text unmarked, or silently turn greedy decoding into sampling, is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, final

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.configuration_utils import BaseWatermarkingConfig

from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, GenerationError
from watermark.keys import Key
from watermark.marking import Marker

__all__ = ["TransformersWatermark", "WatermarkProcessor"]

_SEARCH_DEPTH = 6


@final
class WatermarkProcessor(LogitsProcessor):
    """Marks the scores of `generate(logits_processor=[...])`. Stateless between calls.

    Args:
        config: the deployment.
        keys: one key, or one key for each prompt of the batch.
        prompt_length: width of the (left-padded) prompt, `input_ids.shape[1]`: contexts are
            response tokens only.
        warpers: temperature, top-k and so on, applied before marking.
    """

    # Continuous batching drops processors that say False, without a word to the caller. None
    # keeps this one, and its call then refuses the ids without history that it is given.
    supports_continuous_batching = None

    def __init__(
        self,
        config: WatermarkConfig,
        keys: Key | Sequence[Key],
        *,
        prompt_length: int,
        warpers: LogitsProcessorList | None = None,
    ) -> None:
        if prompt_length < 0:
            raise ConfigError(f"prompt_length must be at least 0, got {prompt_length}")
        self._marker = Marker(config, keys)
        self._prompt_length = prompt_length
        self._warpers = warpers if warpers is not None else LogitsProcessorList()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mark the scores of one step.

        Args:
            input_ids: int64, shape (B, T), prompt and response so far.
            scores: float, shape (B, V).

        Returns:
            Scores, shape (B, V).

        Raises:
            GenerationError: ids without history, bad logits, or a generation mode in which the
                scheme cannot mark.
        """
        if input_ids.ndim != 2:
            raise GenerationError(
                f"the watermark needs the ids of whole sequences, shape (batch, length), got "
                f"shape {tuple(input_ids.shape)}; continuous batching is not supported"
            )
        caller = _find_local("generation_config", GenerationConfig)
        if caller is not None:
            generation_config = caller.f_locals["generation_config"]
            _refuse_unmarkable(generation_config, self._marker.config)
            _refuse_later_warpers(generation_config, self._marker.config)
        warped = self._warpers(input_ids, scores)  # type: ignore[arg-type]
        return self._marker(input_ids[:, self._prompt_length :], warped)

    def __repr__(self) -> str:
        return f"WatermarkProcessor({self._marker!r}, prompt_length={self._prompt_length})"


@final
class _FinalProcessor(LogitsProcessor):
    """What `TransformersWatermark` puts behind the warpers of one generate() call."""

    supports_continuous_batching = None

    def __init__(self, marker: Marker, prompt_length: int) -> None:
        self._marker = marker
        self._prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return self._marker(input_ids[:, self._prompt_length :], scores)


@final
class TransformersWatermark(BaseWatermarkingConfig):
    """Marks `generate(watermarking_config=...)`, after all warpers.

    Args:
        config: the deployment.
        keys: one key, or one key for each prompt of the batch.
    """

    def __init__(self, config: WatermarkConfig, keys: Key | Sequence[Key]) -> None:
        self._marker = Marker(config, keys)

    def validate(self) -> None:
        """Do nothing: `WatermarkConfig` and `Marker` were validated when they were made."""

    def construct_processor(
        self, vocab_size: int, device: str | torch.device | None = None
    ) -> LogitsProcessor:
        """Build the processor of one generate() call; transformers calls this.

        Args:
            vocab_size: unused: the marks of a token do not depend on the vocabulary's size.
            device: unused: the marks are integers, the same everywhere.

        Returns:
            The processor.

        Raises:
            GenerationError: a generation mode in which the scheme cannot mark, or a version of
                transformers whose generation mode cannot be seen.
        """
        caller = _find_local("generation_config", GenerationConfig)
        prompt_length = caller.f_locals.get("input_ids_seq_length") if caller else None
        if caller is None or not isinstance(prompt_length, int):
            raise GenerationError(
                "cannot see the generation mode and the prompt length: continuous batching, or a "
                "version of transformers that is not supported. Use generate(), or pass "
                "logits_processor=[WatermarkProcessor(...)]"
            )
        _refuse_unmarkable(caller.f_locals["generation_config"], self._marker.config)
        return _FinalProcessor(self._marker, prompt_length)

    def to_dict(self) -> dict[str, Any]:
        """Return what may be logged or saved: no secret."""
        return {
            "heirmark": self._marker.config.to_dict(),
            "heirmark_key_ids": list(self._marker.key_ids),
        }

    def to_json_string(self) -> str:
        """Return `to_dict` as JSON; transformers prints it with the generation config."""
        import json

        return json.dumps(self.to_dict(), indent=2) + "\n"

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        yield from self.to_dict().items()

    def __deepcopy__(self, memo: object) -> TransformersWatermark:
        return self


def _find_local(name: str, kind: type) -> FrameType | None:
    """Find the nearest calling frame with a local variable of that name and type.

    transformers hands processors neither the generation mode nor the prompt's length. Guessing
    them could leave text unmarked, so they are read where they stand.
    """
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_SEARCH_DEPTH):
        if frame is None:
            return None
        if isinstance(frame.f_locals.get(name), kind):
            return frame
        frame = frame.f_back
    return None


def _refuse_unmarkable(generation_config: GenerationConfig, config: WatermarkConfig) -> None:
    if not config.scheme.always_samples:
        return
    if generation_config.do_sample is not True or (generation_config.num_beams or 1) > 1:
        raise GenerationError(
            f"{config.scheme.name} marks by drawing the token, so greedy decoding and beam search "
            "cannot be marked with it: set do_sample=True and num_beams=1, or use the preset "
            "'red-green', which marks every decoding method"
        )


def _refuse_later_warpers(generation_config: GenerationConfig, config: WatermarkConfig) -> None:
    """In the list path warpers run after the mark; a drawn token would make them void.

    And an entropy gate must see what they leave.
    """
    gates = config.min_entropy > 0 and generation_config.do_sample is True
    if not (config.scheme.always_samples or gates):
        return
    neutral: dict[str, tuple[object, ...]] = {
        "temperature": (None, 1.0),
        "top_k": (None, 0),
        "top_p": (None, 1.0),
        "min_p": (None, 0.0),
        "typical_p": (None, 1.0),
        "epsilon_cutoff": (None, 0.0),
        "eta_cutoff": (None, 0.0),
    }
    later = [k for k, v in neutral.items() if getattr(generation_config, k, None) not in v]
    if later:
        marked = (
            "has drawn the token, to no effect"
            if config.scheme.always_samples
            else "has marked, so that its entropy gate would not see what they leave"
        )
        raise GenerationError(
            f"generate() would apply {', '.join(later)} after {config.scheme.name} {marked}: "
            "use watermarking_config=TransformersWatermark(...), or give "
            "these to WatermarkProcessor(warpers=...) and switch them off in generate() "
            "(temperature=1.0, top_k=0, top_p=1.0)"
        )
