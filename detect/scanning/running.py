"""A scan from end to end: cut the corpus, scan its shards, add them up, write the result.

Everything but `run_shards` is the same on one machine and on many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, final

from detect.documents import Columns
from detect.finding import Plan
from detect.scanning.folder import PartFolder
from detect.scanning.naming import first_lines, with_place
from detect.scanning.parts import Bad
from detect.scanning.pieces import SHARD_BYTES, Corpus, Piece, check_unchanged, cut_corpus
from detect.scanning.plans import ScanPlan
from detect.scanning.pool import PoolSums, add_pools, joined, pool_groups
from detect.scanning.reading import where
from detect.scanning.results import CorpusResult
from detect.scanning.scanner import Scanner
from detect.scanning.shards import Progress, ShardReader
from detect.scanning.stores import is_url
from detect.scanning.summary import Spread, finalise
from detect.scanning.table import written_to
from detect.scanning.work import MANIFEST, clear, working_in
from watermark.errors import ConfigError
from watermark.tokens import TextTokenizer, check_fingerprint
from watermark.version import own_version

__all__ = ["Crew", "OneProcess", "ScanOrder", "run_scan"]

_FORMAT: Final = "heirmark-scan-1"


@final
@dataclass(frozen=True)
class ScanOrder:
    """What is to be scanned, and how.

    Attributes:
        source: file, folder, URL, or "datasets:NAME[:split]".
        columns: names of the fields.
        plan: what was fixed beforehand, with the key.
        scan: the same for the workers.
        tokenizer: the provider's.
        skips_bad: whether documents that cannot be read are counted, or end the scan.
        table: Parquet file for the results of all documents, or None.
        shard_bytes: size that a shard should have.
    """

    source: str
    columns: Columns
    plan: Plan
    scan: ScanPlan
    tokenizer: TextTokenizer
    skips_bad: bool = False
    table: Path | None = None
    shard_bytes: int = SHARD_BYTES

    def manifest(self, corpus: Corpus) -> dict[str, Any]:
        """Name all that decides the parts; no secret."""
        return {
            "format": _FORMAT,
            "version": own_version(),
            "source": self.source,
            "files": [list(stamp) for stamp in corpus.stamps],
            "pieces": [list(piece) for piece in corpus.pieces],
            "columns": list(self.columns),
            "key": self.plan.key.key_id,
            "config": self.plan.config.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "score": self.scan.scorer.score_name,
            "seed": self.scan.seed,
            "sample": self.scan.n_sampled,
            "skip_bad": self.skips_bad,
        }


class Crew(Protocol):
    """Whoever does the work: this process, several, or a cluster."""

    def run_shards(
        self,
        reader: ShardReader,
        corpus: Corpus,
        folder: PartFolder,
        report: Callable[[Progress], object],
    ) -> None:
        """Scan every shard that is not done.

        Args:
            reader: scans one.
            corpus: its shards.
            folder: for parts.
            report: called now and then in this process.
        """

    @property
    def spread(self) -> Spread:
        """A `map` over independent tasks, in order."""


@final
class OneProcess:
    """This process alone."""

    def run_shards(
        self,
        reader: ShardReader,
        corpus: Corpus,
        folder: PartFolder,
        report: Callable[[Progress], object],
    ) -> None:
        """Scan shard after shard; see `Crew`."""
        for number, shard in enumerate(corpus.shards):
            reader.scan_into(folder, number, shard, report)

    @property
    def spread(self) -> Spread:
        """The built-in `map`."""
        return map


class Listener(Protocol):
    """Shows how far a scan is."""

    def begin(self, corpus: Corpus) -> None:
        """The corpus is cut."""

    def progress(self, done: Progress) -> None:
        """Something was scanned."""

    def adding(self, n_pairs: int) -> None:
        """All is scanned; distinct pairs are counted."""


class _Named(NamedTuple):
    """Lines of a file, counted from those of its pieces."""

    pieces: tuple[Piece, ...]
    before: list[int]

    def source(self, piece: int, place: int) -> str:
        return where(self.pieces[piece], self.before[piece] + place)

    def message(self, bad: Bad) -> str:
        place = self.before[bad.piece] + bad.place
        return with_place(bad.message, self.pieces[bad.piece], place)


def run_scan(
    order: ScanOrder,
    folder: Path,
    crew: Crew,
    listener: Listener,
    write: Callable[[CorpusResult], object] | None = None,
) -> CorpusResult:
    """Scan a corpus; what an earlier run left in the folder is not done again.

    Args:
        order: what and how.
        folder: for parts; as secret as the key, since it holds the scores of pairs.
        crew: who does it.
        listener: is told how far it is.
        write: writes the result down, after which the folder is cleared; without it the parts stay.

    Returns:
        The result: the same bit for bit whoever did it, and however often it was interrupted.

    Raises:
        ConfigError: the folder belongs to another scan, or one is running in it, or others can
            read it; the config's borders are not in the vocabulary.
        DocumentError: the corpus cannot be read or has changed meanwhile, a document cannot be read
            (unless these are counted), or the disk is full.
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(order.tokenizer, order.plan.config.tokenizer)
    order.plan.config.check_vocabulary(order.tokenizer.vocab_size)
    corpus = cut_corpus(order.source, order.columns, order.shard_bytes)
    with working_in(folder):
        parts_folder = PartFolder(folder)
        if not corpus.is_stamped and (folder / MANIFEST).exists():
            raise ConfigError(
                f"{order.source} does not tell whether it has changed since the scan in {folder} "
                "was begun, so that it cannot be resumed; delete that folder and start anew, or "
                "scan a copy on this disk"
            )
        parts_folder.open(order.manifest(corpus))
        listener.begin(corpus)
        scanner = Scanner(order.scan, order.tokenizer)
        reader = ShardReader(scanner, corpus.pieces, order.columns, order.skips_bad)
        crew.run_shards(reader, corpus, parts_folder, listener.progress)
        check_unchanged(order.source, corpus)
        parts = parts_folder.parts(len(corpus.shards))
        pool = _add(parts_folder, len(corpus.shards), crew.spread, listener.adding)

        def naming(lines: Counter[int]) -> _Named:
            return _Named(corpus.pieces, first_lines(corpus.pieces, lines))

        with written_to(order.table) as on_documents:
            result = finalise(
                parts,
                pool,
                plan=order.plan,
                scan=order.scan,
                naming=naming,
                on_documents=on_documents,
                spread=crew.spread,
            )
        unread = tuple(name for name in corpus.not_read if not _is_in(name, folder))
        result = replace(result, files_not_read=unread)
        if write is not None:
            write(result)
            clear(folder)
    return result


def _is_in(name: str, folder: Path) -> bool:
    return not is_url(name) and Path(name).resolve().is_relative_to(folder.resolve())


def _add(
    folder: PartFolder, n_shards: int, spread: Spread, adding: Callable[[int], object]
) -> PoolSums:
    pools = [part.pool for part in folder.parts(n_shards)]
    groups = pool_groups(pools)
    adding(sum(int(pool.starts[-1]) for pool in pools))
    if len(groups) < _SPREAD_FROM:
        return add_pools(pools, groups)
    # Neighbouring buckets together: each task opens all parts.
    size = -(-len(groups) // _ADDING_TASKS)
    tasks = [_Adding(folder, n_shards, groups[i : i + size]) for i in range(0, len(groups), size)]
    return joined(list(spread(_add_some, tasks)))


_SPREAD_FROM: Final = 8
_ADDING_TASKS: Final = 32


class _Adding(NamedTuple):
    folder: PartFolder
    n_shards: int
    groups: list[tuple[int, int]]


def _add_some(task: _Adding) -> PoolSums:
    return add_pools([part.pool for part in task.folder.parts(task.n_shards)], task.groups)
