"""How likely a model finds given answers: one number a prompt and text, blind to the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from detect.suspect.exchanges import ReadingText
from detect.suspect.reading import Reader
from watermark.tokens import TextTokenizer

__all__ = ["Exchange", "Scores", "SuspectReader", "less", "mean_log_probs"]

Exchange = tuple[str, str]
Scores = Mapping[Exchange, float]

# Below it a probability in float32 is 0: one token must not make two texts alike.
_LEAST: Final = 1e-38


class SuspectReader(Reader, Protocol):
    """A model that reads texts cut by its own tokenizer."""

    tokenizer: TextTokenizer

    def chat_ids(self, prompt: str) -> tuple[int, ...]:
        """Format one user message as ids."""


def mean_log_probs(
    model: SuspectReader,
    exchanges: Iterable[Exchange],
    on_positions: Callable[[int], object] = lambda n: None,
) -> dict[Exchange, float]:
    """Let a model read answers with teacher forcing.

    Each distinct exchange is read once, in an order that says nothing about which of them was
    logged: rounding may differ from batch to batch.

    Args:
        model: the model.
        exchanges: (prompt, text) pairs.
        on_positions: called with the number of positions read since the last call.

    Returns:
        Mean natural log-probability of each text's tokens; -inf for a text without tokens.
    """
    distinct = sorted(set(exchanges))
    prompts = {prompt: model.chat_ids(prompt) for prompt, _ in distinct}
    texts = [
        ReadingText(prompts[prompt], tuple(model.tokenizer.encode(text).tolist()))
        for prompt, text in distinct
    ]
    found = dict.fromkeys(distinct, -math.inf)
    for index, probabilities in ((p.index, p.probabilities) for p in model.read(texts)):
        on_positions(len(probabilities))
        ids = texts[index].token_ids
        if ids:
            own = probabilities[range(len(ids)), list(ids)].double().clamp(min=_LEAST)
            found[distinct[index]] = float(own.log().mean())
    return found


def less(mine: Scores, clean: Scores) -> dict[Exchange, float]:
    """Subtract a reference's scores; what has no score of its own keeps none.

    Args:
        mine: of the suspect.
        clean: of the reference, for the same exchanges.

    Returns:
        The differences.
    """
    return {
        exchange: score - clean[exchange] if math.isfinite(score) else score
        for exchange, score in mine.items()
    }
