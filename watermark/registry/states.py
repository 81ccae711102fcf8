"""Taking keys out of service. Their records stay: what they marked is still found."""

from __future__ import annotations

from sqlalchemy import Connection, update

from watermark.errors import RegistryError
from watermark.registry.listing import filtered
from watermark.registry.records import KeyFilter
from watermark.registry.tables import keys

__all__ = ["retire_keys", "revoke_keys"]


def retire_keys(connection: Connection, wanted: KeyFilter, now: str, reason: str) -> int:
    """Retire the active keys that a filter means.

    Args:
        connection: to the registry, in a transaction.
        wanted: the filter.
        now: the time, as text.
        reason: why.

    Returns:
        How many there were.

    Raises:
        RegistryError: none is active, or the filter means all keys.
    """
    values = {"state": "retired", "retired_at": now, "retired_reason": reason}
    query = update(keys).where(keys.c.state == "active").values(values)
    return _changed(connection, query, wanted, "active")


def revoke_keys(connection: Connection, wanted: KeyFilter, now: str, reason: str) -> int:
    """Revoke keys that others may know, in service or not.

    Args:
        connection: to the registry, in a transaction.
        wanted: the filter.
        now: the time, as text.
        reason: why.

    Returns:
        How many there were.

    Raises:
        RegistryError: none is left to revoke, or the filter means all keys.
    """
    values = {"state": "revoked", "revoked_at": now, "revoked_reason": reason}
    query = update(keys).where(keys.c.state != "revoked").values(values)
    return _changed(connection, query, wanted, "active or retired")


def _changed(connection: Connection, query: object, wanted: KeyFilter, state: str) -> int:
    if not any(wanted.checked()._replace(state=None)):
        raise RegistryError("say which keys are meant: by key id or by at least one label")
    n_changed: int = connection.execute(filtered(query, wanted)).rowcount
    if not n_changed:
        raise RegistryError(f"no {state} key is like that; nothing was changed")
    return n_changed
