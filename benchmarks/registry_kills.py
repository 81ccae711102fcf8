"""Is anything that was acknowledged lost when writers are killed (SIGKILL) in the middle?

Writers issue keys, count exchanges and append commitments, and say so through a pipe after each.
They are killed at random moments, two at a time, so that locks are held too. In the end all that
was said must be there. It is about processes that die, not about power cuts.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from watermark.commitments.log import read_log, verify_chain
from watermark.commitments.writing import append, repair
from watermark.config import preset
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.registry.records import Exchanges
from watermark.registry.registry import Registry

__all__ = ["killed", "main"]

_WRITERS = 2
# A writer needs a few milliseconds to open the registry; some are killed before it is.
_MAX_SECONDS = 0.25


class _Writer(NamedTuple):
    process_id: int
    pipe: int


def killed(place: str, log: Path, *, n_kills: int, seed: int) -> dict[str, Any]:
    """Kill writers and look what is there.

    Args:
        place: where the registry is made.
        log: where the log is made.
        n_kills: how many writers are killed.
        seed: of the moments.

    Returns:
        What was acknowledged, what of it was lost, and whether the chain verifies.
    """
    rng = np.random.default_rng(seed)
    master = SecretKey.generate()
    Registry.open(place, create=True).close()
    said: list[str] = []
    n_torn = 0
    started = time.perf_counter()
    for first in range(0, n_kills, _WRITERS):
        ids = range(first, min(first + _WRITERS, n_kills))
        writers = [_start(place, log, master, i) for i in ids]
        time.sleep(rng.uniform(0, _MAX_SECONDS))
        for writer in writers:
            os.kill(writer.process_id, signal.SIGKILL)
        for writer in writers:
            said += _end(writer)
        content = log.read_bytes() if log.exists() else b""
        n_torn += bool(content) and not content.endswith(b"\n")
    repair(log)
    return {
        "n_kills": n_kills,
        "seconds": time.perf_counter() - started,
        "n_torn_lines_mended": n_torn,
        **_lost(place, log, said),
    }


def _start(place: str, log: Path, master: SecretKey, number: int) -> _Writer:
    readable, writable = os.pipe()
    process_id = os.fork()
    if process_id:
        os.close(writable)
        return _Writer(process_id, readable)
    try:
        _write(place, log, master, number, writable)
    finally:
        os._exit(1)


def _write(place: str, log: Path, master: SecretKey, number: int, pipe: int) -> None:
    registry, config = Registry.open(place), preset("default")
    for i in range(10_000):
        labels = KeyLabels("m", "e", f"c{i % 8}", f"a{number}-{i}")
        key_id = registry.issue(labels, master, config).key_id
        os.write(pipe, f"issued {key_id}\n".encode())
        registry.count({key_id: Exchanges(1 + i, 100)})
        os.write(pipe, f"counted {key_id} {1 + i}\n".encode())
        append(log, key_id, "sha256:" + secrets.token_hex(32))
        os.write(pipe, f"committed {key_id}\n".encode())


def _end(writer: _Writer) -> list[str]:
    _, status = os.waitpid(writer.process_id, 0)
    assert os.WIFSIGNALED(status), "a writer ended by itself"
    content = b""
    while select.select([writer.pipe], [], [], 0)[0] and (part := os.read(writer.pipe, 1 << 16)):
        content += part
    os.close(writer.pipe)
    # What is written to a pipe at once arrives whole.
    return content.decode().splitlines()


def _lost(place: str, log: Path, said: list[str]) -> dict[str, Any]:
    entries = read_log(log)
    verify_chain(entries)
    with Registry.open(place) as registry:
        there = {key.key_id: key for key in registry.keys()}
    committed = {entry.key_id for entry in entries}
    acknowledged, lost = Counter[str](), Counter[str]()
    for line in said:
        what, key_id, *number = line.split()
        acknowledged[what] += 1
        lost[what] += not {
            "issued": key_id in there,
            "counted": key_id in there and [str(there[key_id].served.n_exchanges)] == number,
            "committed": key_id in committed,
        }[what]
    return {
        "acknowledged": dict(acknowledged),
        "lost": {what: lost[what] for what in acknowledged},
        "n_keys": len(there),
        "n_entries": len(entries),
        "chain_verifies": True,
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--kills", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--place", help="Registry.  [default: a file in the folder]")
def main(folder: Path, kills: int, seed: int, place: str | None) -> None:
    """Run in an empty FOLDER and print the outcome; benchmarks.registry runs it at length."""
    place = place or str(folder / "registry.db")
    click.echo(json.dumps(killed(place, folder / "log.jsonl", n_kills=kills, seed=seed)))


if __name__ == "__main__":
    main()
