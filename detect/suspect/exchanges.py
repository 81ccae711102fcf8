"""What passes between us and a model under test: prompts and answers, texts and distributions."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

import numpy as np

from watermark.generation.sampling import Sampling

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Positions",
    "ReadingText",
    "ReportedPosition",
    "Suspect",
    "SuspectAnswer",
    "derived_seed",
]


@final
@dataclass(frozen=True)
class ReportedPosition:
    """What a suspect reported of one token of its answer.

    Attributes:
        start: where the drawn token begins in the answer's UTF-8 bytes.
        tokens: the likeliest tokens there, as bytes, in the suspect's own vocabulary.
        log_probs: natural log of each one's probability.
    """

    start: int
    tokens: tuple[bytes, ...]
    log_probs: tuple[float, ...]


@final
@dataclass(frozen=True)
class SuspectAnswer:
    """One exchange with a suspect, as text.

    Attributes:
        prompt: all that the answer could copy from, in its full chat form where that is known.
        text: the answer.
        reported: its positions in order, where the suspect offers log-probabilities.
        finish_reason: why it ended, in the server's words; empty if not known.
        model: the model in the server's words; empty if not known.
    """

    prompt: str
    text: str
    reported: tuple[ReportedPosition, ...] = ()
    finish_reason: str = ""
    model: str = ""


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
    """What the inheritance tests by text need of a model."""

    @property
    def name(self) -> str:
        """Its name in results."""

    def ask(
        self, prompts: Sequence[str], sampling: Sampling, known: Collection[int] = ()
    ) -> Generator[tuple[int, SuspectAnswer], None, None]:
        """Ask prompts, as far as their answers are not known.

        Args:
            prompts: all user messages; an answer may depend on its prompt's position among them.
            sampling: how answers are drawn.
            known: positions whose answer is at hand and not asked again.

        Yields:
            Position and answer, as they arrive.
        """


def derived_seed(seed: int, index: int) -> int:
    """Derive the seed of one prompt or block, so that it does not hang on what was asked before.

    Args:
        seed: of the whole sampling.
        index: of the prompt or block.

    Returns:
        31 bits: servers differ in how wide a seed they take.
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) >> 1
