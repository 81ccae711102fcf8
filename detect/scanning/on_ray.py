"""The same scan on a Ray cluster: its tasks scan shards, this process stores what they send.

Every node must reach the corpus (a shared folder or a URL). The parts stand where the command runs,
which needs no folder that the nodes share; killed there, the same command goes on.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from socket import create_connection
from typing import Any, Final, final

from detect.scanning.folder import PartFolder, Position
from detect.scanning.pieces import Corpus, Shard
from detect.scanning.shards import NextPart, Progress, ShardReader
from detect.scanning.summary import Spread
from watermark.errors import ConfigError, MissingExtraError, WatermarkError

__all__ = ["RayCrew"]

_SECONDS: Final = 10
# Shards in flight for each core: enough to keep it busy, few enough to hold.
_AHEAD: Final = 2


@final
class RayCrew:
    """A crew of Ray tasks; see `detect.scanning.running.Crew`. A context manager."""

    def __init__(self, address: str | None, n_workers: int | None) -> None:
        """Plan a crew.

        Args:
            address: of a running cluster, "auto", or None to start one on this machine.
            n_workers: tasks at a time; None is one for each of the cluster's cores.

        Raises:
            MissingExtraError: Ray is not installed.
        """
        try:
            self._ray: Any = import_module("ray")
        except ImportError:
            raise MissingExtraError("ray", "ray") from None
        self._address, self._n = address, n_workers

    def __enter__(self) -> RayCrew:
        options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
        if self._address:
            options = {"address": self._address, "log_to_driver": False}
        elif self._n:
            options["num_cpus"] = self._n
        try:
            if self._address:
                _knock(self._address)
            self._ray.init(configure_logging=False, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"no Ray cluster at {self._address or 'this machine'}: {error}"
            ) from None
        return self

    def __exit__(self, *exception: object) -> None:
        self._ray.shutdown()

    def run_shards(
        self,
        reader: ShardReader,
        corpus: Corpus,
        folder: PartFolder,
        report: Callable[[Progress], object],
    ) -> None:
        """Scan every shard that is not done; see `Crew`."""
        n = self._n or int(self._ray.cluster_resources().get("CPU", 1))
        task = self._ray.remote(num_returns="streaming", runtime_env=_ONE_THREAD)(_parts)
        shared = self._ray.put(pickle.dumps(reader))
        todo = iter(enumerate(corpus.shards))
        running: dict[Any, int] = {}
        indices: dict[int, int] = {}

        def start_more() -> None:
            while len(running) < _AHEAD * n and (following := next(todo, None)) is not None:
                number, shard = following
                indices[number], start = folder.resume(number, shard)
                if start is not None:
                    running[task.remote(shared, shard, start)] = number

        start_more()
        while running:
            ready, _ = self._ray.wait(list(running), num_returns=1, fetch_local=False)
            for stream in ready:
                number = running[stream]
                try:
                    sent = self._ray.get(next(stream))
                except StopIteration:
                    del running[stream]
                    start_more()
                    continue
                except self._ray.exceptions.RayTaskError as error:
                    raise _own_error(error) from None
                found: NextPart = sent[0]
                folder.store(number, indices[number], *found)
                indices[number] += 1
                report(sent[1])

    @property
    def spread(self) -> Spread:
        """The built-in `map`: what is left to do stands on this machine."""
        return map


_ONE_THREAD: Final = {
    "env_vars": {"RAYON_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
}


@lru_cache(maxsize=1)
def _reader_of(pickled: bytes) -> ShardReader:
    """Ray would make the tokenizer anew for each task, which takes a second."""
    reader: ShardReader = pickle.loads(pickled)  # noqa: S301  (from our own process)
    return reader


def _parts(pickled: bytes, shard: Shard, start: Position) -> Iterator[tuple[NextPart, Progress]]:
    done = [_NOTHING]
    for part in _reader_of(pickled).parts(shard, start, done.append):
        yield part, Progress(*(sum(column) for column in zip(*done, strict=True)))
        done[:] = [_NOTHING]


_NOTHING: Final = Progress(0, 0, 0)


def _own_error(error: Any) -> Exception:
    """Take our own error out of Ray's, which quotes the task's stack."""
    cause = error.cause
    return cause if isinstance(cause, WatermarkError) else error


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        create_connection((host.strip("[]"), int(port)), _SECONDS).close()
