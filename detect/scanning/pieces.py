"""A corpus cut into pieces that can be read on their own, and shards of a few pieces.

The cut depends on the files alone, never on the number of workers. A JSONL file that is not packed
is cut at bytes, a Parquet file between row groups; a packed file is one piece.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from detect.documents import COMPRESSED, DATASETS, JSONL, Columns, check_columns
from detect.scanning.stores import (
    StoredFile,
    changed,
    is_url,
    list_files,
    open_binary,
    stat_file,
)
from watermark.errors import DocumentError, WatermarkError
from watermark.extras import import_extra

__all__ = [
    "SHARD_BYTES",
    "Corpus",
    "Piece",
    "Shard",
    "check_unchanged",
    "cut_corpus",
    "load_dataset",
]

SHARD_BYTES: Final = 16 << 20
Kind = Literal["jsonl", "parquet", "text", "rows", "stream"]


class Piece(NamedTuple):
    """What is read in one go.

    Attributes:
        source: path, URL, or name that `datasets` knows, with its split.
        kind: how it is read: lines, row groups, a whole text, rows of a data set on disk, one of
            the shards of a streamed data set.
        start: byte, row group or row; number of a streamed shard.
        stop: end of that; how many streamed shards there are.
        size: bytes as they stand, for the progress bar; 0 if unknown.
    """

    source: str
    kind: Kind
    start: int
    stop: int
    size: int


class Shard(NamedTuple):
    """Pieces that one worker reads: from `first` up to, not including, `end`."""

    first: int
    end: int


class Corpus(NamedTuple):
    """A corpus as it stood when the scan began.

    Attributes:
        pieces: in order.
        shards: in order; they share the pieces out.
        stamps: what changes when a file does: source, size, stamp.
        not_read: files of the folder whose endings are none of a corpus.
    """

    pieces: tuple[Piece, ...]
    shards: tuple[Shard, ...]
    stamps: tuple[StoredFile, ...]
    not_read: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes; 0 if unknown."""
        return sum(piece.size for piece in self.pieces)

    @property
    def is_stamped(self) -> bool:
        """Whether a change of any part of it would show."""
        return bool(self.stamps) and all(file.stamp for file in self.stamps)


def cut_corpus(source: str, columns: Columns, shard_bytes: int = SHARD_BYTES) -> Corpus:
    """List a corpus and cut it.

    Args:
        source: file, folder, URL of either, or "datasets:NAME[:split]".
        columns: names of the fields.
        shard_bytes: size that a shard should have.

    Returns:
        Its pieces and shards.

    Raises:
        DocumentError: missing, without a file that can be read, or a Parquet file that is damaged.
        MissingExtraError: the extra "corpus" is needed.
    """
    if source.startswith(DATASETS):
        name = source.removeprefix(DATASETS)
        rows = load_dataset(name)
        stamps = _dataset_stamps(name, rows)
        return _sharded(_cut_dataset(name, rows, shard_bytes), stamps, 0)
    files, others = _files_of(source)
    if not files:
        raise DocumentError(f"the folder {source} holds no .jsonl, .parquet or .txt file")
    pieces = [piece for file in files for piece in _cut_file(file, columns, shard_bytes)]
    return _sharded(pieces, files, shard_bytes)._replace(not_read=others)


def check_unchanged(source: str, corpus: Corpus) -> None:
    """Look whether a corpus is still what was cut.

    Args:
        source: as in `cut_corpus`.
        corpus: what that gave.

    Raises:
        DocumentError: a file has changed, has come or is gone; names it.
    """
    if source.startswith(DATASETS):
        name = source.removeprefix(DATASETS)
        now = _dataset_stamps(name, load_dataset(name))
    else:
        now, _ = _files_of(source)
    if differing := sorted(set(now) ^ set(corpus.stamps)):
        raise changed(differing[0].source)


def _files_of(source: str) -> tuple[tuple[StoredFile, ...], tuple[str, ...]]:
    """Files of a corpus, and the names of those beside them that are none."""
    files = list_files(source)
    if files is None:
        if not _is_corpus(source):
            raise DocumentError(
                f"{source}: expected .jsonl, .jsonl.gz, .jsonl.zst, .parquet or .txt"
            )
        return (stat_file(source),), ()
    return (
        tuple(file for file in files if _is_corpus(file.source)),
        tuple(file.source for file in files if not _is_corpus(file.source)),
    )


