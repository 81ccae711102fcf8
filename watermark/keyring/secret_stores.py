"""Where secrets come from: a key file, an environment variable, or a store of one's own.

    master.key.json            a key file, as `heirmark keys new` writes it
    file:master.key.json       the same
    env:HEIRMARK_MASTER        a variable that holds 32 bytes in base64, or a key file's text

A vault or a key management service is a class with the one method of `SecretStore`: every
function that needs a key takes the key, not its place. Such a store must hand the secret out
(HKDF runs here); transit engines, which only compute on a secret, cannot serve.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, final

from watermark.errors import KeyFileError
from watermark.keyring.key_files import load_key, looks_like_secret, parse_key, require_secret
from watermark.keys import SECRET_BYTES, Key, SecretKey

__all__ = ["EnvironmentStore", "KeyFileStore", "SecretStore", "read_key", "read_secret"]

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+]*):(.*)", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretStore(Protocol):
    """One place that one key is read from."""

    def load(self) -> Key:
        """Read the key.

        Returns:
            The key.

        Raises:
            KeyFileError: missing or damaged. The message never quotes the content.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class KeyFileStore:
    """A key file; see `watermark.keyring.key_files`.

    Attributes:
        path: the file.
    """

    path: Path

    def load(self) -> Key:
        """Read the key; see `SecretStore.load`."""
        return load_key(self.path)


@final
@dataclass(frozen=True, slots=True)
class EnvironmentStore:
    """An environment variable, which the system shows to the same user's processes only.

    Attributes:
        name: of the variable.
    """

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            # Not quoted: it may be the secret itself, given in place of the name.
            raise KeyFileError(
                "env: is followed by the name of an environment variable, as env:HEIRMARK_MASTER"
            )

    def load(self) -> Key:
        """Read the key; see `SecretStore.load`."""
        text = os.environ.get(self.name, "").strip()
        if not text:
            shown = "that was named" if looks_like_secret(self.name) else self.name
            raise KeyFileError(f"the environment variable {shown} is not set or empty")
        if text.startswith("{"):
            return parse_key(text, f"the environment variable {self.name}")
        try:
            secret = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise KeyFileError(
                f"the environment variable {self.name} does not hold {SECRET_BYTES} bytes in "
                "base64, or the text of a key file"
            )
        return SecretKey(secret)


def _store(place: str | Path) -> SecretStore:
    text = str(place)
    found = _SCHEME.fullmatch(text)
    scheme, rest = (found[1], found[2]) if found else ("", text)
    if scheme == "env":
        return EnvironmentStore(rest)
    if scheme == "file":
        return KeyFileStore(Path(rest))
    # A file may have a colon in its name.
    if scheme and not Path(text).exists():
        raise KeyFileError(
            f"there is no kind of secret store {scheme!r}; expected a key file, file:PATH or "
            "env:VARIABLE"
        )
    return KeyFileStore(Path(text))


def read_key(place: str | Path) -> Key:
    """Read a key, of ours or of another engine's mark.

    Args:
        place: a key file's path, "file:PATH" or "env:VARIABLE".

    Returns:
        The key.

    Raises:
        KeyFileError: no such place, or what is there is no key.
    """
    return _store(place).load()


def read_secret(place: str | Path) -> SecretKey:
    """Read a key that must be one of ours: only from such keys others are derived.

    Args:
        place: as for `read_key`.

    Returns:
        The key.

    Raises:
        KeyFileError: as `read_key`, or another engine's key.
    """
    return require_secret(read_key(place), str(place))
