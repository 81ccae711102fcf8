"""One shard from its files to stored parts; where it was left, it is taken up again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

from detect.documents import Columns
from detect.scanning.folder import PartFolder, Position
from detect.scanning.parts import Bad, Part, first_bad
from detect.scanning.pieces import Piece, Shard
from detect.scanning.reading import Failure, Mark, Record, read_piece
from detect.scanning.scanner import Located, Scanner
from watermark.errors import DocumentError

__all__ = ["PART_PAIRS", "Batch", "NextPart", "Progress", "ShardReader", "scan_batch"]

# Tokenised together: enough for the compiled kernels, little enough for the memory.
_BATCH_CHARACTERS: Final = 1 << 20
_BATCH_IDS: Final = 1 << 20
_BATCH_DOCUMENTS: Final = 4096
# A part is stored when it holds so many pairs: what a kill can lose, and what is held in memory.
PART_PAIRS: Final = 1 << 22


class Progress(NamedTuple):
    """What was done since the last report: bytes of whole pieces, tokens, documents."""

    n_bytes: int
    n_tokens: int
    n_documents: int


class NextPart(NamedTuple):
    """A part, and where the next one begins; None if the shard is done."""

    part: Part
    following: Position | None


@final
@dataclass(frozen=True)
class ShardReader:
    """Scans shards.

    Attributes:
        scanner: the core.
        pieces: of the whole corpus.
        columns: names of the fields.
        skips_bad: whether a document that cannot be read is counted, or ends the scan.
        part_pairs: pairs of a part.
    """

    scanner: Scanner
    pieces: tuple[Piece, ...]
    columns: Columns
    skips_bad: bool
    part_pairs: int = PART_PAIRS

    def parts(
        self, shard: Shard, start: Position, report: Callable[[Progress], object]
    ) -> Iterator[NextPart]:
        """Scan a shard, or what is left of it.

        Args:
            shard: its pieces.
            start: where to begin.
            report: called now and then.

        Yields:
            Its parts; one at least.

        Raises:
            DocumentError: a document that cannot be read, unless these are counted; a file that is
                gone.
        """
        held, n_pairs = [self.scanner.init()], 0
        for batch in self._batches(shard, start):
            part = self._scanned(batch)
            held.append(part)
            n_pairs += len(part.pool.hashes)
            report(Progress(batch.n_bytes, int(part.documents.n_tokens.sum()), len(part.names)))
            if n_pairs >= self.part_pairs:
                yield NextPart(self.scanner.merge(held), batch.position)
                held, n_pairs = [self.scanner.init()], 0
        yield NextPart(self.scanner.merge(held), None)

    def scan_into(
        self,
        folder: PartFolder,
        number: int,
        shard: Shard,
        report: Callable[[Progress], object] = lambda done: None,
    ) -> None:
        """Scan a shard into a folder; what stands there is not done again.

        Args:
            folder: of parts.
            number: of the shard.
            shard: its pieces.
            report: called now and then.

        Raises:
            DocumentError: as in `parts`; or the disk is full. What was stored stays.
        """
        first, start = folder.resume(number, shard)
        if start is None:
            report(Progress(sum(p.size for p in self.pieces[shard.first : shard.end]), 0, 0))
            return
        for index, (part, following) in enumerate(self.parts(shard, start, report), first):
            folder.store(number, index, part, following)

    def _batches(self, shard: Shard, start: Position) -> Iterator[Batch]:
        batch = Batch(start)
        for number in range(start.piece, shard.end):
            skip = start.place if number == start.piece else 0
            for item in read_piece(self.pieces[number], self.columns, skip):
                batch.add(number, item)
                if batch.is_full:
                    yield batch
                    batch = Batch(batch.position)
            batch.n_bytes += self.pieces[number].size
        yield batch

    def _scanned(self, batch: Batch) -> Part:
        if batch.failed and not self.skips_bad:
            raise self._named(*batch.failed[0])
        part = scan_batch(self.scanner, batch)
        if part.examples and not self.skips_bad:
            first = part.examples[0]
            error = DocumentError(first.message, reason=first.reason)
            raise self._named(first.piece, Failure(first.place, error))
        return part

    def _named(self, number: int, failure: Failure) -> DocumentError:
        from detect.scanning.naming import place_in_file, with_place

        piece = self.pieces[number]
        message = with_place(str(failure.error), piece, place_in_file(piece, failure.place))
        return DocumentError(
            f"{message}\nMend it and run the same command to go on; or count such documents and go "
            "on without them: --skip-bad",
            reason=failure.error.reason,
        )


def scan_batch(scanner: Scanner, batch: Batch) -> Part:
    """Score a batch.

    Args:
        scanner: the core.
        batch: what was read.

    Returns:
        Its part, in which what could not be read is counted.
    """
    part = scanner.scan(batch.documents)
    failed = [
        Bad(number, failure.place, failure.error.reason, str(failure.error))
        for number, failure in batch.failed
    ]
    counts: Counter[str] = Counter()
    for _, failure in batch.failed:
        counts[failure.error.reason] += failure.n
    return replace(
        part,
        bad=part.bad + counts,
        examples=first_bad([*part.examples, *failed]),
        lines=batch.lines,
    )


@final
class Batch:
    """Documents that are scored together, and where reading goes on after them."""

    def __init__(self, position: Position = Position(0, 0)) -> None:  # noqa: B008
        self.position = position
        self.documents: list[Located] = []
        self.failed: list[tuple[int, Failure]] = []
        self.lines: Counter[int] = Counter()
        self.n_bytes = 0
        self._characters = self._ids = 0

    @property
    def is_full(self) -> bool:
        """True if it is time to score them."""
        return (
            self._characters >= _BATCH_CHARACTERS
            or self._ids >= _BATCH_IDS
            or len(self.documents) >= _BATCH_DOCUMENTS
        )

    def add(self, number: int, item: Record | Failure | Mark) -> None:
        """Add what was read of a piece."""
        before = self.position.place if self.position.piece == number else 0
        # Empty lines are lines as well.
        self.lines[number] += item.place - before
        self.position = Position(number, item.place)
        if isinstance(item, Mark):
            return
        if isinstance(item, Failure):
            self.failed.append((number, item))
            return
        self.documents.append(Located(number, *item))
        self._characters += len(item.text or "")
        self._ids += len(item.ids) if item.ids is not None else 0