def _is_corpus(source: str) -> bool:
    return _name(source).endswith((*JSONL, ".parquet", ".txt"))


def _name(source: str) -> str:
    # Of a chained URL the inner file's; its ending in either case.
    return (source.partition("::")[0] if is_url(source) else source).lower()


def _cut_file(file: StoredFile, columns: Columns, shard_bytes: int) -> list[Piece]:
    name = _name(file.source)
    if name.endswith(".txt"):
        return [Piece(file.source, "text", 0, file.size, file.size)]
    if name.endswith(".parquet"):
        return _cut_parquet(file, columns, shard_bytes)
    if name.endswith(COMPRESSED):
        return [Piece(file.source, "jsonl", 0, -1, file.size)]
    cuts = [*range(0, file.size, shard_bytes), file.size]
    return [Piece(file.source, "jsonl", a, b, b - a) for a, b in pairwise(cuts)]


def _cut_parquet(file: StoredFile, columns: Columns, shard_bytes: int) -> list[Piece]:
    parquet = import_extra("pyarrow.parquet")
    try:
        with open_binary(file.source) as opened, parquet.ParquetFile(opened) as table:
            check_columns(set(table.schema_arrow.names), columns, file.source)
            metadata = table.metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    except WatermarkError:
        raise
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DocumentError(f"{file.source}: damaged Parquet: {first_line}") from None
    pieces: list[Piece] = []
    first, held = 0, 0
    for i, size in enumerate(sizes):
        held += size
        if held >= shard_bytes or i == len(sizes) - 1:
            share = file.size * held // max(sum(sizes), 1)
            pieces.append(Piece(file.source, "parquet", first, i + 1, share))
            first, held = i + 1, 0
    return pieces


def _dataset_stamps(name: str, rows: Any) -> tuple[StoredFile, ...]:
    """Of a data set on this disk its files and fingerprint; a hub's tells nothing."""
    if hasattr(rows, "num_rows"):
        files = [stat_file(cached["filename"]) for cached in rows.cache_files]
        return StoredFile(DATASETS + name, rows.num_rows, str(rows._fingerprint)), *files
    path = name.partition(":")[0]
    return tuple(list_files(path) or ()) if Path(path).is_dir() else ()


def _cut_dataset(name: str, rows: Any, shard_bytes: int) -> list[Piece]:
    if not hasattr(rows, "num_rows"):
        n = max(int(rows.num_shards), 1)
        return [Piece(name, "stream", i, n, 0) for i in range(n)]
    row_bytes = max((rows.data.nbytes or 0) / max(rows.num_rows, 1), 1)
    step = max(int(shard_bytes / row_bytes), 1)
    cuts = [*range(0, rows.num_rows, step), rows.num_rows]
    return [Piece(name, "rows", a, b, round((b - a) * row_bytes)) for a, b in pairwise(cuts)]


def load_dataset(name: str) -> Any:
    """Open a data set that the library `datasets` knows, streamed unless it is on this disk.

    Args:
        name: a folder or name, with ":split" or without.

    Returns:
        A `datasets.Dataset` or `datasets.IterableDataset`.

    Raises:
        DocumentError: it cannot be opened.
        MissingExtraError: `datasets` is not installed.
    """
    datasets = import_extra("datasets")
    path, _, split = name.partition(":")
    try:
        if (Path(path) / "state.json").exists():
            return datasets.load_from_disk(path)
        return datasets.load_dataset(path, split=split or "train", streaming=True)
    except Exception as error:
        # datasets raises what its many back ends raise.
        raise DocumentError(
            f"datasets:{name} cannot be read: {type(error).__name__}: {error}"
        ) from None


def _sharded(pieces: list[Piece], stamps: tuple[StoredFile, ...], shard_bytes: int) -> Corpus:
    """Small pieces share a shard."""
    shards: list[Shard] = []
    first, held = 0, 0
    for i, piece in enumerate(pieces):
        if i > first and held + piece.size > shard_bytes:
            shards.append(Shard(first, i))
            first, held = i, 0
        held += piece.size
    if pieces:
        shards.append(Shard(first, len(pieces)))
    return Corpus(tuple(pieces), tuple(shards), stamps)
