"""Reading mode for a suspect with a tokenizer of its own.

The mark lives in the provider's tokens, the suspect's distributions in its own. Both cut the same
text. Where a token of each begins at the same byte, each of the suspect's tokens that has the bytes
of one of the provider's moves that pair; its clean reference is a model with the suspect's
tokenizer. What does not match costs power alone.

H0: the suspect is independent of the key. The texts are, too, so that all that is known of the
pairs is: `detect.suspect.reading` applies as it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from detect.suspect.alignment import ids_by_bytes, known_starts
from detect.suspect.exchanges import ReadingText
from detect.suspect.reading import (
    Moves,
    PairWeights,
    Reader,
    largest_moves,
    read_together,
    readable_positions,
    sum_pairs,
)
from watermark.contexts import windows
from watermark.tokens import TextTokenizer

__all__ = ["ForeignReader", "foreign_pairs"]


class ForeignReader(Reader, Protocol):
    """A reader that turns texts into its own tokens."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """Its own tokenizer."""

    def chat_ids(self, prompt: str) -> tuple[int, ...]:
        """Format a prompt as its own ids, up to where the answer begins."""

    def chat_text(self, prompt: str) -> str:
        """Format a prompt as text: all that an answer could copy from."""


def foreign_pairs(
    tokenizer: TextTokenizer,
    suspect: ForeignReader,
    reference: Reader | None,
    exchanges: Sequence[tuple[str, str]],
    *,
    context_width: int,
    on_positions: Callable[[int], object] = lambda n: None,
) -> PairWeights:
    """Let suspect and reference read, and collect what they say of the provider's pairs.

    Args:
        tokenizer: the provider's.
        suspect: the model under test.
        reference: a clean model with the suspect's tokenizer, or None.
        exchanges: prompts and unmarked texts.
        context_width: h.
        on_positions: called with the number of the suspect's positions read since the last call.

    Returns:
        The pairs, in the provider's tokens.

    Raises:
        FingerprintError: suspect and reference have vocabularies of different sizes.
    """
    columns, ours = _shared_tokens(tokenizer, suspect.tokenizer)
    texts = [
        ReadingText(suspect.chat_ids(prompt), tuple(suspect.tokenizer.encode(text).tolist()))
        for prompt, text in exchanges
    ]
    rows, moves, counts, n_positions = [], [], Counter[str](), 0
    for index, mine, clean in read_together(suspect, reference, texts):
        on_positions(len(mine))
        prompt, text = exchanges[index]
        ids = tokenizer.encode(text)
        shown = tuple(tokenizer.encode(suspect.chat_text(prompt)).tolist())
        read = ReadingText(shown, tuple(ids.tolist()))
        kept, reasons = readable_positions(read, context_width, tokenizer.special_ids)
        places = _meeting(tokenizer, suspect.tokenizer, text)
        met = [t for t in kept.tolist() if t in places]
        counts.update(reasons, token_begins_elsewhere=len(kept) - len(met))
        if not met:
            continue
        n_positions += len(met)
        at = [places[t] for t in met]
        move = largest_moves(
            mine[at][:, columns], None if clean is None else clean[at][:, columns], frozenset()
        )
        contexts = windows(ids, context_width)[np.array(met) - context_width]
        rows.append(np.repeat(contexts, move.tokens.shape[1], axis=0))
        moves.append(Moves(ours[move.tokens], move.suspect, move.reference))
    found = {name: n for name, n in counts.items() if n}
    return sum_pairs(rows, moves, context_width, n_positions, found)


def _shared_tokens(
    tokenizer: TextTokenizer, own: TextTokenizer
) -> tuple[list[int], np.ndarray]:  # fmt: skip
    """List the suspect's tokens that the provider has too, and the provider's ids of them."""
    theirs, mine = ids_by_bytes(tokenizer), ids_by_bytes(own)
    shared = [(token, theirs[text]) for text, token in mine.items() if text in theirs]
    return [token for token, _ in shared], np.array([ours for _, ours in shared], np.int64)


def _meeting(tokenizer: TextTokenizer, own: TextTokenizer, text: str) -> dict[int, int]:
    """Find the provider's tokens of a text that begin where one of the suspect's does."""
    mine = known_starts(own.pieces(text))
    return {t: mine[start] for start, t in known_starts(tokenizer.pieces(text)).items()
            if start in mine}  # fmt: skip
