"""What a document of a corpus is, and what lines and records must hold to be one.

`detect.scanning.in_order` reads a corpus; `detect.scanning` tests one of any size.
"""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass
from typing import IO, Any, Final, NamedTuple, cast, final

from watermark.errors import DocumentError
from watermark.extras import import_extra

__all__ = [
    "COMPRESSED",
    "DATASETS",
    "JSONL",
    "Columns",
    "Document",
    "check_columns",
    "document_of",
    "open_stream",
    "parse_line",
]

JSONL: Final = (
    ".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"
)  # fmt: skip
COMPRESSED: Final = (".gz", ".zst")
_BUFFER: Final = 1 << 20
DATASETS: Final = "datasets:"


@final
@dataclass(frozen=True)
class Document:
    """One document: text, or token ids.

    Attributes:
        id: its name in results.
        source: where it stands, "corpus.jsonl, line 17".
        text: the text, or None if there are ids.
        token_ids: logged ids, or None if there is text.
    """

    id: str
    source: str
    text: str | None = None
    token_ids: tuple[int, ...] | None = None


class Columns(NamedTuple):
    """Names of the fields that are read; ids are taken where a record has no text."""

    text: str = "text"
    token_ids: str = "token_ids"  # noqa: S105
    id: str = "id"


def open_stream(file: IO[bytes], name: str) -> IO[bytes]:
    """Read a file's lines, unpacked.

    Args:
        file: the file as it stands, open for reading; closed with what is returned.
        name: its name, whose ending says how it is packed.

    Returns:
        A file of bytes to iterate over, as a context manager.

    Raises:
        MissingExtraError: zstd without the extra "corpus".
    """
    if name.endswith(".gz"):
        return cast(IO[bytes], _Closing(cast(IO[bytes], gzip.GzipFile(fileobj=file)), file))
    if name.endswith(".zst"):
        pyarrow = import_extra("pyarrow")
        unpacked = io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), _BUFFER)
        return cast(IO[bytes], _Closing(unpacked, file))
    return file


@final
class _Closing:
    """An unpacking file that closes what it reads from."""

    def __init__(self, unpacked: IO[bytes], file: IO[bytes]) -> None:
        self._unpacked, self._file = unpacked, file

    def __enter__(self) -> IO[bytes]:
        return self._unpacked

    def __exit__(self, *exception: object) -> None:
        self._unpacked.close()
        self._file.close()


def parse_line(raw: bytes, source: str) -> dict[str, Any]:
    """Parse a line of JSONL.

    Args:
        raw: the line.
        source: where it stands.

    Returns:
        The object.

    Raises:
        DocumentError: not UTF-8, not JSON, not an object.
    """
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{source}: not UTF-8 at byte {error.start} of the line", reason="not_utf8"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{source}: not JSON: {error}", reason="not_json") from None
    if not isinstance(record, dict):
        raise DocumentError(
            f"{source}: expected a JSON object, got {type(record).__name__}", reason="not_an_object"
        )
    return record


def document_of(record: dict[str, Any], columns: Columns, source: str) -> Document:
    """Take a record's text or ids.

    Args:
        record: fields by name.
        columns: names of the fields that are read.
        source: where it stands; also its name, if the record has none.

    Returns:
        The document.

    Raises:
        DocumentError: neither text nor ids.
    """
    check_columns(set(record), columns, source)
    name = record.get(columns.id)
    name = str(name) if name is not None else source.rpartition("/")[2]
    text = record.get(columns.text)
    if isinstance(text, str):
        if not text.isascii() and not _is_unicode(text):
            raise DocumentError(
                f"{source}: not valid Unicode: a lone surrogate in the text",
                reason="invalid_unicode",
            )
        return Document(name, source, text)
    ids = record.get(columns.token_ids)
    if text is None and ids is not None and _are_ids(ids):
        return Document(name, source, None, tuple(ids))
    found = type(text).__name__ if text is not None else type(ids).__name__
    if text is None and isinstance(ids, list):
        found = "list of other than whole numbers from 0 to 2^32 - 1"
    raise DocumentError(
        f"{source}: expected text in {columns.text!r} or a list of ids in "
        f"{columns.token_ids!r}, got {found}",
        reason="no_text_and_no_ids",
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _are_ids(ids: Any) -> bool:
    return isinstance(ids, list) and all(type(i) is int and 0 <= i < 1 << 32 for i in ids)


def check_columns(present: set[str], columns: Columns, source: str) -> None:
    """Refuse a record, or a table, that has neither field.

    Args:
        present: names of its fields.
        columns: names of the fields that are read.
        source: where it stands.

    Raises:
        DocumentError: lists the fields that there are.
    """
    if not present & {columns.text, columns.token_ids}:
        raise DocumentError(
            f"{source}: no field {columns.text!r} and no {columns.token_ids!r}; it has: "
            f"{', '.join(sorted(present)) or 'none'}. Name the field with --text-field",
            reason="no_text_and_no_ids",
        )
