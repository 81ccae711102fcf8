"""A corpus cut into pieces of like length, each named plain, repetitive or templated.

The names depend on the text alone: on runs of four tokens that were met before, in the same piece
or in an earlier one. They are what makes naive tests accuse the innocent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.documents import Document
from detect.scanning.in_order import ids_of
from detect.scoring.scores import Selection, select_text
from watermark.config import WatermarkConfig
from watermark.contexts import first_occurrences
from watermark.errors import DocumentError
from watermark.tokens import TextTokenizer

__all__ = ["CRITERIA", "Piece", "Stratum", "cut_corpus"]

_RUN: Final = 4
_REPETITIVE_FROM: Final = 0.1
_TEMPLATED_FROM: Final = 0.5
_SHORTEST: Final = 20


@final
class Stratum(StrEnum):
    """What kind of text a piece is."""

    PLAIN = "plain"
    REPETITIVE = "repetitive"
    TEMPLATED = "templated"


CRITERIA: Final = {
    Stratum.PLAIN: "neither of the others",
    Stratum.REPETITIVE: (
        f"at least {_REPETITIVE_FROM:.0%} of its runs of {_RUN} tokens occur earlier in the piece"
    ),
    Stratum.TEMPLATED: (
        f"not repetitive, and at least {_TEMPLATED_FROM:.0%} of its runs of {_RUN} tokens occur "
        "in an earlier piece"
    ),
}


@final
@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of one document.

    Attributes:
        selection: which of its tokens are scored, by the rules for one text.
        stratum: what kind of text it is.
    """

    selection: Selection
    stratum: Stratum


def cut_corpus(
    documents: Iterable[Document],
    tokenizer: TextTokenizer,
    *,
    config: WatermarkConfig,
    length: int,
    on_tokens: Callable[[int], object] = lambda n: None,
) -> tuple[list[Piece], dict[str, int]]:
    """Cut documents into pieces.

    Args:
        documents: the corpus.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        length: tokens of a piece; the rest of a document is a shorter one.
        on_tokens: called after each document with its number of tokens.

    Returns:
        The pieces with at least one scored pair, and counts of dropped pieces by reason.

    Raises:
        DocumentError: a length below 20, an id that the tokenizer does not have, or no piece.
    """
    if length < _SHORTEST:
        raise DocumentError(f"pieces need at least {_SHORTEST} tokens, got {length}")
    cut: list[NDArray[np.int64]] = []
    for document in documents:
        ids = ids_of(document, tokenizer)
        cut += [ids[start : start + length] for start in range(0, len(ids), length)]
        on_tokens(len(ids))
    kept = [ids for ids in cut if len(ids) >= _SHORTEST]
    selections = [select_text(ids, config, tokenizer.special_ids) for ids in kept]
    strata = _strata(kept)
    pieces = [
        Piece(s, stratum) for s, stratum in zip(selections, strata, strict=True) if s.n_scored
    ]
    if not pieces:
        raise DocumentError(
            f"the corpus has no piece of at least {_SHORTEST} tokens with anything to score; "
            "give more or longer text"
        )
    dropped = {"too_short": len(cut) - len(kept), "nothing_scored": len(kept) - len(pieces)}
    return pieces, {reason: n for reason, n in dropped.items() if n}


def _strata(pieces: list[NDArray[np.int64]]) -> list[Stratum]:
    """Name the pieces by the runs of tokens that they share with themselves and earlier ones."""
    if not pieces:
        return []
    runs = [np.lib.stride_tricks.sliding_window_view(ids, _RUN) for ids in pieces]
    starts = np.cumsum([0, *(len(r) for r in runs)])[:-1]
    new_here = np.concatenate([first_occurrences(r) for r in runs])
    new_at_all = first_occurrences(np.concatenate(runs))
    lengths = np.array([len(r) for r in runs])
    own = 1 - np.add.reduceat(new_here, starts, dtype=np.int64) / lengths
    earlier = np.add.reduceat(new_here & ~new_at_all, starts, dtype=np.int64) / lengths
    return [
        Stratum.REPETITIVE
        if a >= _REPETITIVE_FROM
        else Stratum.TEMPLATED
        if b >= _TEMPLATED_FROM
        else Stratum.PLAIN
        for a, b in zip(own.tolist(), earlier.tolist(), strict=True)
    ]
