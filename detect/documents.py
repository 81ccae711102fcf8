"""Readers of corpora: JSONL, Parquet, text files, folders of them, and `datasets`.

A document is read when it is asked for; nothing is held. An error names file and line.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast, final

from watermark.errors import DocumentError
from watermark.extras import import_extra
from watermark.files import read_text_file

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
    "read_documents",
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


def read_documents(source: str | Path, columns: Columns = Columns()) -> Iterator[Document]:  # noqa: B008
    """Read a corpus.

    Args:
        source: a .jsonl (also .gz, .zst), .parquet or .txt file, a folder of them, or
            "datasets:NAME[:split]" with a name or folder that the `datasets` library knows.
        columns: names of the fields.

    Yields:
        The documents, in order.

    Raises:
        DocumentError: missing or damaged; names file and line, row or byte.
        MissingExtraError: Parquet or `datasets` without the extra "corpus".
    """
    if str(source).startswith(DATASETS):
        yield from _from_datasets(str(source).removeprefix(DATASETS), columns)
        return
    path = Path(source)
    if not path.exists():
        raise DocumentError(f"there is no file or folder {path}")
    files = sorted(p for p in path.rglob("*") if _is_corpus(p)) if path.is_dir() else [path]
    if not files:
        raise DocumentError(f"the folder {path} holds no .jsonl, .parquet or .txt file")
    for file in files:
        yield from _from_file(file, columns)


def _is_corpus(path: Path) -> bool:
    return path.is_file() and path.name.endswith((*JSONL, ".parquet", ".txt"))


def _from_file(path: Path, columns: Columns) -> Iterator[Document]:
    if path.name.endswith(JSONL):
        return _from_jsonl(path, columns)
    if path.suffix == ".parquet":
        return _from_parquet(path, columns)
    if path.suffix == ".txt":
        return iter([Document(path.name, str(path), read_text_file(path))])
    raise DocumentError(f"{path}: expected .jsonl, .jsonl.gz, .jsonl.zst, .parquet or .txt")


def _from_jsonl(path: Path, columns: Columns) -> Iterator[Document]:
    number = 0
    try:
        with open_stream(path.open("rb"), path.name) as file:
            for raw in file:
                number += 1
                if raw.strip():
                    source = f"{path}, line {number}"
                    yield document_of(parse_line(raw, source), columns, source)
    except (EOFError, zlib.error, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"{path}, after line {number}: cannot be read: {reason}") from None


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


def _from_parquet(path: Path, columns: Columns) -> Iterator[Document]:
    pyarrow, parquet = import_extra("pyarrow"), import_extra("pyarrow.parquet")
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            wanted = [c for c in columns if c in file.schema_arrow.names]
            check_columns(set(file.schema_arrow.names), columns, str(path))
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for record in batch.to_pylist():
                    row += 1
                    yield document_of(record, columns, f"{path}, row {row}")
    except DocumentError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        # Damage inside a column comes out as Python's own errors (invalid UTF-8, wrong years).
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DocumentError(f"{path}, after row {row}: damaged Parquet: {first_line}") from None


def _from_datasets(name: str, columns: Columns) -> Iterator[Document]:
    datasets = import_extra("datasets")
    name, _, split = name.partition(":")
    load = datasets.load_from_disk if (Path(name) / "state.json").exists() else None
    try:
        rows = (
            load(name)
            if load
            else datasets.load_dataset(name, split=split or "train", streaming=True)
        )
        for number, record in enumerate(rows):
            yield document_of(record, columns, f"datasets:{name}, row {number}")
    except DocumentError:
        raise
    except Exception as error:
        # datasets raises what its many back ends raise.
        raise DocumentError(
            f"datasets:{name} cannot be read: {type(error).__name__}: {error}"
        ) from None


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
