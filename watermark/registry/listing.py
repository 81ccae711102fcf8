"""Reading keys back: by key id, by labels, by filter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, select

from watermark.errors import RegistryError
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import ListedKey, Revocation
from watermark.registry.records import Commitment, Exchanges, IssuedKey, KeyFilter, utc_time
from watermark.registry.tables import commitments, counters, keys

__all__ = ["filtered", "find_key", "find_keys", "find_labels", "iterate_keys", "list_keys"]

_LABELS: Final = tuple(keys.c[label] for label in KeyLabels._fields)
_COMMON: Final = (
    "key_id", "master_key_id", "config", "state", "retired_reason", "revoked_reason",
)  # fmt: skip
_TIMES: Final = ("issued_at", "retired_at", "revoked_at")
_ROWS: Final = 2000
# Of several keys with the same labels the first of these states counts.
_TELLING: Final = ("revoked", "active", "retired")


@cache
def _records() -> Select[Any]:
    return (
        select(
            *(keys.c[name] for name in (*_COMMON, *_TIMES)),
            *_LABELS,
            counters.c.n_exchanges,
            counters.c.n_tokens,
            counters.c.first_at,
            counters.c.last_at,
            commitments.c.commitment,
            commitments.c.sequence,
            commitments.c.committed_at,
        )
        .outerjoin(counters, counters.c.key_id == keys.c.key_id)
        .outerjoin(commitments, commitments.c.key_id == keys.c.key_id)
        .select_from(keys)
    )


def _record(row: RowMapping) -> IssuedKey:
    committed = utc_time(row["committed_at"])
    issued = utc_time(row["issued_at"])
    assert issued is not None
    return IssuedKey(
        **{name: row[name] for name in _COMMON},
        labels=KeyLabels(*(row[label] for label in KeyLabels._fields)),
        issued_at=issued,
        retired_at=utc_time(row["retired_at"]),
        revoked_at=utc_time(row["revoked_at"]),
        served=Exchanges(row["n_exchanges"] or 0, row["n_tokens"] or 0),
        served_from=utc_time(row["first_at"]),
        served_until=utc_time(row["last_at"]),
        commitment=(
            Commitment(row["commitment"], row["sequence"], committed) if committed else None
        ),
    )


def find_key(connection: Connection, key_id: str) -> IssuedKey:
    """Find one key.

    Args:
        connection: to the registry.
        key_id: the key's public handle.

    Returns:
        Its record.

    Raises:
        RegistryError: not issued here.
    """
    row = connection.execute(_records().where(keys.c.key_id == key_id)).mappings().first()
    if row is None:
        raise RegistryError(f"the registry knows no key {key_id[:60]!a}")
    return _record(row)


def find_keys(connection: Connection, labels: KeyLabels) -> list[IssuedKey]:
    """Find the keys with exactly these labels: one under each master.

    Args:
        connection: to the registry.
        labels: all of them; empty ones must be empty.

    Returns:
        The records, oldest first.
    """
    query = filtered(_records(), KeyFilter(**labels._asdict())).order_by(keys.c.id)
    return [_record(row) for row in connection.execute(query).mappings()]


def iterate_keys(connection: Connection, wanted: KeyFilter) -> Iterator[IssuedKey]:
    """Read the keys that a filter means, in the order of issue, a few thousand at a time.

    Args:
        connection: to the registry.
        wanted: the filter.

    Yields:
        The records.

    Raises:
        RegistryError: unknown state.
    """
    query = filtered(_records(), wanted.checked()).order_by(keys.c.id)
    rows = connection.execution_options(yield_per=_ROWS).execute(query)
    for row in rows.mappings():
        yield _record(row)


def filtered(query: Any, wanted: KeyFilter) -> Any:
    """Add a filter's conditions to a statement on the table of keys."""
    for name, value in wanted._asdict().items():
        if value is not None:
            query = query.where(keys.c[name] == value)
    return query


def find_labels(connection: Connection, wanted: KeyFilter) -> list[KeyLabels]:
    """List the labels of the keys that a filter means.

    Args:
        connection: to the registry.
        wanted: the filter.

    Returns:
        The labels in the order of issue, each once, even if several masters have them.

    Raises:
        RegistryError: unknown state.
    """
    query = filtered(select(*_LABELS), wanted.checked()).order_by(keys.c.id)
    return list(dict.fromkeys(KeyLabels(*row) for row in connection.execute(query)))


def list_keys(connection: Connection, wanted: KeyFilter) -> list[ListedKey]:
    """List the labels of the keys that a filter means, and which of these keys were revoked.

    Args:
        connection: to the registry.
        wanted: the filter.

    Returns:
        The keys in the order of issue, each labels once; if several masters have them, revoked if
        one of these keys is, else active if one is.

    Raises:
        RegistryError: unknown state.
    """
    columns = (keys.c.state, keys.c.revoked_at, keys.c.revoked_reason, *_LABELS)
    query = filtered(select(*columns), wanted.checked()).order_by(keys.c.id)
    found: dict[KeyLabels, ListedKey] = {}
    for state, at, reason, *names in connection.execute(query):
        revocation = Revocation(at, reason) if state == "revoked" else None
        listed = ListedKey(KeyLabels(*names), state, revocation)
        before = found.setdefault(listed.labels, listed)
        if _TELLING.index(state) < _TELLING.index(before.state):
            found[listed.labels] = listed
    return list(found.values())
