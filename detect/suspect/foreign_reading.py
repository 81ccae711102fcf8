"""Reading mode for a suspect with a tokenizer of its own.

The mark lives in the provider's tokens, the suspect's distributions in its own. Both cut the same
text. Where a token of each begins at the same byte, each of the suspect's tokens that has the bytes
of one of the provider's moves that pair; its clean reference is a model with the suspect's
tokenizer. What does not match costs power alone; so does a text that the suspect's tokenizer
changes (case, characters), which is not read: what its prompt shows could not be told any more.

H0: the suspect is independent of the key. The texts are, too, so that all that is known of the
pairs is: `detect.suspect.reading` applies as it stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np

from detect.suspect.alignment import ids_by_bytes, known_starts
from detect.suspect.exchanges import ReadingText
from detect.suspect.reading import (
    Moves,
    PairSums,
    PairWeights,
    Reader,
    largest_moves,
    read_together,
    readable_positions,
)
from watermark.contexts import windows
from watermark.tokens import TextTokenizer

__all__ = ["ForeignReader", "foreign_pairs"]

_CHANGED: Final = "changed_by_its_tokenizer"


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
    own = suspect.tokenizer
    theirs, mine_by_bytes = ids_by_bytes(tokenizer), ids_by_bytes(own)
    shared = [(i, theirs[text]) for text, i in mine_by_bytes.items() if text in theirs]
    texts = [
        ReadingText(suspect.chat_ids(prompt), tuple(own.encode(text).tolist()))
        for prompt, text in exchanges
    ]
    sums, counts, n_positions, n_named = PairSums(context_width), Counter[str](), 0, 0
    for index, mine, clean in read_together(suspect, reference, texts):
        on_positions(len(mine))
        prompt, text = exchanges[index]
        ids = tokenizer.encode(text)
        if not (_is_kept(own, text) and _is_kept(own, prompt)):
            counts[_CHANGED] += len(ids)
            continue
        read = ReadingText(_shown(tokenizer, suspect, prompt), tuple(ids.tolist()))
        kept, reasons = readable_positions(read, context_width, tokenizer.special_ids)
        places = _meeting(tokenizer, own, text)
        met = [t for t in kept.tolist() if t in places]
        counts.update(reasons, token_begins_elsewhere=len(kept) - len(met))
        # A vocabulary may be larger than what the model has logits for.
        columns = [(i, ours) for i, ours in shared if i < mine.shape[1]]
        if not met or not columns:
            continue
        n_positions += len(met)
        from_own, to_ours = (np.array(ids, np.int64) for ids in zip(*columns, strict=True))
        n_named += int(np.isin(ids[met], to_ours).sum())
        at = [places[t] for t in met]
        move = largest_moves(
            mine[at][:, from_own], None if clean is None else clean[at][:, from_own], frozenset()
        )
        contexts = windows(ids, context_width)[np.array(met) - context_width]
        sums.add(contexts, Moves(to_ours[move.tokens], move.suspect, move.reference))
    return sums.result(n_positions, dict(counts), n_named / max(n_positions, 1))


def _is_kept(own: TextTokenizer, text: str) -> bool:
    """Tell whether a tokenizer gives a text back as it was."""
    return own.decode(own.encode(text).tolist()) == text


def _shown(tokenizer: TextTokenizer, suspect: ForeignReader, prompt: str) -> tuple[int, ...]:
    """List the provider's tokens of all that the suspect saw: the prompt and its chat form."""
    shown = (prompt, suspect.chat_text(prompt))
    return tuple(i for text in shown for i in tokenizer.encode(text).tolist())


def _meeting(tokenizer: TextTokenizer, own: TextTokenizer, text: str) -> dict[int, int]:
    """Find the provider's tokens of a text that begin where one of the suspect's does."""
    mine = known_starts(own.pieces(text))
    return {t: mine[start] for start, t in known_starts(tokenizer.pieces(text)).items()
            if start in mine}  # fmt: skip
