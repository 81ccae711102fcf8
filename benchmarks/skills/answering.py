"""One round of answers to a set of problems, marked or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from benchmarks.skills.tasks import Problem
from watermark.config import WatermarkConfig
from watermark.generation.loop import Answer, Sampling, chat_prompt, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.tokens import TextTokenizer

__all__ = ["Said", "answer_problems", "round_key"]


@final
@dataclass(frozen=True)
class Said:
    """One answer.

    Attributes:
        prompt_ids: int64, shape (P,).
        token_ids: int64, shape (T,), cut where the text is cut.
        text: the answer, cut at a stop string.
        key: of its round; for an unmarked answer one that was never used.
    """

    prompt_ids: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    text: str
    key: SecretKey


def round_key(seed: int, number: int) -> SecretKey:
    """Make the key of a round: in use a key is secret, here a run must be repeatable."""
    return SecretKey(f"skills {seed:>10} {number:>10}".encode().rjust(32, b"."))


def answer_problems(
    model: Any,
    chat: Any,
    tokenizer: TextTokenizer,
    problems: Sequence[Problem],
    sampling: Sampling,
    *,
    n_rounds: int,
    config: WatermarkConfig | None,
    on_tokens: Callable[[int], object] = lambda n: None,
) -> list[list[Said]]:
    """Answer every problem once a round, each round under a key of its own.

    One key for several answers to one prompt would make them more alike than chance does.

    Args:
        model: a transformers causal language model.
        chat: its transformers tokenizer.
        tokenizer: the same, as detectors use it.
        problems: what is asked.
        sampling: how.
        n_rounds: answers to each problem.
        config: what marks; None for no mark.
        on_tokens: called with the number of tokens drawn since the last call.

    Returns:
        One list a round, in the order of the problems.
    """
    prompts = [_prompt_ids(chat, problem) for problem in problems]
    keys = [round_key(sampling.seed, number) for number in range(n_rounds)]
    marker = Marker(config, [k for k in keys for _ in problems]) if config else None
    drawn = sample_answers(
        model,
        prompts * n_rounds,
        sampling,
        end_ids=[chat.eos_token_id, 0],
        marker=marker,
        on_tokens=on_tokens,
    )
    said = []
    for number, key in enumerate(keys):
        answers = drawn[number * len(problems) :]
        rows = zip(problems, prompts, answers, strict=False)
        said.append([_said(tokenizer, *row, key) for row in rows])
    return said


def _prompt_ids(chat: Any, problem: Problem) -> list[int]:
    opening = chat(problem.opening, add_special_tokens=False)["input_ids"]
    return [*chat_prompt(chat, problem.message), *opening]


def _said(
    tokenizer: TextTokenizer, problem: Problem, prompt: list[int], answer: Answer, key: SecretKey
) -> Said:
    ids = answer.token_ids
    text = tokenizer.decode(ids)
    cuts = [at for stop in problem.stops if (at := text.find(stop)) >= 0]
    if cuts:
        text = text[: min(cuts)]
        ids = ids[: _tokens_within(tokenizer, ids, len(text))]
    return Said(np.array(prompt, np.int64), np.array(ids, np.int64), text, key)


def _tokens_within(tokenizer: TextTokenizer, ids: Sequence[int], length: int) -> int:
    """Count the first tokens whose text is at most so many characters."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        if len(tokenizer.decode(ids[:middle])) <= length:
            low = middle
        else:
            high = middle - 1
    return low
