"""What is no registry of this version is told apart, and left as it is."""

from __future__ import annotations

import builtins
import sqlite3
import threading
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from tests.watermark.registry.conftest import new_database
from watermark.errors import MissingExtraError, RegistryError
from watermark.registry.database import make_engine, name_of, writing
from watermark.registry.registry import Registry
from watermark.registry.tables import metadata
from watermark.registry.upgrading import REVISIONS


def _change(place: str, *statements: str) -> None:
    engine = make_engine(place, create=True)
    with writing(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_migrations_make_the_tables_that_the_code_knows(made: str) -> None:
    engine = make_engine(made, create=False)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "heirmark_registry_version"}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_each_version_has_its_script() -> None:
    folder = Path(__file__).parents[3] / "watermark/registry/migrations/versions"
    scripts = sorted(path.name[1:5] for path in folder.glob("r*.py"))
    assert scripts == sorted(REVISIONS)


def test_opening_again_changes_nothing(made: str) -> None:
    for create in (True, False, True):
        with Registry.open(made, create=create) as registry:
            assert registry.n_keys() == {}


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no registry at .*heirmark registry init"):
        Registry.open(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_an_empty_database_becomes_a_registry_only_when_told(place: str, tmp_path: Path) -> None:
    Path(tmp_path / "registry.db").touch()
    with pytest.raises(RegistryError, match="is empty; make it a registry"):
        Registry.open(place)
    Registry.open(place, create=True).close()
    Registry.open(place).close()


def test_other_tables_are_left_alone(place: str) -> None:
    _change(place, "CREATE TABLE keys (somebody TEXT)")
    for create in (True, False):
        with pytest.raises(RegistryError, match="tables of something else"):
            Registry.open(place, create=create)


def test_a_newer_version_is_left_alone(made: str) -> None:
    _change(made, "UPDATE heirmark_registry_version SET version_num = '9999'")
    with pytest.raises(RegistryError, match=r"has version 9999 .* up to 0001; upgrade heirmark"):
        Registry.open(made)


def test_a_failed_migration_leaves_nothing(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    real = command.upgrade

    def stopped(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", stopped)
        with pytest.raises(KeyboardInterrupt):
            Registry.open(place, create=True)
    with pytest.raises(RegistryError, match="is empty"):
        Registry.open(place)
    Registry.open(place, create=True).close()


def test_two_make_it_at_once(place: str) -> None:
    errors: list[BaseException] = []

    def make() -> None:
        try:
            Registry.open(place, create=True).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Registry.open(place) as registry:
        assert registry.n_keys() == {}


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "r.db", create=True) as registry:
        assert registry.n_keys() == {}
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_a_url_names_a_file_too(tmp_path: Path) -> None:
    Registry.open(f"sqlite:///{tmp_path}/r.db", create=True).close()
    Registry.open(tmp_path / "r.db").close()


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("A text, and no database at all. " * 40)
    with pytest.raises(RegistryError, match=r"notes.txt: file is not a database"):
        Registry.open(path, create=True)
    assert path.read_text() == "A text, and no database at all. " * 40
    with pytest.raises(RegistryError, match="is a folder"):
        Registry.open(tmp_path)
    with pytest.raises(RegistryError, match="cannot make the registry"):
        Registry.open(tmp_path / "no" / "such" / "folder.db", create=True)


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://", "sqlite:///:memory:", "oracle://x"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(RegistryError, match=r"cannot live at .*expected an SQLite file, or postgr"):
        Registry.open(url, create=True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:pass-word-7@/nothing?host=/nonexistent",
        "postgresql://user:pass-word-7@localhost:notaport/nothing",
        "://user:pass-word-7@x",
        "postgresql://u@localhost:1/d?password=pass-word-7",
        "postgresql://u@localhost:1/d?p%61ssword=pass-word-7",
        "postgresql://u@localhost:1/d?sslpassword=pass-word-7",
        "postgresql://u@localhost:1/d?PASSWORD=pass-word-7",
        "postgresql://u@localhost:1/d?passfile=/pass-word-7",
        "postgresql://u@localhost:1/d?sslkey=pass-word-7&connect_timeout=2",
        "postgresql:/u:pass-word-7@x/d",
        "host=localhost port=1 password=pass-word-7",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Registry.open(url, create=True)
    assert "pass-word-7" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pass-word-7" not in "".join(traceback.format_exception(caught.value))


def test_a_url_that_names_a_password_file_does_not_show_it() -> None:
    engine = make_engine("postgresql://u:pw7@h/d?passfile=/pw7&host=/run/x", create=False)
    assert name_of(engine) == "postgresql+psycopg://u:***@h/d?host=%2Frun%2Fx&passfile=hidden"
    assert "pw7" not in repr(Registry(engine))


def test_a_foreign_database_is_not_changed_in_one_byte(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE keys (somebody TEXT)")
        foreign.commit()
    before = path.read_bytes()
    for create in (True, False):
        with pytest.raises(RegistryError, match="tables of something else"):
            Registry.open(path, create=create)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["app.db"]


def test_readers_of_a_registry_do_not_wait_for_its_writers(tmp_path: Path) -> None:
    path = tmp_path / "r.db"

    def mode(setting: str = "") -> str:
        with closing(sqlite3.connect(path)) as connection:
            return str(connection.execute(f"PRAGMA journal_mode{setting}").fetchone()[0])

    Registry.open(path, create=True).close()
    assert mode() == "wal"
    # As a copy that VACUUM INTO made.
    assert mode("=DELETE") == "delete"
    Registry.open(path).close()
    assert mode() == "wal"


def test_a_locked_file_is_waited_for_and_then_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watermark.registry.database._BUSY_SECONDS", 0.05)
    path = tmp_path / "r.db"
    Registry.open(path, create=True).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Registry.open(path) as registry:
        assert registry.n_keys() == {}
        with pytest.raises(RegistryError, match="database is locked"):
            registry.count({})
    holder.close()


def test_a_schema_of_its_own_within_a_shared_database(server: str) -> None:
    url = new_database(server)
    _change(url, "CREATE TABLE keys (somebody TEXT)", "CREATE SCHEMA heirmark")
    own = url + "&options=-csearch_path%3Dheirmark"
    Registry.open(own, create=True).close()
    with Registry.open(own) as registry:
        assert registry.n_keys() == {}


def test_a_database_that_would_lose_letters_is_refused(server: str) -> None:
    url = new_database(server, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(RegistryError, match="has the encoding LATIN1"):
        Registry.open(url, create=True)


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"heirmark\[postgresql\]"):
        Registry.open("postgresql://u@/d")
