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

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    try:
        with postgresql(fsync=False) as url:
            yield url
    except PostgresqlMissing as error:
        pytest.skip(str(error))


def new_database(server: str, how: str = "") -> str:
    """Make an empty database; returns its URL."""
    name = f"d{next(_numbers)}"
    engine = create_engine(
        server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} {how}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where no registry is yet."""
    if request.param == "sqlite":
        return str(tmp_path / "registry.db")
    return new_database(request.getfixturevalue("server"))


@pytest.fixture(scope="session")
def made_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("registry") / "made.db"
    Registry.open(path, create=True).close()
    return path


@pytest.fixture(scope="session")
def made_database(server: str) -> str:
    url = new_database(server)
    Registry.open(url, create=True).close()
    return url.split("/")[3].split("?")[0]


@pytest.fixture(params=["sqlite", "postgresql"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty registry is: a copy, since migrations take their time."""
    if request.param == "sqlite":
        return str(shutil.copy(request.getfixturevalue("made_file"), tmp_path / "registry.db"))
    template = request.getfixturevalue("made_database")
    return new_database(request.getfixturevalue("server"), f"TEMPLATE {template}")


@pytest.fixture
def registry(made: str) -> Iterator[Registry]:
    with Registry.open(made) as opened:
        yield opened
