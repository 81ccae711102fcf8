"""Worker processes of one machine: each tokenises and scores whole shards on one core."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from queue import Empty
from typing import Any, Final, NamedTuple, final

from detect.scanning.folder import PartFolder
from detect.scanning.pieces import Corpus, Shard
from detect.scanning.shards import Progress, ShardReader
from detect.scanning.summary import Spread
from watermark.errors import ResultError

__all__ = ["Processes", "n_cores"]

_LOOK_EVERY: Final = 0.2  # seconds
# One thread each: the processes are the parallelism.
_ONE_THREAD: Final = (
    "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"
)  # fmt: skip


def n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@final
class Processes:
    """A crew of processes; see `detect.scanning.running.Crew`. A context manager.

    When its block ends, however it ends, they are gone.
    """

    def __init__(self, n: int) -> None:
        # Fresh interpreters: a fork would copy threads of tokenizer and numba that do not run.
        self._n, self._context = n, get_context("spawn")
        self._reports = self._context.Queue()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if self._pool is not None:
            workers = list((self._pool._processes or {}).values())
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            for worker in workers if kind is not None else ():
                worker.kill()
                # One that still lives would report into a closed pipe, and say so.
                worker.join()
        self._reports.close()
        self._reports.cancel_join_thread()

    def run_shards(
        self,
        reader: ShardReader,
        corpus: Corpus,
        folder: PartFolder,
        report: Callable[[Progress], object],
    ) -> None:
        """Scan every shard that is not done; see `Crew`."""
        started = (reader, folder, self._reports)
        self._pool = ProcessPoolExecutor(self._n, self._context, _begin, started)
        with _one_thread():
            todo: set[Future[None]] = {
                self._pool.submit(_scan, number, shard)
                for number, shard in enumerate(corpus.shards)
            }
        while todo:
            done, todo = wait(todo, _LOOK_EVERY, FIRST_COMPLETED)
            self._pass_on(report)
            for future in done:
                _result(future)
        self._pass_on(report)

    def _pass_on(self, report: Callable[[Progress], object]) -> None:
        try:
            while True:
                report(self._reports.get_nowait())
        except Empty:
            return

    @property
    def spread(self) -> Spread:
        """A `map` over the processes, in order."""
        pool = self._pool
        return map if pool is None else partial(_spread, pool)


def _spread(
    pool: ProcessPoolExecutor, function: Callable[..., Any], tasks: Iterable[Any]
) -> Iterator[Any]:
    futures = [pool.submit(function, task) for task in tasks]
    return (_result(future) for future in futures)


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        raise ResultError(
            "a worker process was killed, perhaps for want of memory; run the same command to go "
            "on, with fewer --workers"
        ) from None


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Own(NamedTuple):
    """What a worker process was given when it began."""

    reader: ShardReader
    folder: PartFolder
    reports: Any


_own: _Own | None = None


def _begin(reader: ShardReader, folder: PartFolder, reports: Any) -> None:
    global _own
    _own = _Own(reader, folder, reports)
    # Ctrl-C reaches the whole group: the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _scan(number: int, shard: Shard) -> None:
    assert _own is not None
    _own.reader.scan_into(_own.folder, number, shard, _own.reports.put)
