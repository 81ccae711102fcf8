"""The registry's tables. The migrations make them; a test holds the two together.

Labels are kept as texts, "" for a label that a key does not have, as in `KeyLabels`: each name
table has a row "" for it, so that foreign keys and uniqueness need no exceptions. Times are ISO
8601 texts in UTC with microseconds, which sort, and read the same in every database.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = ["NAMED", "commitments", "configs", "counters", "keys", "metadata"]

metadata: Final = MetaData()


def _names(table: str) -> Table:
    return Table(
        table,
        metadata,
        Column("name", Text, primary_key=True),
        Column("added_at", Text, nullable=False),
    )


# By the label whose values they list.
NAMED: Final = {
    "model": _names("models"),
    "epoch": _names("epochs"),
    "cohort": _names("cohorts"),
    "account": _names("accounts"),
}

configs: Final = Table(
    "configs",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("config", Text, nullable=False),
)

keys: Final = Table(
    "keys",
    metadata,
    # Counts up in the order of issue, which lists keep. SQLite numbers by itself only "INTEGER".
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("key_id", Text, nullable=False),
    # Of the secret that the key was derived from: an account may have a key under each.
    Column("master_key_id", Text, nullable=False),
    *(
        Column(label, Text, ForeignKey(table.c.name), nullable=False)
        for label, table in NAMED.items()
    ),
    Column("purpose", Text, nullable=False),
    Column("config", Text, ForeignKey(configs.c.fingerprint), nullable=False),
    Column("issued_at", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("retired_at", Text),
    Column("retired_reason", Text),
    Column("revoked_at", Text),
    Column("revoked_reason", Text),
    UniqueConstraint("key_id", name="uq_keys_key_id"),
    UniqueConstraint("master_key_id", *NAMED, "purpose", name="uq_keys_labels"),
    CheckConstraint("state IN ('active', 'retired', 'revoked')", name="ck_keys_state"),
)

# Otherwise an account that changes its cohort would be served under two keys of one epoch.
Index(
    "uq_keys_active_account",
    keys.c.master_key_id, keys.c.model, keys.c.epoch, keys.c.account, keys.c.purpose,
    unique=True,
    sqlite_where=text("state = 'active' AND account <> ''"),
    postgresql_where=text("state = 'active' AND account <> ''"),
)  # fmt: skip
Index("ix_keys_labels", keys.c.account, keys.c.epoch, keys.c.model)

counters: Final = Table(
    "counters",
    metadata,
    Column("key_id", Text, ForeignKey(keys.c.key_id), primary_key=True),
    Column("n_exchanges", BigInteger, nullable=False),
    Column("n_tokens", BigInteger, nullable=False),
    Column("first_at", Text, nullable=False),
    Column("last_at", Text, nullable=False),
)

# Not only of issued keys: a master may be committed too.
commitments: Final = Table(
    "commitments",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("commitment", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("committed_at", Text, nullable=False),
)
