"""Which tokens of a response may be marked: the rule, once.

A token may be marked where its channel is (`ReasoningChannel.is_marked`), where it has a whole
context in its stretch between two borders, and where that context has not stood before a token of
the same stretch, whether that one was marked or not. With h = 0, or where the source marks
repeats, the last condition falls away. All this is known from the ids before the token; an entropy
gate looks at its final distribution as well.

Nothing else matters to the generator: it marks special tokens, the tokens of a border (nobody knows
yet that they are one) and contexts that the prompt shows. The detector takes the rule from here
and leaves out more, by what is evidence and what is not (`detect.scoring.scores`).

The same is said of the next token of many rows in torch (`watermark.due_rows`), of a list that
grows (`watermark.serving.requests`), and of a corpus without borders by a compiled kernel
(`watermark.kernels.numba_scan`); tests/watermark/test_markable.py holds them together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from watermark.channels import ReasoningChannel
from watermark.contexts import first_occurrences, windows

__all__ = ["Standing", "stand"]


class Standing(NamedTuple):
    """Where the tokens of a response stand; a token may be marked if none of the last three holds.

    Attributes:
        on_border: bool, shape (T,): part of a border, which shows only when it is complete.
        in_unmarked_channel: bool, shape (T,): in reasoning that is left unmarked.
        without_context: bool, shape (T,): fewer than h tokens stand before it in its stretch.
        repeats_context: bool, shape (T,): its context stood before a token of its stretch.
    """

    on_border: NDArray[np.bool_]
    in_unmarked_channel: NDArray[np.bool_]
    without_context: NDArray[np.bool_]
    repeats_context: NDArray[np.bool_]


def stand(
    token_ids: NDArray[np.int64],
    context_width: int,
    reasoning: ReasoningChannel | None = None,
    *,
    marks_repeats: bool = False,
) -> Standing:
    """Find out where tokens stand. But for `on_border`, what follows a token changes nothing.

    Args:
        token_ids: int64, shape (T,), a response from its start.
        context_width: h.
        reasoning: the deployment's borders; None is a model without.
        marks_repeats: whether a context is marked again when it comes back; with h = 0 it always
            is.

    Returns:
        Where they stand.
    """
    h, at = context_width, np.arange(len(token_ids))
    nowhere, starts = np.zeros(len(at), np.bool_), np.zeros_like(at)
    on_border = in_unmarked_channel = nowhere
    if reasoning is not None:
        places = reasoning.place(token_ids)
        starts, on_border = places.starts[:-1], places.on_border
        if not reasoning.is_marked:
            in_unmarked_channel = places.in_reasoning[:-1]
    without_context = at - starts < h
    if h == 0 or marks_repeats:
        return Standing(on_border, in_unmarked_channel, without_context, nowhere)
    rows = windows(token_ids, h)
    if reasoning is not None:
        # What spans a border is no context: of each place with one, a row of its own.
        alone = np.where(without_context, at, -1)
        rows = np.column_stack([starts[h:], alone[h:], rows])
    repeats_context = np.append(nowhere[:h], ~first_occurrences(rows))
    return Standing(on_border, in_unmarked_channel, without_context, repeats_context)
