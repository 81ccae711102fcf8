"""Readers of corpora: JSONL, Parquet, text files, folders of them, and `datasets`.

A document is read when it is asked for; nothing is held. An error names file and line.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast, final

from watermark.errors import DocumentError, MissingExtraError
from watermark.files import read_text_file

__all__ = ["Columns", "Document", "read_documents"]

_JSONL: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")
_DATASETS: Final = "datasets:"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


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
    if str(source).startswith(_DATASETS):
        yield from _from_datasets(str(source).removeprefix(_DATASETS), columns)
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
    return path.is_file() and path.name.endswith((*_JSONL, ".parquet", ".txt"))


def _from_file(path: Path, columns: Columns) -> Iterator[Document]:
    if path.name.endswith(_JSONL):
        return _from_jsonl(path, columns)
    if path.suffix == ".parquet":
        return _from_parquet(path, columns)
    if path.suffix == ".txt":
        return iter([Document(path.name, str(path), read_text_file(path))])
    raise DocumentError(f"{path}: expected .jsonl, .jsonl.gz, .jsonl.zst, .parquet or .txt")


def _from_jsonl(path: Path, columns: Columns) -> Iterator[Document]:
    number = 0
    try:
        with _open(path) as file:
            for raw in file:
                number += 1
                if raw.strip():
                    yield _document(_parsed(raw, path, number), columns, f"{path}, line {number}")
    except (EOFError, zlib.error, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"{path}, after line {number}: cannot be read: {reason}") from None


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix == ".zst":
        pyarrow = _import("pyarrow")
        return cast(IO[bytes], _Lines(pyarrow.CompressedInputStream(str(path), "zstd")))
    return path.open("rb")


@final
class _Lines:
    """Lines of a pyarrow stream, which knows only blocks."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while block := self._stream.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
        if rest:
            yield rest


def _parsed(raw: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path}, line {number}: not UTF-8 at byte {error.start} of the line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}, line {number}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise DocumentError(
            f"{path}, line {number}: expected a JSON object, got {type(record).__name__}"
        )
    return record


def _from_parquet(path: Path, columns: Columns) -> Iterator[Document]:
    pyarrow, parquet = _import("pyarrow"), _import("pyarrow.parquet")
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            wanted = [c for c in columns if c in file.schema_arrow.names]
            _check_columns(set(file.schema_arrow.names), columns, str(path))
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for record in batch.to_pylist():
                    row += 1
                    yield _document(record, columns, f"{path}, row {row}")
    except DocumentError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        # Damage inside a column comes out as Python's own errors (invalid UTF-8, wrong years).
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DocumentError(f"{path}, after row {row}: damaged Parquet: {first_line}") from None


def _from_datasets(name: str, columns: Columns) -> Iterator[Document]:
    datasets = _import("datasets")
    name, _, split = name.partition(":")
    load = datasets.load_from_disk if (Path(name) / "state.json").exists() else None
    try:
        rows = (
            load(name)
            if load
            else datasets.load_dataset(name, split=split or "train", streaming=True)
        )
        for number, record in enumerate(rows):
            yield _document(record, columns, f"datasets:{name}, row {number}")
    except DocumentError:
        raise
    except Exception as error:
        # datasets raises what its many back ends raise.
        raise DocumentError(
            f"datasets:{name} cannot be read: {type(error).__name__}: {error}"
        ) from None


def _document(record: dict[str, Any], columns: Columns, source: str) -> Document:
    _check_columns(set(record), columns, source)
    name = record.get(columns.id)
    name = str(name) if name is not None else source.rpartition("/")[2]
    text = record.get(columns.text)
    if isinstance(text, str):
        if not text.isascii() and _SURROGATE.search(text):
            raise DocumentError(f"{source}: not valid Unicode: a lone surrogate in the text")
        return Document(name, source, text)
    ids = record.get(columns.token_ids)
    if text is None and ids is not None and _are_ids(ids):
        return Document(name, source, None, tuple(ids))
    found = type(text).__name__ if text is not None else type(ids).__name__
    raise DocumentError(
        f"{source}: expected text in {columns.text!r} or a list of ids in "
        f"{columns.token_ids!r}, got {found}"
    )


def _are_ids(ids: Any) -> bool:
    return isinstance(ids, list) and all(type(i) is int and 0 <= i < 1 << 32 for i in ids)


def _check_columns(present: set[str], columns: Columns, source: str) -> None:
    if not present & {columns.text, columns.token_ids}:
        raise DocumentError(
            f"{source}: no field {columns.text!r} and no {columns.token_ids!r}; it has: "
            f"{', '.join(sorted(present)) or 'none'}. Name the field with --text-field"
        )


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError(name.partition(".")[0], "corpus") from None
