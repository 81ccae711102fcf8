"""Neutralisation: a thief who fears a mark takes off, at inference, what training changed.

Pan et al. (ACL 2025). The thief knows neither key nor scheme. For each short context of its
training data it averages how the log-probabilities of the next token moved from before to after
training, and subtracts that from the logits wherever the context comes up again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np
import torch
from torch import Tensor

from benchmarks.inheritance.lessons import MAX_NEW_TOKENS, TEMPERATURE, TOP_K
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.reading import largest_moves, read_together
from watermark.cli import progress
from watermark.contexts import windows
from watermark.generation.loop import sample_answers
from watermark.generation.sampling import Sampling
from watermark.models import load_model

__all__ = ["Neutraliser", "neutral_answers"]

# The thief guesses the width of the mark's context, here rightly.
_WIDTH: Final = 2
_LARGEST: Final = 5.0  # nats; a token that one model rules out must not rule the mean


@final
class Neutraliser:
    """Stands where a marker does: after truncation, before the draw.

    Args:
        before: the model before training.
        after: the model after it.
        texts: the training data.
    """

    key_ids: tuple[str, ...] = ()

    def __init__(
        self,
        before: TransformersSuspect,
        after: TransformersSuspect,
        texts: Sequence[ReadingText],
    ) -> None:
        self._moved: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
        times: dict[tuple[int, ...], int] = defaultdict(int)
        with progress(sum(len(t.token_ids) for t in texts), "what training moved", "tok") as bar:
            for index, mine, clean in read_together(after, before, texts):
                self._add(texts[index], mine, clean, times)
                bar.update(len(mine))
        for context, moved in self._moved.items():
            for token in moved:
                moved[token] /= times[context]

    def _add(
        self,
        text: ReadingText,
        mine: Tensor,
        clean: Tensor | None,
        times: dict[tuple[int, ...], int],
    ) -> None:
        moves = largest_moves(mine[_WIDTH:], None if clean is None else clean[_WIDTH:], frozenset())
        assert moves.reference is not None
        ratios = np.log(np.maximum(moves.suspect, 1e-9) / np.maximum(moves.reference, 1e-9))
        ratios = np.clip(ratios, -_LARGEST, _LARGEST)
        contexts = windows(np.array(text.token_ids, np.int64), _WIDTH).tolist()
        for row, tokens, moved in zip(
            contexts, moves.tokens.tolist(), ratios.tolist(), strict=True
        ):
            context = tuple(row)
            times[context] += 1
            seen = self._moved[context]
            for token, ratio in zip(tokens, moved, strict=True):
                seen[token] = seen.get(token, 0.0) + ratio

    def __call__(
        self,
        response_ids: Tensor,
        logits: Tensor,
        generator: torch.Generator | None = None,
        *,
        token_ids: Tensor | None = None,
    ) -> Tensor:
        """Take the mean move of each row's context off; see `watermark.marking.Marker`."""
        assert token_ids is not None
        off = torch.zeros_like(logits)
        for row, context in enumerate(response_ids[:, -_WIDTH:].tolist()):
            if moved := self._moved.get(tuple(context)):
                known = [moved.get(token, 0.0) for token in token_ids[row].tolist()]
                off[row] = torch.tensor(known)
        return logits - off


def neutral_answers(
    base: TransformersSuspect,
    folder: Path,
    learned: Sequence[ReadingText],
    prompts: Sequence[str],
    seed: int,
) -> list[SuspectAnswer]:
    """Let a student answer with what it learned taken off.

    Args:
        base: the model that it started from.
        folder: the student's.
        learned: its training data.
        prompts: what it is asked.
        seed: of the sampler.

    Returns:
        One answer a prompt.
    """
    student = TransformersSuspect(folder)
    neutraliser = Neutraliser(base, student, learned)
    sampling = Sampling(MAX_NEW_TOKENS, TEMPERATURE, TOP_K, seed=seed)
    with progress(len(prompts) * MAX_NEW_TOKENS, "neutralised", "tok") as bar:
        drawn = sample_answers(
            load_model(folder),
            [student.chat_ids(prompt) for prompt in prompts],
            sampling,
            end_ids=student.end_ids,
            marker=cast(Any, neutraliser),
            on_tokens=bar.update,
        )
    return [
        SuspectAnswer(student.chat_text(prompt), student.tokenizer.decode(answer.token_ids))
        for prompt, answer in zip(prompts, drawn, strict=True)
    ]
