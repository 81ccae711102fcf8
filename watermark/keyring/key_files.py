"""Key files: JSON that only its owner can read (mode 0600), never overwritten, never quoted."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any, Final

from watermark.errors import KeyFileError
from watermark.keys import SECRET_BYTES, EngineKey, Key, SecretKey
from watermark.storage.private_files import read_private, write_private

__all__ = [
    "load_key",
    "load_secret",
    "looks_like_secret",
    "parse_key",
    "require_secret",
    "save_key",
]

_FORMAT: Final = "heirmark-key-1"
_ENGINE_FORMAT: Final = "heirmark-engine-key-1"
_HEX: Final = re.compile(rf"[0-9A-Fa-f]{{{2 * SECRET_BYTES}}}")
# 32 bytes in either alphabet of base64, with or without padding.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{43}=?")


def _payload(key: Key) -> dict[str, Any]:
    if isinstance(key, EngineKey):
        # JSON numbers beyond 2^53 are not safe in every reader.
        integers = [str(i) for i in key.integers]
        salt = base64.b64encode(key.salt).decode("ascii")
        return {
            "format": _ENGINE_FORMAT, "key_id": key.key_id, "integers": integers, "salt": salt,
        }  # fmt: skip
    secret = base64.b64encode(key.secret).decode("ascii")
    return {"format": _FORMAT, "key_id": key.key_id, "secret": secret}


def _parsed(payload: Any) -> Key:
    if payload["format"] == _ENGINE_FORMAT:
        salt = base64.b64decode(payload["salt"], validate=True)
        return EngineKey([int(i) for i in payload["integers"]], salt)
    if payload["format"] != _FORMAT:
        raise ValueError
    return SecretKey(base64.b64decode(payload["secret"], validate=True))


def save_key(key: Key, path: str | Path) -> None:
    """Write a new key file that only its owner can read (mode 0600).

    Args:
        key: the key.
        path: a file that does not exist yet; an existing one is never overwritten.

    Raises:
        KeyFileError: the file exists, or the folder cannot be written.
    """
    write_private(path, json.dumps(_payload(key), indent=2) + "\n", what="key file")


def looks_like_secret(text: str) -> bool:
    """Say whether a place could be the secret itself: 32 bytes in base64 or hex, or a key file."""
    text = text.strip()
    return bool(text.startswith("{") or _HEX.fullmatch(text) or _BASE64.fullmatch(text))


def load_key(path: str | Path) -> Key:
    """Read a key file, of ours or of another engine's key.

    Args:
        path: file made by `save_key`.

    Returns:
        The key.

    Raises:
        KeyFileError: missing, readable by group or others, or damaged. The message never quotes
            the content.
    """
    if looks_like_secret(str(path)) and not os.path.lexists(path):
        raise KeyFileError(
            "no key file is there, and its path is not quoted since it looks like a secret itself; "
            "put the secret into a variable, and give env:VARIABLE"
        )
    text = read_private(path, what="key file", missing=f"make one with: heirmark keys new {path}")
    return parse_key(text, str(path))


def parse_key(text: str, name: str) -> Key:
    """Read the text of a key file.

    Args:
        text: the content.
        name: what errors call the place that it came from.

    Returns:
        The key.

    Raises:
        KeyFileError: damaged. The message never quotes the content.
    """
    try:
        payload = json.loads(text)
        key, expected_id = _parsed(payload), str(payload["key_id"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise KeyFileError(
            f"{name} is not an intact {_FORMAT} or {_ENGINE_FORMAT} file; restore it from your "
            "backup, or make a new key with: heirmark keys new"
        ) from None
    if key.key_id != expected_id:
        raise KeyFileError(
            f"{name} is damaged: its secret belongs to {key.key_id!r}, not to the key id that it "
            "names; restore it from your backup"
        )
    return key


def load_secret(path: str | Path) -> SecretKey:
    """Read a key file that must be one of ours: only from such keys others are derived.

    Args:
        path: file made by `save_key`.

    Returns:
        The key.

    Raises:
        KeyFileError: as `load_key`, or another engine's key.
    """
    return require_secret(load_key(path), str(path))


def require_secret(key: Key, name: str) -> SecretKey:
    """Refuse another engine's key.

    Args:
        key: a key.
        name: what errors call the place that it came from.

    Returns:
        The same key.

    Raises:
        KeyFileError: another engine's key.
    """
    if isinstance(key, EngineKey):
        raise KeyFileError(
            f"{name} holds another engine's key; this needs a key of heirmark's, made with: "
            "heirmark keys new"
        )
    return key
