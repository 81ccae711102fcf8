"""A scan as steps of datatrove's pipelines, over the documents that other steps read and filter.

    order = StreamScan(folder="parts", key="nov.key.json")
    scan = LocalPipelineExecutor([JsonlReader("corpus"), ScanStep(order)], tasks=8)
    LocalPipelineExecutor([FinishStep(order, "scan.json")], depends=scan).run()

datatrove logs and pickles what a pipeline's steps hold, and logs errors with the values of all
variables on their way. So steps hold the place of the key, never the key, and let out no exception
that has our frames behind it. They are callables, which its pipelines take as they are: nothing of
datatrove is imported.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, final

from detect.results import RESULT_SCHEMA
from detect.scanning.joining import add_up, clear_tasks
from detect.scanning.streamed import StreamScan, StreamTask
from watermark.errors import ConfigError, ResultError, WatermarkError
from watermark.storage.files import atomic_writer, dump_json

__all__ = ["FinishStep", "ScanStep", "StreamScan"]

_T = TypeVar("_T")


class Document(Protocol):
    """What is used of `datatrove.data.Document`."""

    id: str
    text: str
    metadata: dict[str, Any]


@final
@dataclass(frozen=True)
class ScanStep:
    """Scans the documents that pass, and passes them on.

    Attributes:
        order: what is scanned for.
    """

    order: StreamScan

    def __call__(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Scan a task's documents; see datatrove's `PipelineStep.run`.

        Args:
            data: the documents; the task is done when the last of them was asked for.
            rank: number of the task.
            world_size: how many tasks there are.

        Yields:
            The documents.

        Raises:
            ConfigError: the folder belongs to another scan, or another process does this task.
            DocumentError: a document cannot be scanned, or the disk is full.
            ResultError: anything unforeseen, as text.
        """
        task = _plainly(StreamTask, self.order, rank, world_size)
        with ExitStack() as held:
            _plainly(held.enter_context, task.working())
            for document in data or ():
                _plainly(task.add, document.id, document.text, document.metadata)
                yield document
            _plainly(task.end)


@final
@dataclass(frozen=True)
class FinishStep:
    """Adds up what the tasks left, writes the result, and clears the parts away.

    Attributes:
        order: what was scanned for.
        output: file for the result, as of `heirmark scan --output`.
        table: Parquet file for the results of all documents, or None.
    """

    order: StreamScan
    output: str
    table: str | None = None

    def __call__(
        self, data: Iterable[Document] | None = None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """End the scan, after the documents if there are any; see datatrove's `PipelineStep.run`.

        Args:
            data: documents, if the scan is a step of the same single task.
            rank: number of the task.
            world_size: 1.

        Yields:
            The documents.

        Raises:
            ConfigError: it is not the only task, or there is no such scan in the folder.
            DocumentError: a task is not done, or the disk is full.
            ResultError: anything unforeseen, as text.
        """
        if world_size != 1:
            raise ConfigError(f"a scan is added up by one task, not by {world_size}: tasks=1")
        yield from data or ()
        _plainly(self._finish)

    def _finish(self) -> None:
        result = add_up(self.order, Path(self.table) if self.table else None)
        with atomic_writer(self.output) as file:
            file.write(dump_json({"schema": RESULT_SCHEMA, **result.to_dict()}))
        clear_tasks(self.order)


def _plainly(work: Callable[..., _T], *given: Any) -> _T:
    """Do what may hold the key; an error leaves without its stack, but for the text of it."""
    try:
        return work(*given)
    except WatermarkError as error:
        failure: Exception = error
    except Exception:
        failure = ResultError(f"the scan failed unexpectedly:\n{traceback.format_exc()}")
    failure.__cause__ = failure.__context__ = None
    raise failure.with_traceback(None)
