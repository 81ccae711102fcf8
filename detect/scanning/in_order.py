"""A corpus read once, in order, by one process: pieces as in a scan, one after another."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.documents import Columns, Document
from detect.scanning.encoding import fault_of
from detect.scanning.pieces import Piece, cut_corpus
from detect.scanning.reading import Failure, Mark, Record, read_piece, where
from watermark.errors import DocumentError
from watermark.tokens import TextTokenizer

__all__ = ["Placed", "ids_of", "name_of", "place_error", "read_documents", "read_in_order"]


class Placed(NamedTuple):
    """What was read, where it stands ("corpus.jsonl, line 17"), and the number of its piece."""

    item: Record | Failure
    source: str
    piece: int


def read_in_order(pieces: Iterable[Piece], columns: Columns) -> Iterator[Placed]:
    """Read pieces; places are counted from the beginning of each file.

    Args:
        pieces: all of a corpus, in order.
        columns: names of the fields.

    Yields:
        Documents, and what could not be read as one.

    Raises:
        DocumentError: a file is gone or cannot be reached.
        MissingExtraError: the extra "corpus" is needed.
    """
    before, earlier = 0, ""
    for number, piece in enumerate(pieces):
        before = before if piece.source == earlier else 0
        place, earlier = 0, piece.source
        for item in read_piece(piece, columns):
            place = item.place
            if not isinstance(item, Mark):
                yield Placed(item, where(piece, before + place), number)
        before += place


def read_documents(source: str | Path, columns: Columns = Columns()) -> Iterator[Document]:  # noqa: B008
    """Read a corpus, of which nothing may be damaged.

    Args:
        source: a .jsonl (also .gz, .zst), .parquet or .txt file, a folder of them, a URL of
            either, or "datasets:NAME[:split]" with a name or folder that the `datasets` library
            knows.
        columns: names of the fields.

    Yields:
        The documents, in order; one is read when it is asked for.

    Raises:
        DocumentError: missing or damaged; names file and line, row or byte.
        MissingExtraError: Parquet, a URL or `datasets` without the extra "corpus".
    """
    # Whole files: only workers need pieces of them.
    corpus = cut_corpus(str(source), columns, sys.maxsize)
    for item, place, _ in read_in_order(corpus.pieces, columns):
        if isinstance(item, Failure):
            raise DocumentError(place_error(item.error, place), reason=item.error.reason)
        ids = None if item.ids is None else tuple(item.ids.tolist())
        yield Document(name_of(item, place), place, item.text, ids)


def ids_of(document: Document, tokenizer: TextTokenizer) -> NDArray[np.int64]:
    """Give a document's ids.

    Args:
        document: with text or logged ids.
        tokenizer: the provider's.

    Returns:
        int64, shape (T,).

    Raises:
        DocumentError: an id that the tokenizer does not have; names the document.
    """
    if document.text is not None:
        return tokenizer.encode(document.text)
    ids = np.array(document.token_ids, np.int64)
    if fault := fault_of(ids, tokenizer):
        raise DocumentError(place_error(fault, document.source), reason=fault.reason)
    return ids


def name_of(record: Record, source: str) -> str:
    """Name a document: as it says itself, or by where it stands."""
    return source.rpartition("/")[2] if record.name is None else record.name


def place_error(error: DocumentError, source: str) -> str:
    """Write an error of `detect.scanning` with the document's place in it."""
    return str(error).replace("{document}", source, 1)
