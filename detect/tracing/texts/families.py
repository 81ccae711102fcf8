"""The keys that could be named: derived from one master secret by labels, or read from a folder.

The derived integers are as secret as the keys: a family shows names and key ids only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from watermark.contexts import group_rows
from watermark.errors import ConfigError
from watermark.files import read_text_file
from watermark.key_files import load_key
from watermark.keys import Key, SecretKey
from watermark.labels import KeyLabels
from watermark.word_sources import WordSource

__all__ = ["Account", "KeyFamily", "family_from_folder", "family_from_labels", "read_labels"]

_JSONL: Final = (".jsonl", ".ndjson")
_ENDING: Final = ".key.json"


class Account(NamedTuple):
    """What may be shown of one key of a family.

    Attributes:
        name: its labels joined, or its file's name.
        key_id: its public handle.
        labels: under which it was derived; none for a key file.
    """

    name: str
    key_id: str
    labels: KeyLabels | None = None


@final
class KeyFamily:
    """Keys that were declared before the search: who is not among them cannot be named.

    Attributes:
        accounts: one for each key.
    """

    __slots__ = ("_integers", "accounts")

    def __init__(self, accounts: Sequence[Account], integers: NDArray[np.uint64]) -> None:
        self.accounts = tuple(accounts)
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
    counts = Counter(account.name for account in accounts)
    if twice := [name for name, n in counts.items() if n > 1]:
        raise ConfigError(
            f"{len(twice)} accounts are listed more than once, the first is {twice[0]!r}; each key "
            "must stand there once"
        )
    first, group = group_rows(integers.view(np.int64))
    if len(first) < len(integers):
        again = int(np.flatnonzero(first[group] != np.arange(len(integers)))[0])
        other = accounts[int(first[group[again]])]
        raise ConfigError(
            f"{accounts[again].name!r} and {other.name!r} have the same key; no text can tell them "
            "apart. Leave one out"
        )


def family_from_labels(
    labels: Sequence[KeyLabels], master: SecretKey, source: WordSource
) -> KeyFamily:
    """Derive a family, 25,000 keys in about a second.

    Args:
        labels: of each key.
        master: the secret that they are derived from.
        source: what makes the words.

    Returns:
        The family, in the order of the labels.

    Raises:
        ConfigError: no labels, or some twice.
    """
    keys = [one.key_from(master) for one in labels]
    accounts = [Account(one.name, key.key_id, one) for one, key in zip(labels, keys, strict=True)]
    return KeyFamily(accounts, _integers(keys, source))


def family_from_folder(folder: str | Path, source: WordSource) -> KeyFamily:
    """Read the family of all *.key.json of a folder and the folders below.

    Args:
        folder: holds the key files.
        source: what makes the words.

    Returns:
        The family, by file name.

    Raises:
        ConfigError: no key file, or one key twice.
        KeyFileError: a file that is damaged or readable by others.
        FingerprintError: a key of another engine's mark.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; --keys takes one with *{_ENDING} in it")
    paths = sorted(folder.rglob(f"*{_ENDING}"))
    if not paths:
        raise ConfigError(f"the folder {folder} holds no *{_ENDING}")
    keys = [load_key(path) for path in paths]
    names = [str(path.relative_to(folder)).removesuffix(_ENDING) for path in paths]
    accounts = [Account(name, key.key_id) for name, key in zip(names, keys, strict=True)]
    return KeyFamily(accounts, _integers(keys, source))


def _integers(keys: Iterable[Key], source: WordSource) -> NDArray[np.uint64]:
    rows = [source.key_of(key) for key in keys]
    none = np.empty((0, source.n_key_integers), np.uint64)
    return np.stack(rows) if rows else none


def read_labels(path: str | Path, common: KeyLabels) -> list[KeyLabels]:
    """Read the labels of a family.

    Args:
        path: JSONL with the labels of one key a line (`heirmark registry export`), or any other
            text with the name of one account a line; empty lines are skipped.
        common: labels of every line that does not say otherwise.

    Returns:
        The labels, in the order of the file.

    Raises:
        ConfigError: a line that holds no labels; names it.
        DocumentError: the file cannot be read.
    """
    # Not splitlines(): a name within JSON may hold U+2028 and its like.
    lines = [
        (f"{path}, line {number}", line.strip())
        for number, line in enumerate(read_text_file(path).split("\n"), 1)
        if line.strip()
    ]
    is_json = str(path).lower().endswith(_JSONL) or (lines and lines[0][1].startswith("{"))
    if not is_json:
        return [common._replace(account=account) for _, account in lines]
    return [common._replace(**_labels_of(line, where).to_dict()) for where, line in lines]


def _labels_of(line: str, where: str) -> KeyLabels:
    try:
        return KeyLabels.from_dict(json.loads(line))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: not JSON; expected the labels of one key a line") from None
