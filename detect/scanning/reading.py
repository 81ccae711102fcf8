"""Reading a piece of a corpus: its documents one by one, damaged ones as what they are."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from itertools import count, pairwise
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.documents import (
    Columns,
    Document,
    check_columns,
    document_of,
    open_stream,
    parse_line,
)
from detect.scanning.parts import DAMAGED
from detect.scanning.pieces import Piece, load_dataset
from detect.scanning.stores import changed, open_binary
from watermark.errors import DocumentError, WatermarkError
from watermark.extras import import_extra

__all__ = ["Failure", "Mark", "Record", "read_piece", "record_of", "where"]

# Bytes of a line or text: ten million tokens take a third of it.
LONGEST: Final = 1 << 28
_CHUNK: Final = 1 << 20


class Record(NamedTuple):
    """A document: its line or row in the piece, its name, and text or ids."""

    place: int
    name: str | None
    text: str | None
    ids: NDArray[np.int64] | None


class Failure(NamedTuple):
    """What stands where no document could be read; `n` of them, for a table without the column."""

    place: int
    error: DocumentError
    n: int = 1


class Mark(NamedTuple):
    """A line that holds no document, after which none comes."""

    place: int


def where(piece: Piece, place: int) -> str:
    """Say where a document stands.

    Args:
        piece: of the corpus.
        place: line or row, counted from the beginning of the file.

    Returns:
        "corpus.jsonl, line 17" and the like.
    """
    match piece.kind:
        case "text":
            return piece.source
        case "jsonl":
            return f"{piece.source}, line {place}"
        case "parquet":
            return f"{piece.source}, row {place}"
    # As `datasets` numbers them.
    return f"datasets:{piece.source}, row {place - 1}"


def read_piece(piece: Piece, columns: Columns, skip: int = 0) -> Iterator[Record | Failure | Mark]:
    """Read a piece.

    Args:
        piece: what to read.
        columns: names of the fields.
        skip: lines or rows that were read before.

    Yields:
        Documents, and what could not be read as one; empty lines are left out, but for the last.

    Raises:
        DocumentError: the file is gone or cannot be reached.
        MissingExtraError: the extra "corpus" is needed.
    """
    match piece.kind:
        case "text":
            return _read_text(piece, skip)
        case "jsonl":
            return _read_lines(piece, columns, skip)
        case "parquet":
            return _read_parquet(piece, columns, skip)
    return _read_dataset(piece, columns, skip)


def _read_text(piece: Piece, skip: int) -> Iterator[Record | Failure]:
    if skip:
        return
    with open_binary(piece.source) as file:
        raw = file.read(LONGEST + 1)
    if len(raw) > LONGEST:
        yield _too_long(1)
        return
    try:
        yield Record(1, None, raw.decode("utf-8").removeprefix("\ufeff"), None)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield Failure(
            1,
            DocumentError(
                f"{piece.source}, line {line}: not UTF-8 at byte {error.start} "
                f"(0x{raw[error.start]:02x}); convert the file to UTF-8",
                reason="not_utf8",
            ),
        )


def _read_lines(piece: Piece, columns: Columns, skip: int) -> Iterator[Record | Failure | Mark]:
    place, is_document = 0, True
    try:
        for place, raw in enumerate(_lines(piece), 1):
            is_document = raw is None or bool(raw.strip())
            if raw is None:
                if place > skip:
                    yield _too_long(place)
            elif place > skip and is_document:
                yield _parsed(raw, place, columns)
        if not is_document:
            yield Mark(place)
    except (EOFError, zlib.error, OSError) as error:
        if isinstance(error, WatermarkError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        yield Failure(
            place + 1,
            DocumentError(f"{_UNPLACED}: not read from here to its end: {reason}", reason=DAMAGED),
        )


def _lines(piece: Piece) -> Iterator[bytes | None]:
    """Lines that begin in the piece; None for one too long to be held."""
    name = piece.source.partition("::")[0].lower()
    opened = open_binary(piece.source)
    if piece.stop < 0 and not opened.read(1):
        opened.close()
        raise EOFError("the file is empty, which no packed file is")
    opened.seek(0)
    with open_stream(opened, name) as file:
        at, stop = piece.start, piece.stop if piece.stop >= 0 else math.inf
        if at:
            # What began before belongs to the piece before.
            file.seek(at - 1)
            at += _skip_line(file, stop - at + 1) - 1
        while at < stop:
            raw = file.readline(LONGEST + 1)
            if not raw:
                if piece.stop < 0:
                    return
                raise changed(piece.source)
            at += len(raw)
            if len(raw) <= LONGEST:
                yield raw
                continue
            if not raw.endswith(b"\n"):
                at += _skip_line(file)
            del raw
            yield None


def _skip_line(file: IO[bytes], limit: float = math.inf) -> int:
    """Read on to the end of a line, or beyond a number of bytes; return how many were read."""
    n_bytes = 0
    while n_bytes < limit and (read := file.readline(_CHUNK)):
        n_bytes += len(read)
        if read.endswith(b"\n"):
            break
    return n_bytes


def _too_long(place: int) -> Failure:
    return Failure(
        place,
        DocumentError(
            f"{_UNPLACED}: longer than {LONGEST >> 20} MiB; cut it into documents that can be held "
            "in memory",
            reason="too_long",
        ),
    )


def _parsed(raw: bytes, place: int, columns: Columns) -> Record | Failure:
    # Named within the piece for now: whose first line it is only the whole file tells.
    try:
        record = parse_line(raw, _UNPLACED)
        return record_of(record, place, columns)
    except DocumentError as error:
        return Failure(place, error)


# Stands in messages for the document's place, which is filled in when it is known.
_UNPLACED: Final = "{document}"


def record_of(fields: dict[str, Any], place: int, columns: Columns) -> Record:
    """Take what is scanned from a document's fields.

    Args:
        fields: by name.
        place: line or row in the piece.
        columns: names of the fields.

    Returns:
        The document.

    Raises:
        DocumentError: neither text nor ids; its message holds "{document}" where the place belongs.
    """
    document: Document = document_of(fields, columns, _UNPLACED)
    name = fields.get(columns.id)
    ids = None if document.token_ids is None else np.array(document.token_ids, np.int64)
    return Record(place, None if name is None else str(name), document.text, ids)


def _read_parquet(piece: Piece, columns: Columns, skip: int) -> Iterator[Record | Failure]:
    parquet, place = import_extra("pyarrow.parquet"), 0
    try:
        with open_binary(piece.source) as opened, _checked(parquet, opened) as table:
            names = table.schema_arrow.names
            check_columns(set(names), columns, piece.source)
            wanted = [column for column in columns if column in names]
            groups = list(range(piece.start, piece.stop))
            for batch in table.iter_batches(batch_size=1024, row_groups=groups, columns=wanted):
                for record in _rows(batch, place, columns):
                    place = record.place
                    if place > skip:
                        yield record
    except WatermarkError:
        raise
    except Exception as error:
        # Damage inside a column comes out as Python's own errors (invalid UTF-8, wrong years).
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        yield Failure(
            place + 1,
            DocumentError(
                f"{_UNPLACED}: damaged Parquet, not read from here to the end of row group "
                f"{piece.stop - 1}: {first_line}",
                reason=DAMAGED,
            ),
        )


def _checked(parquet: Any, opened: IO[bytes]) -> Any:
    # Where a writer left checksums, a damaged page is none with other values.
    return parquet.ParquetFile(opened, page_checksum_verification=True)


def _rows(batch: Any, before: int, columns: Columns) -> Iterator[Record | Failure]:
    fast = _ids_of(batch, columns)
    if fast is not None:
        names = batch.column(columns.id).to_pylist() if columns.id in batch.schema.names else None
        for i, ids in enumerate(fast):
            name = names[i] if names else None
            yield Record(before + i + 1, None if name is None else str(name), None, ids)
        return
    for place, fields in zip(count(before + 1), batch.to_pylist(), strict=False):
        try:
            yield record_of(fields, place, columns)
        except DocumentError as error:
            yield Failure(place, error)


def _ids_of(batch: Any, columns: Columns) -> list[NDArray[np.int64]] | None:
    """Take a column of ids as it lies in memory, unless there is text or a gap in it."""
    pyarrow = import_extra("pyarrow")
    names = batch.schema.names
    if columns.text in names or columns.token_ids not in names:
        return None
    lists = batch.column(columns.token_ids)
    is_list = pyarrow.types.is_list(lists.type) or pyarrow.types.is_large_list(lists.type)
    if not is_list or not pyarrow.types.is_integer(lists.type.value_type):
        return None
    values = lists.flatten()
    if lists.null_count or values.null_count:
        return None
    ids = values.to_numpy().astype(np.int64)
    ends = np.asarray(lists.offsets, np.int64) - lists.offsets[0].as_py()
    return [ids[a:b] for a, b in pairwise(ends)]


def _read_dataset(piece: Piece, columns: Columns, skip: int) -> Iterator[Record | Failure]:
    rows = load_dataset(piece.source)
    try:
        if piece.kind == "rows":
            rows = rows.select(range(piece.start + skip, piece.stop))
        else:
            if piece.stop > 1:
                rows = rows.shard(num_shards=piece.stop, index=piece.start)
            rows = rows.skip(skip)
        for place, fields in enumerate(rows, skip + 1):
            try:
                yield record_of(fields, place, columns)
            except DocumentError as error:
                yield Failure(place, error)
    except WatermarkError:
        raise
    except Exception as error:
        # datasets raises what its many back ends raise; most of it is no document's fault.
        raise DocumentError(
            f"datasets:{piece.source} cannot be read: {type(error).__name__}: {error}"
        ) from None
