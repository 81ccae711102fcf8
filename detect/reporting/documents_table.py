"""The table of a corpus's documents, and those to be read token by token, if listed so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from detect.reporting.colours import Colouring, colour_tokens
from detect.reporting.fields import Fields
from detect.reporting.reader import DocumentView, read_documents, read_tokens
from detect.reporting.sourced import derived, source_of

__all__ = ["DocumentTable", "ReadDocument", "read_document_table"]

_MAX_DOCUMENTS: Final = 200
# Of the documents that list their tokens; more would make the page slow to open.
_MAX_READ: Final = 3


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """One document, token by token."""

    id: str
    colouring: Colouring


@dataclass(frozen=True, slots=True)
class DocumentTable:
    """The strongest documents of a corpus, how many there are in all, and some to be read."""

    shown: tuple[DocumentView, ...]
    n_listed: int
    total: int
    n_significant: int
    path: str
    read: tuple[ReadDocument, ...] = ()
    n_in_result: int = 0

    @property
    def n_left_out(self) -> int:
        """Documents that the table does not list."""
        left_out = self.total - self.n_listed
        return derived(left_out, f"{source_of(self.total)} - {source_of(self.n_listed)}")

    @property
    def is_complete(self) -> bool:
        """Whether the result holds every document, also those that are not listed here."""
        return self.n_in_result == self.total

    def first(self, most: int) -> DocumentTable:
        """Return a table with at most so many documents, none of them to be read."""
        shown = self.shown[:most]
        n_listed = derived(len(shown), f"min(len({self.path}), {most})")
        return replace(self, shown=shown, n_listed=n_listed, read=())


def read_document_table(fields: Fields) -> DocumentTable:
    """Read the documents of a corpus.

    Args:
        fields: the result.

    Returns:
        The table.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    documents, path = read_documents(fields), fields.path("documents")
    total = fields.maybe_count("n_documents")
    significant = fields.maybe_count("n_significant")
    if total is not None and total < len(documents):
        raise fields.refusal("n_documents", f"at least the {len(documents)} documents listed")
    if total is None:
        total = derived(len(documents), f"len({path})")
    if significant is None:
        n_signal = sum(document.claim.verdict == "signal" for document in documents)
        significant = derived(n_signal, f"n_where({path}, 'verdict', 'signal')")
    shown = documents[:_MAX_DOCUMENTS]
    n_listed = derived(len(shown), f"min(len({path}), {_MAX_DOCUMENTS})")
    read = _read(fields, shown)
    return DocumentTable(shown, n_listed, total, significant, path, read, len(documents))


def _read(fields: Fields, shown: tuple[DocumentView, ...]) -> tuple[ReadDocument, ...]:
    """Colour the strongest of the documents that list their tokens."""
    objects = fields.objects("documents")
    read: list[ReadDocument] = []
    for document in shown:
        inner = objects[document.index]
        if len(read) == _MAX_READ or not inner.has("tokens"):
            continue
        colouring = colour_tokens(read_tokens(inner), inner, fields)
        if colouring:
            read.append(ReadDocument(document.id, colouring))
    return tuple(read)
