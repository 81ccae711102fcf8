"""A reference model reads one text: how likely its tokens were, and what an entropy gate saw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detect.scoring.reference_text import token_entropies, token_log_probs
from detect.suspect.exchanges import ReadingText
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.opening import open_weights
from watermark.errors import FingerprintError
from watermark.tokens import TextTokenizer

__all__ = ["check_same_tokenizer", "read_as_reference", "replay_gate"]


def read_as_reference(
    name: str, tokenizer: TextTokenizer, prompt: str | None, text: str, temperature: float
) -> NDArray[np.float64]:
    """Open a reference model and let it read one text.

    Args:
        name: "smollm2", a folder or a Hub id.
        tokenizer: the provider's, which the model must share.
        prompt: what the text answers, if known.
        text: the text.
        temperature: at which it is presumed to have been drawn.

    Returns:
        float64, shape (T,), ln p of each token.

    Raises:
        FingerprintError: the model has another tokenizer.
    """
    model = open_weights(name)
    return token_log_probs(model, _reading(model, tokenizer, prompt, text), temperature=temperature)


def replay_gate(
    name: str, tokenizer: TextTokenizer, prompt: str | None, text: str, temperature: float
) -> NDArray[np.float64]:
    """Open a reference model and let it tell what an entropy gate saw; see `read_as_reference`.

    Returns:
        float64, shape (T,), the entropy of each token's distribution, nats.
    """
    model = open_weights(name)
    return token_entropies(model, _reading(model, tokenizer, prompt, text), temperature=temperature)


def _reading(
    model: TransformersSuspect, tokenizer: TextTokenizer, prompt: str | None, text: str
) -> ReadingText:
    check_same_tokenizer(model, tokenizer)
    return ReadingText(model.chat_ids(prompt or ""), tuple(tokenizer.encode(text).tolist()))


def check_same_tokenizer(model: TransformersSuspect, tokenizer: TextTokenizer) -> None:
    """Refuse a model that cannot read the provider's tokens.

    Args:
        model: the model.
        tokenizer: the provider's.

    Raises:
        FingerprintError: it has another tokenizer.
    """
    if not model.shares_tokenizer(tokenizer):
        raise FingerprintError(
            f"{model.name} has another tokenizer than the provider: it cannot read the provider's "
            "tokens here. Probe with --access text or --reading, test texts without --reference"
        )
