"""Parts of a scan on disk: each stands there whole or not at all, so that a kill loses the last.

heirmark-scan.json         what is scanned, and how; another scan may not go on from here
00012-003-hashes.npy       pairs of part 3 of shard 12, by bucket; also -units, -ranks
00012-003.npz              the rest of the part; written last, it says that the part is there

Scores of pairs give the key away: the folder is as secret as the key (`detect.scanning.work`).
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.scanning.parts import Bad, DocumentColumns, Part, PoolColumns, Sample
from detect.scanning.pieces import Shard
from detect.scanning.pool import BucketedPool, in_buckets
from detect.scanning.work import MANIFEST, own_files
from watermark.errors import ConfigError, DocumentError
from watermark.storage.files import atomic_binary_writer, atomic_writer, dump_json, read_json

__all__ = ["PartFolder", "Position", "StoredPart"]

# How a damaged file shows itself when it is read.
_DAMAGE: Final = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Position(NamedTuple):
    """Where reading goes on: a piece, and its lines or rows that were read."""

    piece: int
    place: int


@final
@dataclass(frozen=True)
class StoredPart:
    """A part on disk; nothing is read before it is asked for.

    Attributes:
        path: of its .npz.
    """

    path: Path

    @property
    def documents(self) -> DocumentColumns:
        """Its documents."""
        with _open(self.path) as stored:
            return DocumentColumns(*(stored["document_" + n] for n in DocumentColumns._fields))

    @property
    def names(self) -> list[str | None]:
        """Their ids."""
        with _open(self.path) as stored:
            names: list[str | None] = json.loads(stored["names"].tobytes())
        return names

    @property
    def sample(self) -> Sample:
        """The sampled pairs."""
        with _open(self.path) as stored:
            return Sample(*(stored["sample_" + n] for n in Sample._fields))

    @property
    def pool(self) -> BucketedPool:
        """Its pairs, which stay on disk until they are used."""
        with _open(self.path) as stored:
            starts = stored["starts"]
        return BucketedPool(starts, PoolColumns(*(self._pairs(n) for n in PoolColumns._fields)))

    def _pairs(self, name: str) -> NDArray[Any]:
        path = self.path.with_name(f"{self.path.stem}-{name}.npy")
        # An empty array cannot be mapped into memory.
        column: NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)
        return column

    def check(self) -> None:
        """Look whether all files are there with all pairs.

        Raises:
            OSError: one is missing.
            ValueError: one is cut off, or of another part.
        """
        starts, columns = self.pool
        n = int(starts[-1])
        if not (len(columns.hashes) == len(columns.units) == n and len(columns.ranks) in (0, n)):
            raise ValueError(f"{self.path}: expected {n} pairs in each file beside it")

    def totals(self) -> _Totals:
        """Its counts."""
        with _open(self.path) as stored:
            return _Totals(stored["reasons"], json.loads(stored["totals"].tobytes()))


class _Totals(NamedTuple):
    reasons: NDArray[np.int64]
    fields: dict[str, Any]

    @property
    def bad(self) -> Counter[str]:
        return Counter(self.fields["bad"])

    @property
    def examples(self) -> tuple[Bad, ...]:
        return tuple(Bad(*one) for one in self.fields["examples"])

    @property
    def lines(self) -> Counter[int]:
        return Counter({int(piece): n for piece, n in self.fields["lines"].items()})


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    # Opened here: numpy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        yield stored


@final
@dataclass(frozen=True)
class PartFolder:
    """The folder.

    Attributes:
        path: of the folder.
    """

    path: Path

    def open(self, manifest: dict[str, Any]) -> None:
        """Begin a scan here, or go on with the same one.

        Args:
            manifest: JSON values that decide the result.

        Raises:
            ConfigError: another scan was begun here; says what differs.
            DocumentError: the folder cannot be written.
        """
        described = self.path / MANIFEST
        manifest = json.loads(json.dumps(manifest))
        if described.exists():
            self._check(read_json(described), manifest)
        else:
            with atomic_writer(described, private=True) as file:
                file.write(dump_json(manifest))
        for left in own_files(self.path, temporary=True):
            left.unlink(missing_ok=True)

    def _check(self, before: Any, manifest: dict[str, Any]) -> None:
        before = before if isinstance(before, dict) else {}
        names = sorted({*before, *manifest})
        if differing := [name for name in names if before.get(name) != manifest.get(name)]:
            raise ConfigError(
                f"{self.path} holds a scan that was begun with another {', '.join(differing)}; run "
                "that command to go on with it, or choose another --work folder, or delete this one"
            )

    def resume(self, shard_number: int, shard: Shard) -> tuple[int, Position | None]:
        """Tell where a shard was left.

        Args:
            shard_number: of the shard.
            shard: its pieces.

        Returns:
            The number of its next part, and where that begins; None if the shard is done.
        """
        index, position = 0, Position(shard.first, 0)
        while (path := self._path(shard_number, index)).exists():
            part = StoredPart(path)
            try:
                at = part.totals().fields["next"]
                part.check()
            except _DAMAGE:
                # Damaged after it was written: it is made again.
                break
            index += 1
            if at is None:
                return index, None
            position = Position(*at)
        return index, position

    def store(self, shard_number: int, index: int, part: Part, following: Position | None) -> None:
        """Store a part.

        Args:
            shard_number: of the shard.
            index: of the part in the shard.
            part: what to store.
            following: where the next part begins, or None if this is the last.

        Raises:
            DocumentError: the disk is full, or the folder cannot be written.
        """
        path, pool = self._path(shard_number, index), in_buckets(part.pool)
        for name, column in zip(PoolColumns._fields, pool.columns, strict=True):
            beside = path.with_name(f"{path.stem}-{name}.npy")
            with atomic_binary_writer(beside, private=True) as file:
                _save(file, column)
        totals = {
            "next": following,
            "bad": part.bad,
            "examples": part.examples,
            "lines": part.lines,
        }
        with atomic_binary_writer(path, private=True) as file:
            np.savez(
                file,
                starts=pool.starts,
                reasons=part.reasons,
                names=_as_bytes(list(part.names)),
                totals=_as_bytes(totals),
                **_named("document_", part.documents),  # type: ignore[arg-type]
                **_named("sample_", part.sample),  # type: ignore[arg-type]
            )

    def parts(self, n_shards: int) -> list[StoredPart]:
        """List all parts, in the order of the corpus.

        Args:
            n_shards: shards of the corpus; all are done.

        Returns:
            The parts.

        Raises:
            DocumentError: a shard is not done.
        """
        found = []
        for number in range(n_shards):
            n_parts, position = self.resume(number, Shard(0, 0))
            if position is not None:
                raise DocumentError(
                    f"{self.path}: shard {number} is not complete; run the same command again"
                )
            found += [StoredPart(self._path(number, index)) for index in range(n_parts)]
        return found

    def _path(self, shard_number: int, index: int) -> Path:
        return self.path / f"{shard_number:05}-{index:03}.npz"


def _save(file: Any, column: NDArray[Any]) -> None:
    # numpy's own writer turns a full disk into an error without a reason.
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(column))
    file.write(np.ascontiguousarray(column).data)


def _as_bytes(payload: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(payload).encode("utf-8"), np.uint8)


def _named(prefix: str, columns: Any) -> dict[str, NDArray[Any]]:
    return {prefix + name: column for name, column in columns._asdict().items()}
