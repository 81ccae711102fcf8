"""A suspect whose weights are at hand: it answers, and it reads.

It is opened, never trusted: safetensors or GGUF only, none of its code is run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from detect.suspect.exchanges import Positions, ReadingText, SuspectAnswer, derived_seed
from watermark.errors import FingerprintError, ModelError
from watermark.generation.sampling import Sampling
from watermark.tokens import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TransformersSuspect"]

# Texts side by side, and positions of a batch with its padding: at 50,000 tokens of vocabulary in
# bf16 the logits of a full batch are 200 MB. One longer text is read alone.
_READING_BATCH = 8
_READING_POSITIONS = 2_048


@final
class TransformersSuspect:
    """A suspect whose weights are at hand, in a transformers folder.

    Args:
        folder: safetensors folder; refused if it holds pickles or code.
        name: its name in results; the folder's name by default.
        tokenizer_is_rebuilt: from a GGUF file, which says what the tokens are, and only by a name
            how text is cut.
    """

    def __init__(
        self, folder: Path, name: str | None = None, *, tokenizer_is_rebuilt: bool = False
    ) -> None:
        from transformers import AutoTokenizer

        from watermark.models import load_model

        self._model = load_model(folder)
        self.name = name or folder.name
        self._rebuilt = tokenizer_is_rebuilt
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

        Raises:
            GenerationError: logits that are no numbers.
            ModelError: no usable chat template, or no end token.
        """
        from watermark.generation.loop import sample_answers

        formatted = [self.chat_ids(prompt) for prompt in prompts]
        drawn = sample_answers(
            self._model, formatted, sampling, end_ids=self.end_ids, on_tokens=on_tokens
        )
        return [
            SuspectAnswer(self._as_text(ids), self.tokenizer.decode(answer.token_ids))
            for ids, answer in zip(formatted, drawn, strict=True)
        ]

    def ask(
        self, prompts: Sequence[str], sampling: Sampling, known: Collection[int] = ()
    ) -> Generator[tuple[int, SuspectAnswer], None, None]:
        """Answer prompts block by block; see `Suspect`.

        A block has a seed of its own and is drawn whole, also if part of it is known: its answers
        do not depend on where an earlier run stopped.
        """
        for start in range(0, len(prompts), sampling.batch_size):
            block = range(start, min(start + sampling.batch_size, len(prompts)))
            missing = set(block).difference(known)
            if not missing:
                continue
            seeded = replace(sampling, seed=derived_seed(sampling.seed, start))
            answers = self.answers(prompts[block.start : block.stop], seeded)
            yield from ((i, a) for i, a in zip(block, answers, strict=True) if i in missing)

    def shares_tokenizer(self, tokenizer: TextTokenizer) -> bool:
        """True if a tokenizer is the model's own, or names the same tokens as a rebuilt one."""
        if self.tokenizer.fingerprint == tokenizer.fingerprint:
            return True
        return self._rebuilt and self.tokenizer.has_tokens_of(tokenizer)

    def chat_ids(self, prompt: str) -> tuple[int, ...]:
        """Format one user message as ids.

        Args:
            prompt: the message.

        Returns:
            Ids up to where the answer begins.

        Raises:
            ModelError: no usable chat template.
        """
        from watermark.generation.loop import chat_prompt

        try:
            return tuple(chat_prompt(self._chat, prompt))
        except Exception as error:
            # A template is the model's own: it can fail in any way the template language allows.
            raise ModelError(
                f"{self.name} has no chat template that can be used "
                f"({str(error).partition('!')[0][:200]}); add one to its tokenizer_config.json, "
                "for example that of the model it was made from"
            ) from None

    def chat_text(self, prompt: str) -> str:
        """Format one user message as text; see `chat_ids`."""
        return self._as_text(self.chat_ids(prompt))

    def _as_text(self, ids: Sequence[int]) -> str:
        return str(self._chat.decode(list(ids)))

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        """Read texts with teacher forcing, a small batch at a time.

        Args:
            texts: what is read.

        Yields:
            The distributions at temperature 1, text by text, in an order that depends on the
            texts alone.

        Raises:
            FingerprintError: ids that the model does not have.
            ModelError: a text without prompt or beyond the model's length, or logits that are no
                numbers.
        """
        import torch

        self._check_readable(texts)
        for chosen in _batches([_length(text) for text in texts]):
            logits = self._logits([texts[i] for i in chosen])
            for row, i in enumerate(chosen):
                first = len(texts[i].prompt_ids) - 1
                wanted = logits[row, first : first + len(texts[i].token_ids)]
                probabilities = torch.softmax(wanted.float(), dim=-1)
                if not torch.isfinite(probabilities.sum()):
                    raise ModelError(
                        f"{self.name} gave logits that are no numbers (NaN or infinite) on reading "
                        f"text {i + 1}; its weights are damaged"
                    )
                yield Positions(i, probabilities.cpu())

    @property
    def longest(self) -> int:
        """Tokens that it can read at once, prompt included."""
        return int(getattr(self._model.config, "max_position_embeddings", None) or sys.maxsize)

    def _check_readable(self, texts: Sequence[ReadingText]) -> None:
        n_known = int(self._model.get_input_embeddings().num_embeddings)
        for number, text in enumerate(texts, 1):
            if not text.prompt_ids:
                raise ModelError(
                    f"reading text {number} has no prompt: what stands before its first token?"
                )
            highest = max((*text.prompt_ids, *text.token_ids))
            if highest >= n_known:
                raise FingerprintError(
                    f"reading text {number} holds token id {highest}, but {self.name} knows "
                    f"{n_known} tokens: its vocabulary is another one. Probe it with --access text"
                )
            if _length(text) > self.longest:
                raise ModelError(
                    f"reading text {number} has {_length(text)} tokens with its prompt, but "
                    f"{self.name} reads at most {self.longest}; give shorter texts"
                )

    def _logits(self, texts: Sequence[ReadingText]) -> Tensor:
        import torch

        width = max(_length(text) for text in texts)
        rows = [[*t.prompt_ids, *t.token_ids] + [0] * (width - _length(t)) for t in texts]
        with torch.inference_mode():
            # Padding stands at the end, where causal attention keeps it out of sight.
            ids = torch.tensor(rows, device=self._model.device)
            logits: Tensor = self._model(input_ids=ids, use_cache=False).logits
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


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group texts of like length, so that little is padding and memory stays bounded."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        full = len(batch) == _READING_BATCH
        if batch and (full or (len(batch) + 1) * lengths[i] > _READING_POSITIONS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _length(text: ReadingText) -> int:
    return len(text.prompt_ids) + len(text.token_ids)
