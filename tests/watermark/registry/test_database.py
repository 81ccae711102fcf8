"""How transactions of a registry begin, end and fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from watermark.errors import RegistryError
from watermark.registry.database import at_once, make_engine, reading, writing


@pytest.mark.parametrize(("onto_disk", "level"), [(True, 2), (False, 1)])
def test_what_waits_for_the_disk(made_file: Path, onto_disk: bool, level: int) -> None:
    """SQLite's levels: 2 is FULL, 1 is NORMAL; both ways round on one connection."""
    engine = make_engine(made_file, create=False)
    for _ in range(2):
        with writing(engine, onto_disk=not onto_disk):
            pass
        with writing(engine, onto_disk=onto_disk) as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == level
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()


def test_a_writer_has_the_lock_from_the_beginning(
    made_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two that read first and then write would fail instead of waiting."""
    monkeypatch.setattr("watermark.registry.database._BUSY_SECONDS", 0.05)
    engine = make_engine(made_file, create=False)
    with writing(engine), reading(engine), pytest.raises(RegistryError, match="is locked"):
        with writing(engine):
            pass
    engine.dispose()


def _write_and_fail(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO models VALUES ('m', '')"))
        raise ZeroDivisionError


def test_what_fails_is_taken_back(made: str) -> None:
    """Also after one statement that had no transaction."""
    engine = make_engine(made, create=False)
    for read in (reading, at_once, reading):
        with pytest.raises(ZeroDivisionError):
            _write_and_fail(engine)
        with read(engine) as connection:
            found = connection.execute(text("SELECT count(*) FROM models WHERE name = 'm'"))
            assert found.scalar() == 0
    engine.dispose()


def test_a_rule_of_the_database_is_kept(made: str) -> None:
    """Foreign keys hold, and what another process did is said as that."""
    engine = make_engine(made, create=False)
    row = "('hm1-x', 0, 0, '', '')"
    with pytest.raises(RegistryError, match="another process wrote the same keys"):
        with writing(engine) as connection:
            connection.execute(text(f"INSERT INTO counters VALUES {row}"))
    engine.dispose()
