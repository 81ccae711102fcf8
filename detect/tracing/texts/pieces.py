"""Documents cut into pieces, so that what others wrote around a passage does not dilute it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detect.scoring.scores import Reason, Selection
from detect.tracing.texts.reading import TokenizedDocument

__all__ = ["cut_document"]


def cut_document(
    document: TokenizedDocument, selection: Selection, size: int | None
) -> Iterator[tuple[TokenizedDocument, Selection]]:
    """Cut a document and its pairs, which were chosen from the whole: repeats stay dropped.

    Args:
        document: the document.
        selection: its pairs.
        size: tokens of a piece; None leaves the document whole.

    Yields:
        The pieces in order, each with its own pairs; names and places say which tokens they hold.
    """
    n_tokens = selection.n_tokens
    if size is None or n_tokens <= size:
        yield document, selection
        return
    scored_before = np.append(0, np.cumsum(selection.reasons == Reason.SCORED))
    for start in range(0, n_tokens, size):
        stop = min(start + size, n_tokens)
        first, end = int(scored_before[start]), int(scored_before[stop])
        ids = document.token_ids[start:stop]
        yield (
            TokenizedDocument(
                f"{document.id} [{start}:{stop}]",
                f"{document.source}, tokens {start} to {stop}",
                ids,
            ),
            Selection(
                ids,
                selection.reasons[start:stop],
                selection.contexts[first:end],
                selection.tokens[first:end],
            ),
        )
