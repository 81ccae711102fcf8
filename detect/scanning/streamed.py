"""A scan of documents that come one by one from elsewhere, task by task.

00003/         parts of task 3, as in `detect.scanning.folder`
00003.json     says that it is done, with the files that its documents came from

A task that did not come to its end is done again from its first document. The folder is as secret
as the key (`detect.scanning.work`), and all tasks must reach it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from detect.decoys import AUTOMATIC
from detect.documents import Columns
from detect.finding import Plan
from detect.results import ALPHA
from detect.scanning.folder import PartFolder, Position
from detect.scanning.parts import Bad, Part
from detect.scanning.plans import ScanPlan, make_plans
from detect.scanning.reading import Failure, Record, record_of
from detect.scanning.scanner import Scanner
from detect.scanning.shards import PART_PAIRS, Batch, scan_batch
from detect.scanning.work import make_private, own_files, working_in
from detect.scoring.scorers import SCORES
from watermark.config import PRESETS, load_config, preset
from watermark.errors import ConfigError, DocumentError, KeyFileError
from watermark.keyring.key_files import looks_like_secret
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import atomic_writer, dump_json
from watermark.tokens import TextTokenizer, check_fingerprint, load_tokenizer
from watermark.version import own_version

__all__ = ["Deployment", "DocumentNames", "StreamScan", "StreamTask"]

_FORMAT: Final = "heirmark-streamed-1"
_MORE: Final = Position(0, 0)


class Deployment(NamedTuple):
    """What a scan's places lead to."""

    plan: Plan
    scan: ScanPlan
    tokenizer: TextTokenizer


@final
@dataclass(frozen=True)
class StreamScan:
    """What is scanned for, by names and places alone: it may be logged, and holds no secret.

    Attributes:
        folder: for the parts; made with mode 0700, one scan's alone.
        key: place of the key: a path, "file:PATH" or "env:VARIABLE".
        config: a preset's name, or a config file.
        tokenizer: as for `heirmark scan --tokenizer`.
        ids_field: field of a document's metadata that holds token ids, which are scanned in place
            of its text; None is the text.
        skip_bad: whether documents that cannot be scanned are counted, or end their task.
        score: name of the score; None is the default.
        alpha: level of a positive verdict.
        n_decoys: decoy keys; 0 for none.
        seed: of the decoy keys.
        sample: pairs that these are tried on; None is the default.
        part_pairs: pairs of a part, which a task holds in memory.
    """

    folder: str
    key: str
    config: str = "default"
    tokenizer: str = "smollm2"
    ids_field: str | None = None
    skip_bad: bool = False
    score: str | None = None
    alpha: float = ALPHA
    n_decoys: int = AUTOMATIC
    seed: int = 0
    sample: int | None = None
    part_pairs: int = PART_PAIRS

    def __post_init__(self) -> None:
        place: object = self.key
        if not isinstance(place, str | Path) or (
            looks_like_secret(str(place)) and not Path(place).exists()
        ):
            raise KeyFileError(
                "expected the place of the key (a path, file:PATH or env:VARIABLE); got what may "
                "be the key itself, which would stand in logs"
            )
        if self.score is not None and self.score not in SCORES:
            raise ConfigError(f"unknown score {self.score!r}; expected one of {', '.join(SCORES)}")

    def load(self) -> Deployment:
        """Read key, config and tokenizer.

        Raises:
            ConfigError: one of them is missing or damaged, or the config's borders are not in the
                vocabulary.
            KeyFileError: the key cannot be read.
            FingerprintError: the config is bound to another tokenizer, or the key is none of its.
        """
        config = preset(self.config) if self.config in PRESETS else load_config(self.config)
        tokenizer = load_tokenizer(self.tokenizer)
        check_fingerprint(tokenizer, config.tokenizer)
        if config.reasoning is not None:
            config.reasoning.check_vocabulary(tokenizer.vocab_size)
        plan, scan = make_plans(
            config,
            read_key(self.key),
            alpha=self.alpha,
            n_decoys=self.n_decoys,
            seed=self.seed,
            score=self.score,
            sample=self.sample,
        )
        return Deployment(plan, scan, tokenizer)

    def manifest(self, deployment: Deployment, task: int, n_tasks: int) -> dict[str, Any]:
        """Name all that decides a task's parts, but for its documents; no secret."""
        plan, scan, tokenizer = deployment
        return {
            "format": _FORMAT,
            "version": own_version(),
            "key": plan.key.key_id,
            "config": plan.config.fingerprint,
            "tokenizer": tokenizer.fingerprint,
            "score": scan.scorer.score_name,
            "seed": scan.seed,
            "sample": scan.n_sampled,
            "ids_field": self.ids_field,
            "skip_bad": self.skip_bad,
            "task": task,
            "tasks": n_tasks,
        }

    def place(self, task: int) -> Path:
        """Name the folder of a task's parts."""
        return Path(self.folder) / f"{task:05}"


