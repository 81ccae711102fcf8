"""How much was served under each key: sums that are written in batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from sqlalchemy import Connection, case, select
from sqlalchemy.dialects import postgresql, sqlite

from watermark.errors import RegistryError
from watermark.registry.records import Exchanges
from watermark.registry.tables import counters, keys

__all__ = ["Tally", "add_counts"]

_CHUNK: Final = 5000


def add_counts(connection: Connection, counts: Mapping[str, Exchanges], now: str) -> None:
    """Add to the sums of keys.

    Args:
        connection: to the registry, in a transaction.
        counts: what came in addition, by key id.
        now: the time, as text.

    Raises:
        RegistryError: a key id that was not issued; nothing is counted then.
    """
    rows = [
        {"key_id": key_id, **count.checked()._asdict(), "first_at": now, "last_at": now}
        # Sorted, so that two writers never wait for each other in a ring.
        for key_id, count in sorted(counts.items())
    ]
    if not rows:
        return
    if unknown := set(counts) - _known(connection, list(counts)):
        raise RegistryError(
            f"{len(unknown)} key ids were never issued, for example "
            f"{min(unknown)[:60]!a}; nothing was counted"
        )
    connection.execute(_adding(connection), rows)


def _known(connection: Connection, key_ids: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(key_ids), _CHUNK):
        chunk = key_ids[start : start + _CHUNK]
        known.update(connection.scalars(select(keys.c.key_id).where(keys.c.key_id.in_(chunk))))
    return known


def _adding(connection: Connection) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new: Any = dialect.insert(counters)
    later = case(
        (counters.c.last_at > new.excluded.last_at, counters.c.last_at),
        else_=new.excluded.last_at,
    )
    return new.on_conflict_do_update(
        index_elements=["key_id"],
        set_={
            "n_exchanges": counters.c.n_exchanges + new.excluded.n_exchanges,
            "n_tokens": counters.c.n_tokens + new.excluded.n_tokens,
            "last_at": later,
        },
    )


@final
class Tally:
    """Adds up exchanges in memory and hands the sums on: a write for each would be too dear.

    It takes a few hundred bytes a key. The caller says when to flush, once a minute say: what was
    not handed on when the process ends is not counted.
    """

    def __init__(self, write: Callable[[Mapping[str, Exchanges]], None]) -> None:
        self._write = write
        self._exchanges: dict[str, int] = {}
        self._tokens: dict[str, int] = {}

    def add(self, key_id: str, n_tokens: int) -> None:
        """Count one exchange.

        Args:
            key_id: of the key that it was served under.
            n_tokens: tokens in the answer.
        """
        self._exchanges[key_id] = self._exchanges.get(key_id, 0) + 1
        self._tokens[key_id] = self._tokens.get(key_id, 0) + n_tokens

    def flush(self) -> None:
        """Write the sums and begin anew; if that fails, they are kept."""
        counts = {
            key_id: Exchanges(n, self._tokens[key_id]) for key_id, n in self._exchanges.items()
        }
        self._write(counts)
        self._exchanges.clear()
        self._tokens.clear()
