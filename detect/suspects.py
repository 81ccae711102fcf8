"""What can be asked of a model under test: answers to prompts, and next-token distributions.

A suspect is opened, never trusted: safetensors only, none of its code is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

from watermark.errors import ModelError
from watermark.tokens import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from watermark.generation import Sampling

__all__ = ["Positions", "ReadingText", "Suspect", "SuspectAnswer", "TransformersSuspect"]

_READING_BATCH = 8


@final
@dataclass(frozen=True)
class SuspectAnswer:
    """One exchange with a suspect, as text: `prompt` in its full chat form."""

    prompt: str
    text: str


@final
@dataclass(frozen=True)
class ReadingText:
    """A text that models read with teacher forcing.

    Attributes:
        prompt_ids: what stands before the response.
        token_ids: the response; the distributions over its tokens are asked for.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]


@final
@dataclass(frozen=True)
class Positions:
    """Distributions over the tokens of one response.

    Attributes:
        index: which reading text.
        probabilities: float32, shape (T, V): row t is the distribution of response token t.
    """

    index: int
    probabilities: Tensor


class Suspect(Protocol):
    """What the inheritance tests need of a model."""

    @property
    def name(self) -> str:
        """Its name in results."""

    def answers(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        on_tokens: Callable[[int], object] = ...,
    ) -> list[SuspectAnswer]:
        """Answer prompts."""


@final
class TransformersSuspect:
    """A suspect whose weights are at hand, in a transformers folder.

    Args:
        folder: safetensors folder; refused if it holds pickles or code.
        name: its name in results; the folder's name by default.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        from transformers import AutoTokenizer

        from watermark.models import load_model

        self._model = load_model(folder)
        self.name = name or folder.name
        self.tokenizer: TextTokenizer = load_tokenizer(folder)
        try:
            self._chat = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder}: its tokenizer cannot be loaded: {error}") from None

    def answers(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        on_tokens: Callable[[int], object] = lambda n: None,
    ) -> list[SuspectAnswer]:
        """Answer prompts by sampling.

        Args:
            prompts: user messages.
            sampling: how answers are drawn.
            on_tokens: called with the number of tokens drawn since the last call.

        Returns:
            One answer a prompt, in order.
        """
        from watermark.generation import chat_prompt, sample_answers

        formatted = [chat_prompt(self._chat, prompt) for prompt in prompts]
        drawn = sample_answers(
            self._model, formatted, sampling, end_ids=self.end_ids, on_tokens=on_tokens
        )
        return [
            SuspectAnswer(str(self._chat.decode(ids)), self.tokenizer.decode(answer.token_ids))
            for ids, answer in zip(formatted, drawn, strict=True)
        ]

    def chat_ids(self, prompt: str) -> tuple[int, ...]:
        """Format one user message as ids."""
        from watermark.generation import chat_prompt

        return tuple(chat_prompt(self._chat, prompt))

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        """Read texts with teacher forcing, a small batch at a time.

        Args:
            texts: what is read.

        Yields:
            The distributions at temperature 1, text by text.
        """
        import torch

        order = sorted(range(len(texts)), key=lambda i: _length(texts[i]))
        for start in range(0, len(order), _READING_BATCH):
            chosen = order[start : start + _READING_BATCH]
            logits = self._logits([texts[i] for i in chosen])
            for row, i in enumerate(chosen):
                first = len(texts[i].prompt_ids) - 1
                wanted = logits[row, first : first + len(texts[i].token_ids)]
                yield Positions(i, torch.softmax(wanted.float(), dim=-1))

    def _logits(self, texts: Sequence[ReadingText]) -> Tensor:
        import torch

        width = max(_length(text) for text in texts)
        rows = [[*t.prompt_ids, *t.token_ids] + [0] * (width - _length(t)) for t in texts]
        with torch.inference_mode():
            # Padding stands at the end, where causal attention keeps it out of sight.
            logits: Tensor = self._model(input_ids=torch.tensor(rows), use_cache=False).logits
        return logits

    @property
    def end_ids(self) -> list[int]:
        """Ids that end an answer."""
        ids: Any = self._model.generation_config.eos_token_id
        if ids is None:
            ids = self._chat.eos_token_id
        if ids is None:
            raise ModelError(f"{self.name} does not say which token ends an answer (eos_token_id)")
        return list(ids) if isinstance(ids, list | tuple) else [int(ids)]


def _length(text: ReadingText) -> int:
    return len(text.prompt_ids) + len(text.token_ids)