@final
class StreamTask:
    """One task's parts, from the first document to the last."""

    def __init__(self, order: StreamScan, task: int, n_tasks: int) -> None:
        """Read what the order names; see `StreamScan.load`."""
        deployment = order.load()
        self._order, self._task = order, task
        self._scanner = Scanner(deployment.scan, deployment.tokenizer)
        self._manifest = order.manifest(deployment, task, n_tasks)
        self._folder = PartFolder(order.place(task))
        self._n_of_source: dict[str, int] = {}
        self._sources: list[str] = []
        self._counts: Counter[int] = Counter()
        self._batch, self._n_pairs, self._n_stored = Batch(), 0, 0
        self._parts: list[Part] = []

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the task's folder, in which what an earlier run left is cleared away.

        Raises:
            ConfigError: the folder belongs to another scan, or another process does this task.
        """
        path = self._folder.path
        try:
            make_private(path.parent)
        except OSError as error:
            raise ConfigError(f"cannot work in {path.parent}: {error.strerror}") from None
        with working_in(path):
            self._folder.open(self._manifest)
            path.with_suffix(".json").unlink(missing_ok=True)
            for left in own_files(path):
                if left.suffix in (".npz", ".npy"):
                    left.unlink()
            yield

    def add(self, name: str | None, text: Any, metadata: Mapping[str, Any]) -> None:
        """Take a document in; some are scored together.

        Args:
            name: its id.
            text: its text.
            metadata: with the ids, if these are scanned, and the name of its file ("file_path"), if
                it is known.

        Raises:
            DocumentError: one of those taken in cannot be scanned, or the disk is full.
        """
        source = str(metadata.get("file_path") or f"task {self._task:05}")
        number = self._n_of_source.setdefault(source, len(self._sources))
        if number == len(self._sources):
            self._sources.append(source)
        self._counts[number] += 1
        self._batch.add(number, self._read(name, text, metadata, self._counts[number]))
        if self._batch.is_full:
            self._scan()
        if self._n_pairs >= self._order.part_pairs:
            self._store(_MORE)

    def end(self) -> None:
        """Store what is left, and say that the task is done."""
        self._scan()
        self._store(None)
        with atomic_writer(self._folder.path.with_suffix(".json"), private=True) as file:
            file.write(dump_json({"manifest": self._manifest, "sources": self._sources}))

    def _read(
        self, name: str | None, text: Any, metadata: Mapping[str, Any], place: int
    ) -> Record | Failure:
        ids = self._order.ids_field
        columns = Columns(token_ids=ids) if ids else Columns()
        content = {ids: metadata.get(ids)} if ids else {columns.text: text}
        try:
            return record_of({columns.id: name, **content}, place, columns)
        except DocumentError as error:
            return Failure(place, error)

    def _scan(self) -> None:
        part = scan_batch(self._scanner, self._batch)
        self._batch = Batch()
        if part.examples and not self._order.skip_bad:
            message = DocumentNames(self._sources).message(part.examples[0])
            raise DocumentError(f"{message}\nskip_bad=True counts such documents and goes on")
        self._parts.append(part)
        self._n_pairs += len(part.pool.hashes)

    def _store(self, following: Position | None) -> None:
        self._folder.store(0, self._n_stored, self._scanner.merge(self._parts), following)
        self._parts, self._n_pairs, self._n_stored = [], 0, self._n_stored + 1


@final
@dataclass(frozen=True)
class DocumentNames:
    """Says where documents stand: by their number, since not all of a file need come this far.

    Attributes:
        sources: names of the files, by piece.
    """

    sources: list[str]

    def source(self, piece: int, place: int) -> str:
        """See `detect.scanning.summary.Naming`."""
        return f"{self.sources[piece]}, document {place}"

    def message(self, bad: Bad) -> str:
        """See `detect.scanning.summary.Naming`."""
        return bad.message.replace("{document}", self.source(bad.piece, bad.place), 1)
