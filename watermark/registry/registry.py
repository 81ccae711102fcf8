"""The registry as its users see it: one class over the tables, one transaction a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from sqlalchemy import Engine, func, select

from watermark.commitments.commitment import canonical_json
from watermark.commitments.log import Entry
from watermark.config import WatermarkConfig
from watermark.errors import RegistryError
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import ListedKey
from watermark.keys import SecretKey
from watermark.registry import issuing, listing, states
from watermark.registry.counting import add_counts
from watermark.registry.database import at_once, make_engine, name_of, reading, writing
from watermark.registry.issuing import NewKey, insert_config, insert_key, insert_names, insert_new
from watermark.registry.names import check_labels, check_reason
from watermark.registry.records import (
    ALL_KEYS,
    Commitment,
    Exchanges,
    Imported,
    IssuedKey,
    KeyFilter,
    Rotated,
    utc_text,
)
from watermark.registry.tables import NAMED, commitments, configs, keys
from watermark.registry.upgrading import prepare

__all__ = ["Registry"]


@final
class Registry:
    """Models, epochs, cohorts, accounts, and the keys that were issued to them. No secrets.

    A call is one transaction: what it returned from is written, and of one that failed nothing is.
    It can be used from several threads; a process that forks opens its own. In an SQLite file,
    `issue` and `count` survive the end of the process, however sudden, and everything else a
    power cut too.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Rows that are never deleted: known once, they need not be written again.
        self._names: set[tuple[str, str]] = set()
        self._configs: set[str] = set()

    @classmethod
    def open(cls, place: str | Path, *, create: bool = False) -> Self:
        """Open a registry; one of an older version is brought to this one.

        Args:
            place: an SQLite file, or a URL: sqlite:///FILE, postgresql://USER@HOST/DATABASE.
            create: whether an absent file or an empty database becomes a registry.

        Returns:
            The registry; close it, or use it in a `with`.

        Raises:
            RegistryError: nothing there, not a registry, a newer version's, or out of reach.
            MissingExtraError: the database's driver is not installed.
        """
        engine = make_engine(place, create=create)
        try:
            prepare(engine, create=create)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Registry({name_of(self._engine)})"

    def issue(
        self, labels: KeyLabels, master: SecretKey, config: WatermarkConfig, *, move: bool = False
    ) -> SecretKey:
        """Issue a key. One that was issued before under the same config stays as it is.

        Args:
            labels: the key's labels.
            master: the secret that it is derived from; only its key id is written.
            config: what it is served with.
            move: whether an account that has an active key in another cohort of the same epoch is
                moved: that key is retired.

        Returns:
            The derived key, to serve under.

        Raises:
            RegistryError: labels that cannot be taken; a key that was issued under another config,
                is retired or revoked; or an account in another cohort, without `move`.
        """
        check_labels(labels)
        derived = labels.key_from(master)
        key = NewKey(derived.key_id, master.key_id, labels, config.fingerprint)
        now = _now()
        if not self._issue_at_once(key, now):
            with writing(self._engine, onto_disk=False) as connection:
                insert_config(connection, key.config, canonical_json(config.to_dict()))
                insert_names(connection, [labels._replace(account="")], now)
                if not insert_key(connection, key, now):
                    issuing.issue_keys(connection, [key], now, move=move)
            self._remember(key)
        return derived

    def _issue_at_once(self, key: NewKey, now: str) -> bool:
        """Issue a key whose names and config are known to be there; returns whether it was."""
        if key.config not in self._configs or not self._named(key.labels) <= self._names:
            return False
        if self._engine.dialect.name == "postgresql":
            with at_once(self._engine) as connection:
                return insert_key(connection, key, now)
        with writing(self._engine, onto_disk=False) as connection:
            return insert_key(connection, key, now)

    def _remember(self, key: NewKey) -> None:
        self._configs.add(key.config)
        self._names |= self._named(key.labels)

    @staticmethod
    def _named(labels: KeyLabels) -> set[tuple[str, str]]:
        # Accounts are many, and rarely come twice.
        return {(label, getattr(labels, label)) for label in NAMED if label != "account"}

    def import_keys(
        self,
        labels: Iterable[KeyLabels],
        master: SecretKey,
        config: WatermarkConfig,
        *,
        move: bool = False,
    ) -> Imported:
        """Issue many keys: all of them, or none.

        Args:
            labels: the keys' labels.
            master: the secret that they are derived from.
            config: what they are served with.
            move: see `issue`.

        Returns:
            How many were new and how many not.

        Raises:
            RegistryError: no labels, or as `issue`; names the first that cannot be taken.
        """
        master_id, fingerprint = master.key_id, config.fingerprint
        new = []
        for one in labels:
            check_labels(one)
            new.append(NewKey(one.key_from(master).key_id, master_id, one, fingerprint))
        if not new:
            raise RegistryError("there are no accounts to import")
        with writing(self._engine) as connection:
            insert_config(connection, fingerprint, canonical_json(config.to_dict()))
            return issuing.issue_keys(connection, new, _now(), move=move)

    def rotate(
        self,
        master: SecretKey,
        *,
        model: str,
        old_epoch: str,
        new_epoch: str,
        config: WatermarkConfig | None = None,
    ) -> Rotated:
        """Begin a new epoch: issue its keys for all that are active in the old one, retire those.

        Args:
            master: the secret that both epochs' keys are derived from.
            model: the model's label; "" for keys without one.
            old_epoch: the epoch that ends.
            new_epoch: the epoch that begins.
            config: what the new keys are served with.  Defaults to each old key's.

        Returns:
            How many keys were issued and retired.

        Raises:
            RegistryError: no active key of that master, model and epoch; the same epoch; or one
                that was used before.
        """
        if old_epoch == new_epoch:
            raise RegistryError(f"the new epoch is the old one, {old_epoch!r}")
        check_labels(KeyLabels(model=model, epoch=new_epoch))
        wanted = KeyFilter(model=model, epoch=old_epoch, master_key_id=master.key_id)

        def renewed(labels: KeyLabels, fingerprint: str) -> NewKey:
            labels = labels._replace(epoch=new_epoch)
            used = config.fingerprint if config else fingerprint
            return NewKey(labels.key_from(master).key_id, master.key_id, labels, used)

        with writing(self._engine) as connection:
            if config:
                insert_config(connection, config.fingerprint, canonical_json(config.to_dict()))
            reason = f"rotated to {new_epoch}"
            return issuing.rotate_keys(connection, wanted, renewed, _now(), reason)

    def retire(self, wanted: KeyFilter, reason: str) -> int:
        """Take active keys out of service; see `watermark.registry.states.retire_keys`."""
        with writing(self._engine) as connection:
            return states.retire_keys(connection, wanted, _now(), check_reason(reason))

    def revoke(self, wanted: KeyFilter, reason: str) -> int:
        """Mark keys as known to others; see `watermark.registry.states.revoke_keys`."""
        with writing(self._engine) as connection:
            return states.revoke_keys(connection, wanted, _now(), check_reason(reason))

    def key(self, key_id: str) -> IssuedKey:
        """Look one key up; see `watermark.registry.listing.find_key`."""
        with at_once(self._engine) as connection:
            return listing.find_key(connection, key_id)

    def keys_of(self, labels: KeyLabels) -> list[IssuedKey]:
        """Look up the keys with exactly these labels: one under each master, oldest first."""
        with at_once(self._engine) as connection:
            return listing.find_keys(connection, labels)

    def keys(self, wanted: KeyFilter = ALL_KEYS) -> Iterator[IssuedKey]:
        """Read the keys that a filter means; see `watermark.registry.listing.iterate_keys`."""
        with reading(self._engine) as connection:
            yield from listing.iterate_keys(connection, wanted)

    def labels(
        self,
        *,
        model: str | None = None,
        epoch: str | None = None,
        cohort: str | None = None,
        account: str | None = None,
        purpose: str | None = None,
        master_key_id: str | None = None,
        state: str | None = None,
    ) -> list[KeyLabels]:
        """List labels of all states, since old keys are still in old texts.

        A search takes `listed`, which says what was revoked: such a key accuses nobody.

        Args:
            model: this model's only; for this and the others see `KeyFilter`.
            epoch: this epoch's only.
            cohort: this cohort's only.
            account: this account's only.
            purpose: for this purpose only.
            master_key_id: of keys that were derived from this secret.
            state: in this state only.

        Returns:
            The labels in the order of issue, each once.

        Raises:
            RegistryError: unknown state.
        """
        wanted = KeyFilter(model, epoch, cohort, account, purpose, master_key_id, None, state)
        with reading(self._engine) as connection:
            return listing.find_labels(connection, wanted)

    def listed(self, wanted: KeyFilter = ALL_KEYS) -> list[ListedKey]:
        """List labels and revocations; see `watermark.registry.listing.list_keys`."""
        with reading(self._engine) as connection:
            return listing.list_keys(connection, wanted)

    def names(self, label: str) -> list[str]:
        """List the models, epochs, cohorts or accounts that keys were issued for.

        Args:
            label: "model", "epoch", "cohort" or "account".

        Returns:
            The names, in the order of their first issue.
        """
        table = NAMED[label]
        query = (
            select(table.c.name).where(table.c.name != "").order_by(*table.c["added_at", "name"])
        )
        with reading(self._engine) as connection:
            return list(connection.scalars(query))

    def n_keys(self) -> dict[str, int]:
        """Count the keys by state."""
        query = select(keys.c.state, func.count()).group_by(keys.c.state)
        with reading(self._engine) as connection:
            return {row[0]: row[1] for row in sorted(connection.execute(query))}

    def config(self, fingerprint: str) -> WatermarkConfig:
        """Read back what keys are served with.

        Args:
            fingerprint: of the config.

        Returns:
            The config.

        Raises:
            RegistryError: no key was issued with it.
        """
        query = select(configs.c.config).where(configs.c.fingerprint == fingerprint)
        with reading(self._engine) as connection:
            text = connection.execute(query).scalar()
        if text is None:
            raise RegistryError(f"the registry knows no config {fingerprint[:80]!a}")
        return WatermarkConfig.from_dict(json.loads(text))

    def count(self, counts: Mapping[str, Exchanges]) -> None:
        """Add exchanges to the sums of keys; see `watermark.registry.counting.Tally`.

        Args:
            counts: what came in addition, by key id.

        Raises:
            RegistryError: a key id that was not issued here; nothing is counted then.
        """
        with writing(self._engine, onto_disk=False) as connection:
            add_counts(connection, counts, _now())

    def record_commitment(self, entry: Entry) -> None:
        """Note where a key was committed; it need not have been issued here.

        Args:
            entry: the log's entry.

        Raises:
            RegistryError: another commitment to the same key is noted.
        """
        row: dict[str, Any] = {
            "key_id": entry.key_id,
            "commitment": entry.commitment,
            "sequence": entry.sequence,
            "committed_at": utc_text(entry.time),
        }
        with writing(self._engine) as connection:
            connection.execute(insert_new(connection, commitments), row)
            query = select(commitments).where(commitments.c.key_id == entry.key_id)
            if dict(connection.execute(query).mappings().one()) != row:
                raise RegistryError(
                    f"another commitment to the key {entry.key_id} is noted already"
                )

    def commitment(self, key_id: str) -> Commitment | None:
        """Look up where a key was committed, issued here or not; None if nowhere."""
        columns = commitments.c["commitment", "sequence", "committed_at"]
        query = select(*columns).where(commitments.c.key_id == key_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        return Commitment(row[0], row[1], datetime.fromisoformat(row[2])) if row else None


def _now() -> str:
    return utc_text(datetime.now(UTC))
