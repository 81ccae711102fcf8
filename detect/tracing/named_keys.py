"""The keys that a suspect model is searched for: cohorts and epochs, each with a name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from watermark.errors import ConfigError
from watermark.files import read_text_file
from watermark.key_files import load_key, load_secret
from watermark.keys import Key
from watermark.labels import KeyLabels

__all__ = ["NamedKey", "checked", "derived_keys", "keys_of_folder", "labels_of_file"]

_SUFFIX = ".key.json"


class NamedKey(NamedTuple):
    """A key and what it is called.

    Attributes:
        name: by which results call it.
        labels: under which it was derived; None for a key from a file.
        key: the key.
    """

    name: str
    labels: KeyLabels | None
    key: Key


def keys_of_folder(folder: Path) -> list[NamedKey]:
    """Read every *.key.json of a folder and of those below it, by name.

    Raises:
        ConfigError: no key there.
        KeyFileError: a key file that is damaged or readable by others.
    """
    paths = sorted(folder.rglob(f"*{_SUFFIX}"))
    if not paths:
        raise ConfigError(f"the folder {folder} holds no *{_SUFFIX}")
    return [
        NamedKey(str(path.relative_to(folder)).removesuffix(_SUFFIX), None, load_key(path))
        for path in paths
    ]


def labels_of_file(path: Path) -> Iterator[KeyLabels]:
    """Read labels, one JSON object a line.

    Raises:
        ConfigError: a line that holds no labels; names it.
    """
    for number, line in enumerate(read_text_file(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield KeyLabels.from_dict(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None


def derived_keys(master: Path, labels: Iterable[KeyLabels]) -> list[NamedKey]:
    """Derive the keys of labels from a master's key file.

    Raises:
        KeyFileError: not a key file of ours.
    """
    secret = load_secret(master)
    return [NamedKey(each.name, each, each.key_from(secret)) for each in labels]


def checked(keys: Sequence[NamedKey]) -> tuple[NamedKey, ...]:
    """Refuse keys that cannot be told apart.

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
