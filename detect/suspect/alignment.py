"""Where tokens of two tokenizers meet: same first byte in a text, same bytes as a token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from watermark.tokens import TextTokenizer

__all__ = ["ids_by_bytes", "known_starts"]


def known_starts(pieces: Sequence[str]) -> dict[int, int]:
    """Find where tokens begin in the UTF-8 bytes of a text.

    Args:
        pieces: what each token adds to the text; see `TextTokenizer.pieces`.

    Returns:
        For each first byte, which token begins there. Tokens that share a character stand as an
        empty piece before a full one: where the second begins cannot be told, and neither is named.
        Behind a token that ends inside a character, other text before that, the start may be some
        bytes off: a pair that is then scored costs power, never validity.
    """
    sizes = [len(piece.encode()) for piece in pieces]
    starts = np.cumsum([0, *sizes])[:-1].tolist()
    return {
        start: t
        for t, start in enumerate(starts)
        if sizes[t] and (t == 0 or sizes[t - 1])
    }  # fmt: skip


def ids_by_bytes(tokenizer: TextTokenizer) -> dict[bytes, int]:
    """List a tokenizer's tokens by what they add to a text.

    Args:
        tokenizer: any.

    Returns:
        The lowest id of each; special tokens and parts of characters are left out.
    """
    anchor = tokenizer.encode("a").tolist()
    before = tokenizer.decode(anchor)
    found: dict[bytes, int] = {}
    for token in range(tokenizer.vocab_size):
        # Behind an anchor: some decoders drop a space at the very start.
        text = tokenizer.decode([*anchor, token])
        if token not in tokenizer.special_ids and text.startswith(before) and "\ufffd" not in text:
            found.setdefault(text[len(before) :].encode(), token)
    found.pop(b"", None)
    return found
