"""Issuing keys: one, many, or those of a new epoch. All of a call's keys are written, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, final

from sqlalchemy import BindParameter, Connection, Text, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from watermark.errors import RegistryError
from watermark.keyring.labels import KeyLabels
from watermark.registry.listing import filtered
from watermark.registry.records import Imported, KeyFilter, Rotated
from watermark.registry.tables import NAMED, configs, keys

__all__ = [
    "NewKey",
    "insert_config",
    "insert_key",
    "insert_names",
    "insert_new",
    "issue_keys",
    "known_keys",
    "rotate_keys",
]

_SAME_ACCOUNT: Final = ("master_key_id", "model", "epoch", "account", "purpose")
_CHUNK: Final = 5000


@final
@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that shall be issued.

    Attributes:
        key_id: its public handle.
        master_key_id: of the secret that it was derived from.
        labels: its labels.
        config: fingerprint of its config.
    """

    key_id: str
    master_key_id: str
    labels: KeyLabels
    config: str

    @property
    def same_account(self) -> tuple[str, ...]:
        """What of its columns one account can have once among active keys."""
        labels = self.labels
        return (self.master_key_id, labels.model, labels.epoch, labels.account, labels.purpose)

    def row(self, now: str) -> dict[str, Any]:
        """Return the values of its row."""
        return {
            "key_id": self.key_id,
            "master_key_id": self.master_key_id,
            **self.labels._asdict(),
            "config": self.config,
            "issued_at": now,
            "state": "active",
        }


