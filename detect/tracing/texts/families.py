"""The keys that a text is searched for, as kernels take them.

Their integers are as secret as the keys: a family shows names and key ids only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from detect.tracing.named_keys import NamedKey
from watermark.contexts import group_rows
from watermark.errors import ConfigError
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import Revocation
from watermark.word_sources import WordSource

__all__ = ["Account", "KeyFamily", "family_of"]


class Account(NamedTuple):
    """What may be shown of one key of a family.

    Attributes:
        name: its labels joined, or its file's name.
        key_id: its public handle.
        labels: under which it was derived; none for a key file.
        revocation: of a key that others may know; none also where nothing is known of it.
    """

    name: str
    key_id: str
    labels: KeyLabels | None = None
    revocation: Revocation | None = None


@final
class KeyFamily:
    """Keys that were declared before the search: who is not among them cannot be named.

    Attributes:
        accounts: one for each key.
        is_revoked: bool, shape (K,): whether others may know the key.
    """

    __slots__ = ("_integers", "accounts", "is_revoked")

    def __init__(self, accounts: Sequence[Account], integers: NDArray[np.uint64]) -> None:
        self.accounts = tuple(accounts)
        self.is_revoked = np.array([a.revocation is not None for a in self.accounts], np.bool_)
        self._integers = integers
        if not self.accounts:
            raise ConfigError("a family of keys needs at least one; the list of accounts is empty")
        _check_distinct(self.accounts, integers)

    def __len__(self) -> int:
        return len(self.accounts)

    @property
    def integers(self) -> NDArray[np.uint64]:
        """Uint64, shape (K, n_key_integers). As secret as the keys: for kernels only."""
        return self._integers

    def __repr__(self) -> str:
        return f"KeyFamily({len(self)} keys, hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a KeyFamily is not pickled, since it holds secrets; derive it again")


def _check_distinct(accounts: tuple[Account, ...], integers: NDArray[np.uint64]) -> None:
    # The quick looks first: a search of 25,000 keys takes a few hundredths of a second.
    names = [account.name for account in accounts]
    if len(set(names)) < len(names):
        twice = [name for name, n in Counter(names).items() if n > 1]
        raise ConfigError(
            f"{len(twice)} accounts are listed more than once, the first is {twice[0]!r}; each key "
            "must stand there once"
        )
    if len(np.unique(integers[:, 0])) == len(integers):
        return
    first, group = group_rows(integers.view(np.int64))
    if len(first) < len(integers):
        again = int(np.flatnonzero(first[group] != np.arange(len(integers)))[0])
        other = accounts[int(first[group[again]])]
        raise ConfigError(
            f"{accounts[again].name!r} and {other.name!r} have the same key; no text can tell them "
            "apart. Leave one out"
        )


def family_of(keys: Sequence[NamedKey], source: WordSource) -> KeyFamily:
    """Make a family of keys.

    Args:
        keys: its keys.
        source: what makes the words.

    Returns:
        The family, in the same order.

    Raises:
        ConfigError: no key, or some twice.
        FingerprintError: a key of another engine's mark.
    """
    accounts = [
        Account(named.name, named.key.key_id, named.labels, named.revocation) for named in keys
    ]
    none = np.empty((0, source.n_key_integers), np.uint64)
    rows = [source.key_of(named.key) for named in keys]
    return KeyFamily(accounts, np.stack(rows) if rows else none)
