"""The same tests over an SQLite file and over a real PostgreSQL, which is started for them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from benchmarks.postgresql import PostgresqlMissing, postgresql
from watermark.registry.registry import Registry
from watermark.registry.tables import NAMED
from watermark.registry.upgrading import REVISIONS

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    try:
        with postgresql(fsync=False) as url:
            yield url
    except PostgresqlMissing as error:
        pytest.skip(str(error))


def execute(url: str, *statements: str) -> None:
    """Run statements on PostgreSQL."""
    engine = create_engine(
        url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def new_database(server: str, how: str = "") -> str:
    """Make an empty database; returns its URL."""
    name = f"d{next(_numbers)}"
    execute(server, f"CREATE DATABASE {name} {how}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no registry is yet; a schema, since a database takes hundreds of files."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.db")
    name, server = f"s{next(_numbers)}", str(request.getfixturevalue("server"))
    execute(server, f"CREATE SCHEMA {name}")
    return f"{server}&options=-csearch_path%3D{name}"


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("registry") / "made.db"
    Registry.open(path, create=True).close()
    return path


@pytest.fixture(scope="session")
def made_database(server: str) -> str:
    url = new_database(server)
    Registry.open(url, create=True).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty registry is: a copy, or emptied, since migrations take their time."""
    if request.param == "sqlite":
        return str(shutil.copy(request.getfixturevalue("made_file"), tmp_path / "registry.db"))
    url = str(request.getfixturevalue("made_database"))
    names = [table.name for table in NAMED.values()]
    execute(
        url,
        f"TRUNCATE keys, counters, commitments, configs, {', '.join(names)} RESTART IDENTITY",
        *(f"INSERT INTO {name} VALUES ('', '')" for name in names),
        f"UPDATE heirmark_registry_version SET version_num = '{REVISIONS[-1]}'",
    )
    return url


@pytest.fixture
def registry(made: str) -> Iterator[Registry]:
    with Registry.open(made) as opened:
        yield opened
