"""A reference model reads a text: how likely was each of its tokens?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from detect.suspect.exchanges import ReadingText
from detect.suspect.reading import Reader

__all__ = ["log_probs_of", "token_entropies", "token_log_probs"]


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
    return log_probs_of(reader, [text], temperature=temperature)[0]


def log_probs_of(
    reader: Reader,
    texts: Sequence[ReadingText],
    *,
    temperature: float = 1.0,
    on_positions: Callable[[int], object] = lambda n: None,
) -> list[NDArray[np.float64]]:
    """Compute ln p of each token of many texts; see `token_log_probs`.

    Args:
        reader: the reference model.
        texts: what stands before each text, and the text.
        temperature: at which the texts are presumed to have been drawn, > 0.
        on_positions: called with the number of positions read since the last call.

    Returns:
        float64, shape (T,) each, natural logarithms, in the order of the texts.
    """
    import torch

    found: list[NDArray[np.float64]] = [np.empty(0)] * len(texts)
    full = [i for i, text in enumerate(texts) if text.token_ids]
    for positions in reader.read([texts[i] for i in full]):
        at = full[positions.index]
        ids = torch.tensor(texts[at].token_ids)
        # A temperature raises probabilities to a power; the logits are not needed for that.
        logs = torch.log_softmax(positions.probabilities.double().log() / temperature, dim=-1)
        found[at] = logs.gather(1, ids[:, None]).squeeze(1).clamp(max=0.0).numpy()
        on_positions(len(ids))
    return found


def token_entropies(
    reader: Reader, text: ReadingText, *, temperature: float = 1.0
) -> NDArray[np.float64]:
    """Compute the entropy of the distribution of each token of a text, as a gate saw it.

    As far as the reference model is the one that wrote the text; what top-k or top-p cut away is
    not known, and makes entropies too large.

    Args:
        reader: the reference model.
        text: what stands before the text, and the text.
        temperature: at which the text is presumed to have been drawn, > 0.

    Returns:
        float64, shape (T,), nats.
    """
    from watermark.kernels.torch_entropy import row_entropies

    if not text.token_ids:
        return np.empty(0)
    (positions,) = reader.read([text])
    return row_entropies(positions.probabilities.log() / temperature).double().numpy()
