"""How fast is the registry, and is anything lost when its writers are killed?

`timings`: issue and look-up one by one, 25,000 accounts imported and rotated, 30 million exchanges
counted; on SQLite, and on PostgreSQL from Debian's binaries if they are here. PostgreSQL is timed
with its default (each commit waits for the disk) and with synchronous_commit=off, which is what the
SQLite file does for single issues and counts: safe from kill -9, not from power cuts. Beside each
call stands, in turn, the driver's own: one row written or read with no library in between. On a
busy machine that is what the ratio is of.
`kills`: see `benchmarks.registry_kills`.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import psycopg

from benchmarks.postgresql import PostgresqlMissing, postgresql
from benchmarks.record import write_result
from benchmarks.registry_kills import killed
from watermark.config import preset
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.registry.counting import Tally
from watermark.registry.registry import Registry

_N_ACCOUNTS = 25_000
_N_COHORTS = 8
_FLUSH_EVERY = 1_000_000
_OFF = "&options=-csynchronous_commit%3Doff"


def _spread(
    call: Callable[[int], object], bare: Callable[[int], object], n_runs: int
) -> dict[str, float]:
    times = np.empty((n_runs, 2))
    for i in range(n_runs):
        for k, called in enumerate((call, bare)):
            started = time.perf_counter()
            called(i)
            times[i, k] = time.perf_counter() - started
    quantiles = {"fastest_ms": 0.0, "median_ms": 0.5, "p99_ms": 0.99}
    return {
        f"{whose}{name}": 1e3 * float(np.quantile(times[:, k], q))
        for k, whose in enumerate(("", "bare_driver_"))
        for name, q in quantiles.items()
    }


class _Bare(NamedTuple):
    """The driver alone, on the same database: what no registry can be faster than."""

    write: Callable[[int], object]
    read: Callable[[int], object]
    close: Callable[[], None]


def _bare(place: str, ids: list[str]) -> _Bare:
    connection: Any
    if "://" in place:
        connection = psycopg.connect(place, autocommit=True)
        insert = "INSERT INTO bare VALUES (%s, %s)"
        select = "SELECT * FROM keys WHERE key_id = %s"
    else:
        connection = sqlite3.connect(place, isolation_level=None)
        connection.execute("PRAGMA synchronous=NORMAL")
        insert = "INSERT INTO bare VALUES (?, ?)"
        select = "SELECT * FROM keys WHERE key_id = ?"
    connection.execute("CREATE TABLE bare (name TEXT PRIMARY KEY, value TEXT)")
    return _Bare(
        lambda i: connection.execute(insert, (f"name-{i}", "x" * 200)),
        lambda i: connection.execute(select, (ids[i],)).fetchall(),
        connection.close,
    )


@contextmanager
def _clock(measured: dict[str, Any], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    measured[name] = time.perf_counter() - started


def _timings(place: str, n_runs: int, n_exchanges: int, seed: int) -> dict[str, Any]:
    measured: dict[str, Any] = {"load_average": os.getloadavg()[0]}
    master, config = SecretKey.generate(), preset("default")
    accounts = [
        KeyLabels("smollm2", "2026-11", f"c{i % _N_COHORTS}", f"account-{i:05d}")
        for i in range(_N_ACCOUNTS)
    ]
    with Registry.open(place, create=True) as registry:
        with _clock(measured, "import_25000_seconds"):
            registry.import_keys(accounts, master, config)
        with _clock(measured, "list_25000_labels_seconds"):
            assert registry.labels(model="smollm2") == accounts
        ids = [key.key_id for key in registry.keys()]
        rng = np.random.default_rng(seed)
        some = rng.integers(_N_ACCOUNTS, size=n_runs).tolist()
        bare = _bare(place, [ids[i] for i in some])
        measured["look_up_by_key_id"] = _spread(
            lambda i: registry.key(ids[some[i]]), bare.read, n_runs
        )
        measured["look_up_by_labels"] = _spread(
            lambda i: registry.keys_of(accounts[some[i]]), bare.read, n_runs
        )
        fresh = [KeyLabels("smollm2", "2026-11", "c1", f"new-{i}") for i in range(n_runs)]
        measured["issue"] = _spread(
            lambda i: registry.issue(fresh[i], master, config), bare.write, n_runs
        )
        bare.close()
        if n_exchanges:
            with _clock(measured, "count_seconds"):
                measured["n_flushes"] = _count(registry, ids, n_exchanges, rng)
            measured["n_exchanges"] = n_exchanges
            assert sum(key.served.n_exchanges for key in registry.keys()) == n_exchanges
        with _clock(measured, "rotate_seconds"):
            rotated = registry.rotate(
                master, model="smollm2", old_epoch="2026-11", new_epoch="2026-12"
            )
        measured["n_rotated"] = rotated.n_issued
    return measured


def _count(registry: Registry, ids: list[str], n_exchanges: int, rng: np.random.Generator) -> int:
    tally, n_flushes = Tally(registry.count), 0
    for start in range(0, n_exchanges, _FLUSH_EVERY):
        n = min(_FLUSH_EVERY, n_exchanges - start)
        whose, n_tokens = rng.integers(len(ids), size=n), rng.integers(20, 800, size=n)
        for key, tokens in zip(whose.tolist(), n_tokens.tolist(), strict=True):
            tally.add(ids[key], tokens)
        tally.flush()
        n_flushes += 1
    return n_flushes


@click.group()
def main() -> None:
    """Measure the registry; each case writes a result of its own."""


@main.command()
@click.option("--runs", default=5000, show_default=True)
@click.option("--exchanges", default=30_000_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def timings(runs: int, exchanges: int, seed: int) -> None:
    """Time issue, look-up, import, rotation and counting."""
    packages = ("sqlalchemy", "psycopg")
    measured: dict[str, Any] = {name: version(name) for name in packages}
    measured["sqlite_version"] = sqlite3.sqlite_version
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder, "registry.db"))
        measured["sqlite"] = _timings(place, runs, exchanges, seed)
        click.echo(measured["sqlite"])
    # Counting waits for the disk once a flush: once is enough to know it.
    cases = (("postgresql", "", exchanges), ("postgresql_synchronous_commit_off", _OFF, 0))
    for name, option, n_exchanges in cases:
        try:
            with postgresql(fsync=True) as url:
                measured[name] = _timings(url + option, runs, n_exchanges, seed)
        except PostgresqlMissing as error:
            measured[name] = str(error)
        click.echo(measured[name])
    click.echo(f"wrote {write_result('registry', seed=seed, measured=measured, case='timings')}")


@main.command()
@click.option("--kills", default=1000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def kills(kills: int, seed: int) -> None:
    """Kill writers: `kills` of an SQLite file's, as many of PostgreSQL's if it is here."""
    measured: dict[str, Any] = {}
    for name in ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory() as folder:
            log, file = Path(folder, "log.jsonl"), str(Path(folder, "registry.db"))
            server = postgresql(fsync=True) if name == "postgresql" else nullcontext(file)
            try:
                with server as place:
                    measured[name] = killed(place, log, n_kills=kills, seed=seed)
            except PostgresqlMissing as error:
                measured[name] = str(error)
        click.echo(measured[name])
    click.echo(f"wrote {write_result('registry', seed=seed, measured=measured, case='kills')}")


if __name__ == "__main__":
    main()
