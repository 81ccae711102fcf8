"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NAMED = {"model": "models", "epoch": "epochs", "cohort": "cohorts", "account": "accounts"}


def upgrade() -> None:
    """Make the tables, and the row of each name table that stands for "no such label"."""
    for table in _NAMED.values():
        names = op.create_table(
            table,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("added_at", sa.Text, nullable=False),
        )
        op.bulk_insert(names, [{"name": "", "added_at": ""}])
    op.create_table(
        "configs",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("config", sa.Text, nullable=False),
    )
    _make_keys()
    op.create_table(
        "counters",
        sa.Column("key_id", sa.Text, sa.ForeignKey("keys.key_id"), primary_key=True),
        sa.Column("n_exchanges", sa.BigInteger, nullable=False),
        sa.Column("n_tokens", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.Text, nullable=False),
        sa.Column("last_at", sa.Text, nullable=False),
    )
    op.create_table(
        "commitments",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("commitment", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("committed_at", sa.Text, nullable=False),
    )


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("master_key_id", sa.Text, nullable=False),
        *(
            sa.Column(label, sa.Text, sa.ForeignKey(f"{table}.name"), nullable=False)
            for label, table in _NAMED.items()
        ),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("config", sa.Text, sa.ForeignKey("configs.fingerprint"), nullable=False),
        sa.Column("issued_at", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("retired_at", sa.Text),
        sa.Column("retired_reason", sa.Text),
        sa.Column("revoked_at", sa.Text),
        sa.Column("revoked_reason", sa.Text),
        sa.UniqueConstraint("key_id", name="uq_keys_key_id"),
        sa.UniqueConstraint("master_key_id", *_NAMED, "purpose", name="uq_keys_labels"),
        sa.CheckConstraint("state IN ('active', 'retired', 'revoked')", name="ck_keys_state"),
    )
    one_active = sa.text("state = 'active' AND account <> ''")
    op.create_index(
        "uq_keys_active_account",
        "keys",
        ["master_key_id", "model", "epoch", "account", "purpose"],
        unique=True,
        sqlite_where=one_active,
        postgresql_where=one_active,
    )
    op.create_index("ix_keys_labels", "keys", ["account", "epoch", "model"])
