"""A reference model reads a text: how likely was each of its tokens?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detect.suspect.reading import Reader
from detect.suspect.suspects import ReadingText

__all__ = ["token_log_probs"]


def token_log_probs(
    reader: Reader, text: ReadingText, *, temperature: float = 1.0
) -> NDArray[np.float64]:
    """Compute ln p of each token of a text under a reference model.

    Args:
        reader: the reference model; it need not be the one that wrote the text.
        text: what stands before the text, and the text.
        temperature: at which the text is presumed to have been drawn, > 0.

    Returns:
        float64, shape (T,), natural logarithms.
    """
    import torch

    if not text.token_ids:
        return np.empty(0)
    (positions,) = reader.read([text])
    # A temperature raises probabilities to a power; the logits are not needed for that.
    logs = torch.log_softmax(positions.probabilities.double().log() / temperature, dim=-1)
    chosen = logs.gather(1, torch.tensor(text.token_ids)[:, None]).squeeze(1)
    found: NDArray[np.float64] = chosen.clamp(max=0.0).numpy()
    return found
