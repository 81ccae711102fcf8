"""From a suspect's answers to the distinct pairs that may be scored. No key is needed for that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.scores import Reason, Selection, join_pairs, select_pairs
from detect.suspect.exchanges import SuspectAnswer
from watermark.channels import ReasoningChannel
from watermark.contexts import group_rows
from watermark.prf import NATIVE
from watermark.tokens import TextTokenizer
from watermark.word_sources import Pairs, WordSource

__all__ = ["AnswerPairs", "pool_answers"]


@final
@dataclass(frozen=True)
class AnswerPairs:
    """Distinct pairs of all answers, in the order of the answers.

    Attributes:
        contexts: int64, shape (n, h).
        tokens: int64, shape (n,).
        places: int64, shape (n,), of the tokens among those of all answers, one after another.
        n_tokens: tokens of all answers.
        reasons: unscored ones, by reason.
    """

    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    places: NDArray[np.int64]
    n_tokens: int
    reasons: dict[str, int]

    def as_selection(self) -> Selection:
        """Return the pairs as what is scored."""
        return Selection.of_pairs(Pairs(self.contexts, self.tokens))


def pool_answers(
    tokenizer: TextTokenizer,
    answers: Sequence[SuspectAnswer],
    context_width: int,
    source: WordSource = NATIVE,
    reasoning: ReasoningChannel | None = None,
) -> AnswerPairs:
    """Collect the pairs of answers.

    Contexts that occur in an answer's own prompt are dropped: what could be copied is no evidence.
    The text is cut by the provider's tokenizer, whatever the suspect's own one is.

    Args:
        tokenizer: the provider's tokenizer.
        answers: the suspect's answers.
        context_width: h.
        source: what makes the words.
        reasoning: the deployment's borders, which a student may have learned to write.

    Returns:
        The pairs; unscored tokens by reason.
    """
    texts = tokenizer.encode_many([answer.text for answer in answers])
    prompts = tokenizer.encode_many([answer.prompt for answer in answers])
    selections = [
        select_pairs(
            text,
            context_width,
            prompt_ids=prompt,
            special_ids=tokenizer.special_ids,
            drop_repeated_contexts=False,
            source=source,
            reasoning=reasoning,
        )
        for text, prompt in zip(texts, prompts, strict=True)
    ]
    reasons: Counter[str] = Counter()
    for selection in selections:
        reasons.update(selection.reason_counts())
    contexts, tokens = pairs = join_pairs(selections, context_width)
    new = group_rows(source.evidence(pairs))[0]
    if len(tokens) > len(new):
        reasons["pair_in_earlier_answer"] = len(tokens) - len(new)
    scored = np.concatenate(
        [np.empty(0, np.bool_), *(s.reasons == Reason.SCORED for s in selections)]
    )
    return AnswerPairs(
        contexts[new], tokens[new], np.flatnonzero(scored)[new], len(scored), dict(reasons)
    )
