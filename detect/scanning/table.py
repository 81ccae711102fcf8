"""The results of all documents as a Parquet table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from detect.scanning.results import DocumentResult
from watermark.errors import DocumentError
from watermark.extras import import_extra
from watermark.storage.files import atomic_binary_writer

__all__ = ["written_to"]

_GROUP: Final = 1 << 15
Passing = Callable[[Iterator[DocumentResult]], Iterator[DocumentResult]]


@contextmanager
def written_to(path: Path | None) -> Iterator[Passing]:
    """Write documents down as they pass by.

    Args:
        path: Parquet file, written whole or not at all; None writes nothing.

    Yields:
        Passes documents on. Equal documents give equal bytes, however the corpus was split.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DocumentError: the disk is full, or the place cannot be written.
    """
    if path is None:
        yield iter
        return
    parquet, pyarrow = import_extra("pyarrow.parquet"), import_extra("pyarrow")
    schema = _schema(pyarrow)
    with atomic_binary_writer(path) as file:
        try:
            with parquet.ParquetWriter(file, schema, compression="zstd") as writer:

                def passing(documents: Iterator[DocumentResult]) -> Iterator[DocumentResult]:
                    while group := list(islice(documents, _GROUP)):
                        rows = [_row(document) for document in group]
                        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                        yield from group

                yield passing
        except OSError as error:
            raise DocumentError(f"cannot write {path}: {error.strerror or error}") from None


def _row(document: DocumentResult) -> dict[str, Any]:
    """Lone surrogates are escaped as in JSON: Parquet has no text with them."""
    row = document.to_dict()
    return row | {n: row[n].encode("utf-8", "backslashreplace").decode() for n in ("id", "source")}


def _schema(pyarrow: Any) -> Any:
    text, number, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    return pyarrow.schema(
        [
            ("id", text),
            ("source", text),
            ("n_tokens", number),
            ("n_scored", number),
            ("statistic", real),
            ("p_value", real),
            ("log10_p", real),
            ("log10_p_holm", real),
            ("verdict", text),
        ]
    )
