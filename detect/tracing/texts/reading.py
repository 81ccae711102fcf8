"""A corpus read once, in order, by one process: batches of documents with their token ids.

Files are read as in a scan (`detect.scanning`); the search under many keys takes so much longer
than the reading that more processes would gain nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.documents import DATASETS, JSONL, Columns
from detect.scanning.encoding import encode_documents, encode_texts, fault_of
from detect.scanning.in_order import name_of, place_error, read_in_order
from detect.scanning.parts import DAMAGED, MAX_EXAMPLES
from detect.scanning.pieces import Corpus, Piece, check_unchanged, cut_corpus
from detect.scanning.reading import Failure, Record
from detect.scanning.results import LeftOut
from detect.scanning.stores import is_url
from watermark.errors import DocumentError
from watermark.storage.files import read_text_file
from watermark.tokens import TextTokenizer

__all__ = ["CorpusReader", "SingleText", "TokenizedDocument", "is_corpus"]

# Tokenised together.
_BATCH: Final = 256
_BATCH_CHARACTERS: Final = 1 << 20


class TokenizedDocument(NamedTuple):
    """A document: its name, where it stands, and its ids, int64 of shape (T,)."""

    id: str
    source: str
    token_ids: NDArray[np.int64]


def is_corpus(source: str) -> bool:
    """Tell a corpus from a single text: a text is a file of another ending, or "-"."""
    if source == "-":
        return False
    path = Path(source)
    is_file = not is_url(source) and not source.startswith(DATASETS) and path.is_file()
    return not is_file or path.name.lower().endswith((*JSONL, ".parquet"))


@final
@dataclass(frozen=True)
class SingleText:
    """A text by itself.

    Attributes:
        source: its file, or "-" for standard input.
    """

    source: str
    left_out: LeftOut = field(default_factory=lambda: LeftOut({}, ()))
    files_not_read: tuple[str, ...] = ()
    size: int = 0

    def batches(self, tokenizer: TextTokenizer) -> Iterator[tuple[list[TokenizedDocument], int]]:
        """Read it.

        Args:
            tokenizer: the provider's.

        Yields:
            It alone, and a number of bytes.

        Raises:
            DocumentError: it cannot be read.
        """
        text = read_text_file(self.source)
        name = "standard input" if self.source == "-" else self.source
        (token_ids,) = encode_texts(tokenizer, [text])
        yield [TokenizedDocument(Path(name).name, name, token_ids)], 0


@final
class CorpusReader:
    """Reads a corpus; what could not be read is counted.

    Attributes:
        left_out: documents that could not be read so far.
        files_not_read: files whose endings are none of a corpus.
    """

    def __init__(self, source: str, columns: Columns, *, skips_bad: bool) -> None:
        """Cut the corpus.

        Args:
            source: as in a scan.
            columns: names of the fields.
            skips_bad: whether documents that cannot be read are counted, or end the search.

        Raises:
            DocumentError: missing, or without a file that can be read.
            MissingExtraError: the extra "corpus" is needed.
        """
        self._source, self._columns, self._skips_bad = source, columns, skips_bad
        self._corpus: Corpus = cut_corpus(source, columns)
        self._counts: Counter[str] = Counter()
        self._examples: list[str] = []

    @property
    def left_out(self) -> LeftOut:
        """Documents that could not be read so far."""
        return LeftOut(self._counts, tuple(self._examples))

    @property
    def files_not_read(self) -> tuple[str, ...]:
        """Files whose endings are none of a corpus."""
        return self._corpus.not_read

    @property
    def size(self) -> int:
        """Bytes of the corpus; 0 if unknown."""
        return self._corpus.size

    def batches(self, tokenizer: TextTokenizer) -> Iterator[tuple[list[TokenizedDocument], int]]:
        """Read the corpus.

        Args:
            tokenizer: the provider's.

        Yields:
            Some documents, in order, and the bytes of the pieces that were finished.

        Raises:
            DocumentError: a document that cannot be read, unless these are counted; the corpus has
                changed meanwhile.
        """
        held: list[tuple[Record, str]] = []
        n_characters = told = 0
        pieces = self._corpus.pieces
        for item, source, number in read_in_order(pieces, self._columns):
            if isinstance(item, Failure):
                self._fail(item, source)
                continue
            held.append((item, source))
            n_characters += len(item.text or "")
            if len(held) >= _BATCH or n_characters >= _BATCH_CHARACTERS:
                yield self._tokenized(held, tokenizer), _size(pieces[told:number])
                held, n_characters, told = [], 0, number
        yield self._tokenized(held, tokenizer), _size(pieces[told:])
        check_unchanged(self._source, self._corpus)

    def _tokenized(
        self, held: list[tuple[Record, str]], tokenizer: TextTokenizer
    ) -> list[TokenizedDocument]:
        found = []
        encoded = encode_documents(tokenizer, [(r.text, r.ids) for r, _ in held])
        for (record, source), ids in zip(held, encoded, strict=True):
            if fault := fault_of(ids, tokenizer):
                self._fail(Failure(0, fault), source)
                continue
            found.append(TokenizedDocument(name_of(record, source), source, ids))
        return found

    def _fail(self, failure: Failure, source: str) -> None:
        message = place_error(failure.error, source)
        if not self._skips_bad:
            raise DocumentError(
                f"{message}\nMend it; or count such documents and go on without them: --skip-bad",
                reason=failure.error.reason,
            )
        self._counts[failure.error.reason] += failure.n
        if failure.error.reason == DAMAGED:
            # Hides any number of documents: named before all else.
            self._examples.insert(0, message)
        else:
            self._examples.append(message)
        del self._examples[MAX_EXAMPLES:]


def _size(pieces: Sequence[Piece]) -> int:
    return sum(piece.size for piece in pieces)
