"""transformers: a model that says nothing unmarked, whoever calls it, `transformers serve` too.

    enforce_watermark(model, TransformersWatermark(config, key))

`generate(watermarking_config=...)` marks one call. A server calls generate() on its own, with
settings that clients send: `transformers serve` makes a whole GenerationConfig of a request's
field, and a watermark in there takes the place of the model's own. Continuous batching ignores
what it does not know: the arguments `watermarking_config` and `logits_processor` of
generate_batch(), and every new setting where a manager is kept. So the model itself is told.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, NoReturn

from watermark.errors import GenerationError
from watermark.processor import TransformersWatermark, WatermarkProcessor

__all__ = ["enforce_watermark", "refuse_continuous_batching"]

_NAME: Final = "init_continuous_batching"


def enforce_watermark(model: Any, watermark: TransformersWatermark) -> None:
    """Make a model mark or refuse every generate(), and refuse continuous batching.

    Only this object in memory is changed, nothing that is saved; a copy is not marked.

    Args:
        model: a transformers model that generates.
        watermark: the mark of all that it says from now on.

    Raises:
        GenerationError: a model that cannot generate, or that has been told before.
    """
    if "generate" in vars(model):
        raise GenerationError(
            "this model's generate() has been replaced before; load the model anew to mark it "
            "with another key"
        )
    refuse_continuous_batching(model)
    original = model.generate
    signature = inspect.signature(original)

    def generate(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        _refuse_others({**arguments.get("kwargs", {}), **arguments}, watermark)
        return original(*args, **{**kwargs, "watermarking_config": watermark})

    model.generate = generate


def refuse_continuous_batching(model: Any) -> None:
    """Make generate_batch() and `transformers serve --continuous-batching` of a model raise.

    All three entries of continuous batching pass the one that is replaced here. A manager that
    the model has kept from before is destroyed: it would go on with its own settings.

    Args:
        model: a transformers model that generates.

    Raises:
        GenerationError: a model without the entry that this version of transformers has.
    """
    if not callable(getattr(model, _NAME, None)) or not callable(getattr(model, "generate", None)):
        raise GenerationError(
            f"a transformers model with generate() and {_NAME}() is needed, got "
            f"{type(model).__name__}"
        )
    model.destroy_cached_continuous_batching_manager()
    setattr(model, _NAME, _refuse)


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise GenerationError(
        "continuous batching gives a watermark no history of tokens, so that its text would be "
        "unmarked: use generate(), or serve with vLLM"
    )


def _refuse_others(arguments: dict[str, Any], watermark: TransformersWatermark) -> None:
    """Refuse what would put a second mark on the text, or answer without processors at all."""
    settings = arguments.get("generation_config")
    marks = [arguments.get("watermarking_config"), getattr(settings, "watermarking_config", None)]
    own = "this model marks what it says with its server's key; leave {} out"
    if any(mark is not None and mark is not watermark for mark in marks):
        raise GenerationError(own.format("watermarking_config"))
    processors = arguments.get("logits_processor") or ()
    if any(isinstance(processor, WatermarkProcessor) for processor in processors):
        raise GenerationError(own.format("WatermarkProcessor"))
    if arguments.get("custom_generate") is not None:
        raise GenerationError("custom_generate need not ask a watermark's processor; leave it out")
