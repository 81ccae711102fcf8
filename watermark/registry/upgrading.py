"""Which version a registry's tables have, and how they become this version's."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from watermark.errors import MissingExtraError, RegistryError
from watermark.registry.database import name_of, read_beside_writers, reading, writing

__all__ = ["REVISIONS", "prepare"]

# In their order, one for each file of migrations/versions.
REVISIONS: Final = ("0001",)
_VERSION_TABLE: Final = "heirmark_registry_version"
# Any number that no other program asks PostgreSQL to lock.
_LOCK: Final = 0x686D_7265


def prepare(engine: Engine, *, create: bool) -> None:
    """Bring a registry's tables to this version; a current one is only read.

    Args:
        engine: of `watermark.registry.database.make_engine`.
        create: whether an empty database becomes a registry.

    Raises:
        RegistryError: empty without `create`, not a registry, or a newer version's.
    """
    with reading(engine) as connection:
        _check_encoding(connection)
        is_current = _revision(connection, create) == REVISIONS[-1]
    read_beside_writers(engine)
    if is_current:
        return
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Another process may have done it in between.
        if _revision(connection, create) != REVISIONS[-1]:
            _upgrade(connection)


def _revision(connection: Connection, create: bool) -> str | None:
    found = inspect(connection)
    name = name_of(connection.engine)
    if not found.has_table(_VERSION_TABLE):
        if found.get_table_names():
            raise RegistryError(
                f"{name} holds tables of something else; give the registry a database, or a "
                "PostgreSQL schema, of its own"
            )
        if not create:
            raise RegistryError(f"{name} is empty; make it a registry: heirmark registry init")
        return None
    revision = connection.execute(
        text(f"SELECT version_num FROM {_VERSION_TABLE}")  # noqa: S608 (a constant)
    ).scalar()
    if revision not in REVISIONS:
        raise RegistryError(
            f"{name} has version {revision} and this heirmark knows up to {REVISIONS[-1]}; upgrade "
            "heirmark"
        )
    return str(revision)


def _check_encoding(connection: Connection) -> None:
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise RegistryError(
            f"{name_of(connection.engine)} has the encoding {encoding}, in which names can get "
            "lost; make a database with ENCODING 'UTF8' TEMPLATE template0"
        )


def _upgrade(connection: Connection) -> None:
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError as error:
        raise MissingExtraError(error.name or "alembic", "registry") from None
    config = Config()
    config.set_main_option("script_location", "watermark.registry:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, version_table=_VERSION_TABLE)
    command.upgrade(config, "head")
