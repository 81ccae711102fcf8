"""The end of a scan by tasks (`detect.scanning.streamed`): what they left, added up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detect.scanning.folder import PartFolder
from detect.scanning.pool import add_pools, pool_groups
from detect.scanning.results import CorpusResult
from detect.scanning.scanner import Scanner
from detect.scanning.streamed import Deployment, DocumentNames, StreamScan
from detect.scanning.summary import HeldPart, finalise, pooled_sample
from detect.scanning.table import written_to
from detect.scanning.work import clear, working_in
from watermark.errors import ConfigError, DocumentError
from watermark.storage.files import read_json

__all__ = ["add_up", "clear_tasks"]


def add_up(order: StreamScan, table: Path | None = None) -> CorpusResult:
    """Put together what all tasks left.

    Args:
        order: what they scanned for.
        table: Parquet file for the results of all documents, or None.

    Returns:
        The result, with documents in the order of their files' names: the same however many tasks
        there were, if each file went to one of them.

    Raises:
        ConfigError: there are no tasks, or they are another scan's.
        DocumentError: a task is not done, or the disk is full.
    """
    deployment = order.load()
    tasks = _tasks(order, deployment)
    # As a folder is walked.
    every = {source for sources in tasks for source in sources}
    named = sorted(every, key=lambda source: source.split("/"))
    places = {source: i for i, source in enumerate(named)}
    scanner = Scanner(deployment.scan, deployment.tokenizer)
    parts, documents = [], []
    for task, sources in enumerate(tasks):
        to = np.array([places[source] for source in sources], np.int64)
        for part in PartFolder(order.place(task)).parts(1):
            parts.append(part)
            totals, columns = part.totals(), part.documents
            documents.append(
                replace(
                    scanner.init(),
                    documents=columns._replace(piece=to[columns.piece]),
                    names=part.names,
                    reasons=totals.reasons,
                    bad=totals.bad,
                    examples=tuple(b._replace(piece=int(to[b.piece])) for b in totals.examples),
                )
            )
    whole = replace(scanner.merge(documents), sample=pooled_sample(parts, deployment.scan))
    pools = [part.pool for part in parts]
    with written_to(table) as on_documents:
        return finalise(
            [HeldPart(whole)],
            add_pools(pools, pool_groups(pools)),
            plan=deployment.plan,
            scan=deployment.scan,
            naming=lambda lines: DocumentNames(named),
            on_documents=on_documents,
        )


def clear_tasks(order: StreamScan) -> None:
    """Clear away what the tasks left, once the result is written."""
    for done in _done(order.folder):
        with working_in(done.with_suffix("")):
            done.unlink()
            clear(done.with_suffix(""))


def _tasks(order: StreamScan, deployment: Deployment) -> list[list[str]]:
    """Of each task the files that its documents came from."""
    found = {int(path.stem): read_json(path) for path in _done(order.folder)}
    if not found:
        raise ConfigError(f"{order.folder} holds no task that is done; scan first")
    n = next(iter(found.values()))["manifest"]["tasks"]
    if missing := sorted(set(range(n)) - set(found)):
        raise DocumentError(
            f"{len(missing)} of {n} tasks are not done in {order.folder}, the first is "
            f"{missing[0]}; scan again (skip_completed=False, if datatrove takes it for done)"
        )
    for task, done in found.items():
        ours = order.manifest(deployment, task, n)
        if differing := [name for name in ours if done["manifest"].get(name) != ours[name]]:
            raise ConfigError(
                f"task {task} in {order.folder} was done with another {', '.join(differing)}; give "
                "the step that ends a scan what the scan was given"
            )
    return [found[task]["sources"] for task in range(n)]


def _done(folder: str) -> list[Path]:
    return sorted(p for p in Path(folder).glob("*.json") if p.stem.isdecimal())
