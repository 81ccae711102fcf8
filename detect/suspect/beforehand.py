"""What a probe by text knows before it looks at any word: counted contexts and a public model.

Neither may depend on the key under test (docs/decisions/0008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.finding import Plan
from detect.scoring.reference_text import log_probs_of
from detect.suspect.answer_pairs import AnswerPairs, pool_answers
from detect.suspect.context_counts import ContextCounts, count_contexts
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.inheritance import assess_pool, pool_scorer
from detect.suspect.open_weights import TransformersSuspect
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, ResultError
from watermark.storage.files import read_records, read_text_file
from watermark.tokens import TextTokenizer

__all__ = ["Beforehand", "count_own_texts", "refuse_weak_hash"]

# Own texts this unlikely under the null are marked with the key under test.
_MARKED_BELOW: Final = 1e-4
# ln p that stands for tokens beyond what the reference can read: typical ones.
_NOT_READ: Final = -3.0


@final
@dataclass(frozen=True)
class Beforehand:
    """What sets the score of a pair before its word is looked at.

    Attributes:
        counts: how often contexts occur in the provider's own texts, or None.
        reference: a public model that reads the answers, or None.
    """

    counts: ContextCounts | None = None
    reference: TransformersSuspect | None = None

    def check(self, plan: Plan) -> None:
        """Say what cannot be scored before anything is asked of a suspect.

        Raises:
            ConfigError: a reference for a scheme without likelihood, or weights for a score that
                has no lattice.
        """
        empty = np.empty(0, np.int64)
        contexts = np.empty((0, plan.config.context_width), np.int64)
        nothing = AnswerPairs(contexts, empty, empty, 0, {})
        pool_scorer(plan, nothing, self.counts, [] if self.reference else None)

    def log_probs(
        self,
        tokenizer: TextTokenizer,
        prompts: Sequence[str],
        answers: Sequence[SuspectAnswer],
        temperature: float,
        on_positions: Callable[[int], object] = lambda n: None,
    ) -> list[NDArray[np.float64]] | None:
        """Let the reference read answers in the provider's tokens.

        Args:
            tokenizer: the provider's, which the reference shares.
            prompts: user messages.
            answers: one a prompt.
            temperature: at which they are presumed to have been drawn.
            on_positions: called with the number of positions read since the last call.

        Returns:
            float64, shape (T,) an answer; None without a reference.
        """
        if self.reference is None:
            return None
        texts = self.reading(tokenizer, prompts, answers)
        read = log_probs_of(
            self.reference, texts, temperature=temperature, on_positions=on_positions
        )
        sizes = [len(tokenizer.encode(answer.text)) for answer in answers]
        return [
            np.pad(row, (0, size - len(row)), constant_values=_NOT_READ)
            for row, size in zip(read, sizes, strict=True)
        ]

    def reading(
        self, tokenizer: TextTokenizer, prompts: Sequence[str], answers: Sequence[SuspectAnswer]
    ) -> list[ReadingText]:
        """Make texts of answers for the reference to read, in the provider's tokens.

        An answer that is too long for the reference is cut: a suspect decides how much it says.
        """
        if self.reference is None:
            return []
        texts = []
        for prompt, answer in zip(prompts, answers, strict=True):
            shown = self.reference.chat_ids(prompt)
            room = max(self.reference.longest - len(shown), 0)
            texts.append(ReadingText(shown, tuple(tokenizer.encode(answer.text)[:room].tolist())))
        return texts


def refuse_weak_hash(config: WatermarkConfig) -> None:
    """Refuse marks whose hash cannot tell some pairs apart, where pairs carry weights.

    Weights of contexts and of whole distributions belong to pairs; where several of them share
    their words under every key, or words depend on each other, a sum over them is no sum of
    independent scores.

    Raises:
        ConfigError: such a mark.
    """
    source = config.source
    if not (source.tells_pairs_apart and source.null == "independent"):
        raise ConfigError(
            f"{source.name} hashes many pairs of context and token to the same words, or to words "
            "that depend on each other; such a mark can be tested by text alone, without weights. "
            "Probe with --access text and without --own-texts"
        )


def count_own_texts(path: Path, tokenizer: TextTokenizer, plan: Plan) -> ContextCounts:
    """Count the contexts of texts that the key under test did not shape.

    Args:
        path: JSONL with "text", as `heirmark generate --unmarked` writes it.
        tokenizer: the provider's.
        plan: the test that they serve.

    Returns:
        The counts.

    Raises:
        DocumentError: no line, or one without text.
        ConfigError: a mark without context.
        ResultError: they are marked under the key under test.
    """
    h = plan.config.context_width
    refuse_weak_hash(plan.config)
    if str(path) == "-":
        raise ConfigError("own texts are read twice, which standard input cannot be; give a file")
    if h == 0:
        raise ConfigError("a mark without context (h = 0) has no contexts to count")
    if plan.key.key_id in read_text_file(path):
        raise ResultError(
            f"{path} names the key under test ({plan.key.key_id}): how often texts marked under it "
            "reach a context depends on it. Give unmarked texts, or those of another key"
        )
    texts = [text for (text,) in read_records(path, ("text",))]
    pairs = pool_answers(
        tokenizer,
        [SuspectAnswer("", text) for text in texts],
        h,
        plan.config.source,
        plan.config.reasoning,
    )
    found = assess_pool(replace(plan, n_decoys=0, scorer=None), pairs)
    if found.tail.log10_p < math.log10(_MARKED_BELOW):
        raise ResultError(
            f"the own texts carry the mark of the key under test (log10 p = "
            f"{found.tail.log10_p:.1f}): how often they reach a context depends on it. Give "
            "answers made with heirmark generate --unmarked, or under another key"
        )
    return count_contexts(tokenizer.encode_many(texts), h)