def insert_new(connection: Connection, table: Any) -> Any:
    """Return an INSERT that leaves rows alone which are there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def insert_names(connection: Connection, new: Iterable[KeyLabels], now: str) -> None:
    """Add the labels' names to the tables of names.

    Args:
        connection: to the registry, in a transaction.
        new: labels.
        now: the time, as text.
    """
    named: dict[str, set[str]] = {label: set() for label in NAMED}
    for labels in new:
        for label, names in named.items():
            names.add(getattr(labels, label))
    for label, names in named.items():
        # Sorted, so that two writers never wait for each other in a ring.
        rows = [{"name": name, "added_at": now} for name in sorted(names - {""})]
        if rows:
            connection.execute(insert_new(connection, NAMED[label]), rows)


def insert_config(connection: Connection, fingerprint: str, config: str) -> None:
    """Add a config, if it is not there.

    Args:
        connection: to the registry, in a transaction.
        fingerprint: its fingerprint.
        config: its canonical JSON.
    """
    row = {"fingerprint": fingerprint, "config": config}
    connection.execute(insert_new(connection, configs), row)


def insert_key(connection: Connection, key: NewKey, now: str) -> bool:
    """Add one key, and its account, by one statement.

    Args:
        connection: to the registry, whose other names and config must be there.
        key: the key.
        now: the time, as text.

    Returns:
        Whether it is new; False if a row stands in its way, and nothing was written.
    """
    row = {f"key_{name}": value for name, value in key.row(now).items()}
    dialect, account = connection.dialect.name, key.labels.account
    if account and dialect != "postgresql":
        named = {"name": account, "added_at": now}
        connection.execute(insert_new(connection, NAMED["account"]), named)
    statement = _inserting(dialect, bool(account))
    return connection.execute(statement, row).first() is not None


@cache
def _inserting(dialect: str, with_account: bool) -> Any:
    """Build the statement of `insert_key` once: that takes as long as it then runs."""
    insert_into = (postgresql if dialect == "postgresql" else sqlite).insert
    columns = {name: _bound(name) for name in NewKey("", "", KeyLabels(), "").row("")}
    statement = insert_into(keys).values(columns).on_conflict_do_nothing().returning(keys.c.key_id)
    if not with_account or dialect != "postgresql":
        return statement
    named = {"name": _bound("account"), "added_at": _bound("issued_at")}
    adding = insert_into(NAMED["account"]).values(named)
    # Within the same statement: foreign keys are looked at when it ends.
    return statement.add_cte(adding.on_conflict_do_nothing().cte("account"))


def _bound(column: str) -> BindParameter[str]:
    return bindparam(f"key_{column}", type_=Text())


def issue_keys(
    connection: Connection, new: Iterable[NewKey], now: str, *, move: bool = False
) -> Imported:
    """Issue keys; those that were issued before under the same config stay as they are.

    Args:
        connection: to the registry, in a transaction.
        new: the keys.
        now: the time, as text.
        move: whether an account that has an active key in another cohort of the same epoch is
            moved: that key is retired.

    Returns:
        What was done.

    Raises:
        RegistryError: a key that was issued under another config, is retired or revoked, or an
            account in two cohorts.
    """
    by_id: dict[str, NewKey] = {}
    n_repeated = 0
    for key in new:
        n_repeated += key.key_id in by_id
        by_id[key.key_id] = key
    _check_one_cohort(list(by_id.values()))
    known = known_keys(connection, list(by_id))
    for key_id, row in known.items():
        _check_known(by_id[key_id], row)
    fresh = [key for key_id, key in by_id.items() if key_id not in known]
    clashing = _other_cohorts(connection, fresh)
    if clashing and not move:
        raise RegistryError(
            f"{len(clashing)} accounts have an active key of the same epoch in another cohort "
            f"({clashing[0]}); to retire those keys, move the accounts with --move"
        )
    _retire_moved(connection, clashing, now)
    _insert(connection, fresh, now)
    return Imported(len(fresh), len(known), n_repeated, len(clashing))


def _insert(connection: Connection, fresh: Sequence[NewKey], now: str) -> None:
    insert_names(connection, [key.labels for key in fresh], now)
    for start in range(0, len(fresh), _CHUNK):
        rows = [key.row(now) for key in fresh[start : start + _CHUNK]]
        connection.execute(insert(keys), rows)


def known_keys(connection: Connection, key_ids: Sequence[str]) -> dict[str, Any]:
    """Read which of some keys are there.

    Args:
        connection: to the registry.
        key_ids: their ids.

    Returns:
        The rows of those that are there, by key id.
    """
    known: dict[str, Any] = {}
    for start in range(0, len(key_ids), _CHUNK):
        query = select(keys).where(keys.c.key_id.in_(key_ids[start : start + _CHUNK]))
        known.update((row["key_id"], row) for row in connection.execute(query).mappings())
    return known


def _check_known(key: NewKey, row: Any) -> None:
    name = f"{key.labels.name} ({key.key_id})"
    labels = KeyLabels(*(row[label] for label in KeyLabels._fields))
    if (labels, row["master_key_id"]) != (key.labels, key.master_key_id):
        raise RegistryError(f"the key id of {name} is that of {labels.name}: choose other labels")
    if row["state"] != "active":
        raise RegistryError(
            f"{name} was {row['state']}, and is not issued again; issue it under another epoch or "
            "purpose"
        )
    if row["config"] != key.config:
        raise RegistryError(
            f"{name} was issued with the config {row['config']}; text marked under it would not "
            "be found with another. Issue it under another epoch or purpose"
        )


def _check_one_cohort(new: Sequence[NewKey]) -> None:
    met: set[tuple[str, ...]] = set()
    for key in new:
        if key.labels.account and key.same_account in met:
            raise RegistryError(
                f"the account {key.labels.account!a} is named in two cohorts of one epoch; it can "
                "be in one"
            )
        met.add(key.same_account)


def _other_cohorts(connection: Connection, fresh: Sequence[NewKey]) -> list[str]:
    """List the active keys, by key id, of accounts that now come in another cohort."""
    _check_one_cohort(fresh)
    wanted = {key.same_account: key for key in fresh if key.labels.account}
    accounts = sorted({key.labels.account for key in wanted.values()})
    columns = [keys.c[name] for name in _SAME_ACCOUNT]
    found = []
    for start in range(0, len(accounts), _CHUNK):
        chunk = accounts[start : start + _CHUNK]
        query = select(keys.c.key_id, *columns).where(
            keys.c.state == "active", keys.c.account.in_(chunk)
        )
        found += [row[0] for row in connection.execute(query) if tuple(row[1:]) in wanted]
    return found


def _retire_moved(connection: Connection, key_ids: Sequence[str], now: str) -> None:
    values = {"state": "retired", "retired_at": now, "retired_reason": "moved to another cohort"}
    for start in range(0, len(key_ids), _CHUNK):
        chunk = key_ids[start : start + _CHUNK]
        connection.execute(update(keys).where(keys.c.key_id.in_(chunk)).values(values))


def rotate_keys(
    connection: Connection,
    wanted: KeyFilter,
    renewed: Callable[[KeyLabels, str], NewKey],
    now: str,
    reason: str,
) -> Rotated:
    """Retire the active keys that a filter means, and issue their successors.

    Args:
        connection: to the registry, in a transaction.
        wanted: the filter: one epoch of one master.
        renewed: makes the successor of a key from its labels and its config's fingerprint.
        now: the time, as text.
        reason: why the old keys are retired.

    Returns:
        What was done. A successor that was issued before, or whose account has another active key
        in the new epoch, is not issued; one that was revoked stays revoked.

    Raises:
        RegistryError: nothing to rotate, or the new epoch has retired keys already.
    """
    values = {"state": "retired", "retired_at": now, "retired_reason": reason}
    labels = [keys.c[label] for label in KeyLabels._fields]
    # One statement, so that what is retired and what is issued are the same keys.
    retiring = filtered(update(keys), wanted._replace(state="active")).values(values)
    retired = connection.execute(retiring.returning(keys.c.id, *labels, keys.c.config)).all()
    if not retired:
        raise RegistryError("no active key is there to rotate; check master, model and epoch")
    new = [renewed(KeyLabels(*row[1:-1]), row[-1]) for row in sorted(retired)]
    known = known_keys(connection, [key.key_id for key in new])
    if any(row["state"] == "retired" for row in known.values()):
        raise RegistryError(
            f"keys of the epoch {new[0].labels.epoch!r} were retired already; rotate to a new one"
        )
    fresh = [key for key in new if key.key_id not in known]
    moved = known_keys(connection, _other_cohorts(connection, fresh))
    there = {tuple(row[name] for name in _SAME_ACCOUNT) for row in moved.values()}
    fresh = [key for key in fresh if key.same_account not in there]
    _insert(connection, fresh, now)
    return Rotated(len(fresh), len(retired))
