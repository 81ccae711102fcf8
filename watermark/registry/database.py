"""The databases that a registry can live in: an SQLite file, or PostgreSQL by URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url

from watermark.errors import MissingExtraError, RegistryError

__all__ = ["at_once", "make_engine", "name_of", "read_beside_writers", "reading", "writing"]

_BUSY_SECONDS: Final = 60
_WRITE: Final = "heirmark_write"


def make_engine(place: str | Path, *, create: bool) -> Engine:
    """Prepare connections to a registry; none is made yet.

    Args:
        place: an SQLite file's path, or a URL: sqlite:///FILE, postgresql://...
        create: whether an SQLite file is made if there is none (mode 0600: accounts are nobody
            else's business).

    Returns:
        The engine.

    Raises:
        RegistryError: not such a URL, or no file there.
        MissingExtraError: the database's driver is not installed.
    """
    url = _url(place)
    if url.get_backend_name() == "sqlite":
        _check_file(Path(url.database or ""), create)
        # Parameters would be accounts' names, in error messages.
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(url, hide_parameters=True, connect_args={"client_encoding": "utf8"})
    except ImportError as error:
        raise MissingExtraError(error.name or "psycopg", "postgresql") from None
    return engine


def _url(place: str | Path) -> URL:
    if "://" not in str(place):
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(str(place))
        backend = url.get_backend_name()
    except (exc.ArgumentError, ValueError):
        # Not quoted: it may hold a password.
        raise RegistryError("the registry's URL cannot be read; " + _EXPECTED) from None
    if secret := sorted(set(url.query) & _SECRET):
        raise RegistryError(f"a registry's URL takes no {secret[0]}; {_EXPECTED}")
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or url.database in (None, "", ":memory:"):
        raise RegistryError(f"a registry cannot live at {url.drivername}://; {_EXPECTED}")
    return url


_SECRET: Final = frozenset({"password", "sslpassword"})
# Of a URL's options those whose values errors quote.
_SHOWN: Final = frozenset(
    {"application_name", "connect_timeout", "host", "options", "port", "sslmode"}
)
_EXPECTED: Final = (
    "expected an SQLite file, or postgresql://USER@HOST/DATABASE (its password in PGPASSWORD or "
    "~/.pgpass, where no process list shows it)"
)


def _check_file(path: Path, create: bool) -> None:
    if path.is_dir():
        raise RegistryError(f"{path} is a folder; expected the registry's file")
    if path.exists():
        return
    if "@" in str(path) or "password" in str(path):
        # Not quoted: a URL without its "://", or a connection string, may hold a password.
        raise RegistryError("there is no such file, and this is no URL; " + _EXPECTED)
    if not create:
        raise RegistryError(f"there is no registry at {path}; make one: heirmark registry init")
    try:
        # SQLite gives the files beside it the same mode.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except FileNotFoundError:
        raise RegistryError(
            f"cannot make the registry {path}: there is no such folder; make it first"
        ) from None
    except OSError as error:
        raise RegistryError(f"cannot make the registry {path}: {error.strerror}") from None


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver's own BEGIN comes too late to lock; `_begin_sqlite` sends ours.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")


def read_beside_writers(engine: Engine) -> None:
    """Have an SQLite file's readers not wait for its writers (WAL, which the file keeps).

    Args:
        engine: to what is known to be a registry, or empty: nothing else is changed.
    """
    if engine.dialect.name != "sqlite":
        return
    with _translated(engine), engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        if raw.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            # Where another process is at it, or nothing can be written, the next one tries again.
            with suppress(OperationalError):
                raw.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    how = connection.get_execution_options().get(_WRITE)
    if how:
        # NORMAL: in the system's hands, safe from kill -9; FULL: on the disk.
        connection.exec_driver_sql(f"PRAGMA synchronous={how}")
    # A write lock that is taken only later fails at once if another writer was in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if how else "BEGIN")


def name_of(engine: Engine) -> str:
    """What errors call the registry: file, or URL without its password and unknown options."""
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    query = {name: v if name in _SHOWN else "hidden" for name, v in engine.url.query.items()}
    return engine.url.set(query=query).render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Read in one transaction.

    Args:
        engine: of `make_engine`.

    Yields:
        A connection.

    Raises:
        RegistryError: the database cannot be reached or read.
    """
    with _translated(engine), engine.connect() as connection:
        yield connection


@contextmanager
def at_once(engine: Engine) -> Iterator[Connection]:
    """Run one statement, which needs no transaction: PostgreSQL answers in one round trip.

    Args:
        engine: of `make_engine`.

    Yields:
        A connection.

    Raises:
        RegistryError: the database cannot be reached.
    """
    with _translated(engine), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT")
        yield connection


@contextmanager
def writing(engine: Engine, *, onto_disk: bool = True) -> Iterator[Connection]:
    """Write in one transaction: all of it, or nothing.

    Args:
        engine: of `make_engine`.
        onto_disk: whether SQLite waits for the disk before it ends. If not, what was written
            survives the end of this process, however sudden, but the last writes may be lost in a
            power cut. PostgreSQL follows its own setting, synchronous_commit.

    Yields:
        A connection; other writers of an SQLite file wait until it is done.

    Raises:
        RegistryError: the database cannot be reached or written.
    """
    how = "FULL" if onto_disk else "NORMAL"
    with _translated(engine), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITE: how})
        with connection.begin():
            yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError:
        raise RegistryError(
            f"the registry {name_of(engine)}: another process wrote the same keys at that moment; "
            "nothing of this call was written: run it again"
        ) from None
    except exc.DBAPIError as error:
        lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        # Not chained: the statement is no news to the user.
        raise RegistryError(f"the registry {name_of(engine)}: {lines[0]}") from None
    except exc.TimeoutError:
        raise RegistryError(
            f"the registry {name_of(engine)}: all connections of this process are in use"
        ) from None
