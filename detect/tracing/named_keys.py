"""The keys that could be named: read from a folder, or derived from one master secret by labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from watermark.errors import ConfigError
from watermark.keyring.key_files import load_key
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import ListedKey, Revocation
from watermark.keys import Key, SecretKey
from watermark.storage.files import read_text_file

__all__ = ["NamedKey", "checked", "derived_keys", "keys_of_folder", "read_labels"]

_JSONL: Final = (".jsonl", ".ndjson")
_ENDING: Final = ".key.json"


class NamedKey(NamedTuple):
    """A key and what it is called.

    Attributes:
        name: by which results call it: its labels joined, or its file's name.
        labels: under which it was derived; None for a key from a file.
        key: the key.
        revocation: of a key that others may know; None also where nothing is known of it.
    """

    name: str
    labels: KeyLabels | None
    key: Key
    revocation: Revocation | None = None


def keys_of_folder(folder: str | Path) -> list[NamedKey]:
    """Read every *.key.json of a folder and of those below it.

    Args:
        folder: holds the key files.

    Returns:
        The keys, by file name.

    Raises:
        ConfigError: no such folder, or no key in it.
        KeyFileError: a key file that is damaged or readable by others.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; --keys takes one with *{_ENDING} in it")
    paths = sorted(folder.rglob(f"*{_ENDING}"))
    if not paths:
        raise ConfigError(f"the folder {folder} holds no *{_ENDING}")
    return [
        NamedKey(str(path.relative_to(folder)).removesuffix(_ENDING), None, load_key(path))
        for path in paths
    ]


def derived_keys(master: SecretKey, listed: Iterable[KeyLabels | ListedKey]) -> list[NamedKey]:
    """Derive the keys of labels, 25,000 of our own marks in about a second.

    Args:
        master: the secret that they are derived from.
        listed: labels of each key, or what a list says of it.

    Returns:
        The keys, in the order of the labels.
    """
    return [
        NamedKey(key.labels.name, key.labels, key.labels.key_from(master), key.revocation)
        for key in (ListedKey(one) if isinstance(one, KeyLabels) else one for one in listed)
    ]


def read_labels(path: str | Path, common: KeyLabels) -> list[ListedKey]:
    """Read the labels of keys, and which were revoked.

    Args:
        path: JSONL with the labels of one key a line (`heirmark registry export`), or any other
            text with the name of one account a line; empty lines are skipped.
        common: labels of every line that does not say otherwise.

    Returns:
        The keys, in the order of the file.

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
        return [ListedKey(common._replace(account=account)) for _, account in lines]
    return [_listed(line, common, where) for where, line in lines]


def _listed(line: str, common: KeyLabels, where: str) -> ListedKey:
    try:
        return ListedKey.from_line(line, common)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def checked(keys: Sequence[NamedKey]) -> tuple[NamedKey, ...]:
    """Refuse keys that cannot be told apart.

    Args:
        keys: the keys.

    Returns:
        The same.

    Raises:
        ConfigError: two of one name, or one key twice: whatever one of them shows the other shows
            too.
    """
    by_name: dict[str, NamedKey] = {}
    by_key: dict[Key, NamedKey] = {}
    for named in keys:
        if named.name in by_name:
            raise ConfigError(f"two keys are called {named.name!r}; give each a name of its own")
        if named.key in by_key:
            raise ConfigError(
                f"{by_key[named.key].name} and {named.name} are the same key "
                f"({named.key.key_id}): no test could tell them apart. Give it once"
            )
        by_name[named.name] = by_key[named.key] = named
    return tuple(keys)
