"""Prompts in, answers out: a model, its tokenizer and its mark put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from watermark.config import WatermarkConfig
from watermark.errors import MissingExtraError, ModelError
from watermark.generation.sampling import Sampling
from watermark.keys import Key
from watermark.models import load_model, resolve_model
from watermark.tokens import check_fingerprint, load_tokenizer

__all__ = ["Answered", "answer_prompts"]


class Answered(NamedTuple):
    """What was answered.

    Attributes:
        rows: one a prompt: prompt, text, token_ids, sampling, and config fingerprint and key id if
            marked.
        config: the config used, bound to the model's tokenizer; None if unmarked.
    """

    rows: list[dict[str, Any]]
    config: WatermarkConfig | None


def answer_prompts(
    model: str | Path,
    prompts: Sequence[str],
    *,
    config: WatermarkConfig | None = None,
    key: Key | None = None,
    on_tokens: Callable[[int], object] = lambda n: None,
    **sampling: Any,
) -> Answered:
    """Answer prompts with a chat model.

    Args:
        model: "smollm2", a folder or a Hub id.
        prompts: user messages.
        config: the deployment; None for unmarked answers.
        key: the key; needed with a config.
        on_tokens: called with the number of tokens drawn since the last call.
        **sampling: fields of `watermark.generation.loop.Sampling`.

    Returns:
        The answers, in the order of the prompts.

    Raises:
        ConfigError: the config's borders are not in the model's vocabulary.
        FingerprintError: the config is bound to another tokenizer.
        ModelError: no such model.
    """
    try:
        from transformers import AutoTokenizer

        from watermark.generation.loop import sample_answers
        from watermark.marking import Marker
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "hf") from None
    folder = resolve_model(model)
    tokens = load_tokenizer(folder)
    marker = None
    if config is not None and key is not None:
        check_fingerprint(tokens, config.tokenizer)
        config = config.bound_to(tokens.fingerprint)
        config.check_vocabulary(tokens.vocab_size)
        marker = Marker(config, key)
    chat = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    drawn_as = Sampling(**sampling)
    answers = sample_answers(
        load_model(folder),
        _formatted(chat, prompts, folder.name),
        drawn_as,
        end_ids=[chat.eos_token_id],
        marker=marker,
        on_tokens=on_tokens,
    )
    marks = (
        {"config_fingerprint": config.fingerprint, "key_id": key.key_id} if config and key else {}
    )
    rows = [
        {
            "prompt": p,
            "text": tokens.decode(a.token_ids),
            "token_ids": list(a.token_ids),
            "sampling": _law(drawn_as),
            **marks,
        }
        for p, a in zip(prompts, answers, strict=True)
    ]
    return Answered(rows, config)


def _law(sampling: Sampling) -> dict[str, float]:
    """Tell what counterfactuals of answers must be drawn with."""
    return {
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
    }


def _formatted(chat: Any, prompts: Sequence[str], name: str) -> list[list[int]]:
    """Put prompts into the model's chat format; refuse a model that cannot chat."""
    from watermark.generation.loop import chat_prompt

    if chat.eos_token_id is None:
        raise ModelError(f"{name} does not say which token ends an answer (eos_token)")
    try:
        return [chat_prompt(chat, prompt) for prompt in prompts]
    except Exception as error:
        # A template is the model's own: it can fail in any way the template language allows.
        raise ModelError(
            f"{name} has no chat template that can be used "
            f"({str(error).partition('!')[0][:200]}); give a chat model"
        ) from None
