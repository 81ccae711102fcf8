"""Tokenising documents of any length: the library needs some 300 bytes for each token it is at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import DocumentError
from watermark.tokens import TextTokenizer

__all__ = ["encode_documents", "encode_texts", "fault_of"]

_LONGEST: Final = 1 << 20  # characters


def encode_texts(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Encode texts, very long ones in pieces.

    A text of more than a million characters is cut after a line break or before a space, where
    tokenizers that split words have a boundary of tokens anyway. With others a token or two at
    each cut may differ from those of the whole: where it is cut depends on the text alone, so that
    no p-value is wrong.

    Args:
        tokenizer: the provider's.
        texts: the texts.

    Returns:
        Their ids, int64 each.
    """
    encoded = iter(tokenizer.encode_many([text for text in texts if len(text) <= _LONGEST]))
    return [
        next(encoded) if len(text) <= _LONGEST else _encode_long(tokenizer, text) for text in texts
    ]


def encode_documents(
    tokenizer: TextTokenizer, documents: Sequence[tuple[str | None, NDArray[np.int64] | None]]
) -> Iterator[NDArray[np.int64]]:
    """Give the ids of documents: those of their texts, or where there is none the logged ones.

    Args:
        tokenizer: the provider's.
        documents: text and ids, one of them None.

    Yields:
        Ids, int64, shape (T,).
    """
    encoded = iter(encode_texts(tokenizer, [text for text, _ in documents if text is not None]))
    for text, logged in documents:
        ids = logged if text is None else next(encoded)
        assert ids is not None
        yield ids


def fault_of(ids: NDArray[np.int64], tokenizer: TextTokenizer) -> DocumentError | None:
    """Tell what is wrong with ids, if anything; "{document}" stands for the document's place."""
    if not ids.size or (ids.min() >= 0 and ids.max() < tokenizer.vocab_size):
        return None
    wrong = int(ids.min() if ids.min() < 0 else ids.max())
    return DocumentError(
        f"{{document}}: token id {wrong} is not in the tokenizer, which has "
        f"{tokenizer.vocab_size} tokens; give the tokenizer that made the ids",
        reason="id_out_of_vocabulary",
    )


def _encode_long(tokenizer: TextTokenizer, text: str) -> NDArray[np.int64]:
    return np.concatenate([tokenizer.encode(piece) for piece in _cut(text)])


def _cut(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _LONGEST:
        limit = start + _LONGEST
        cut = text.rfind("\n", start, limit) + 1
        if cut <= start:
            cut = text.rfind(" ", start + 1, limit)
        cut = limit if cut <= start else cut
        yield text[start:cut]
        start = cut
    yield text[start:]
