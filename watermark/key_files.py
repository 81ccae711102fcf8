"""Key files: JSON that only its owner can read (mode 0600), never overwritten, never quoted."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from watermark.errors import KeyFileError
from watermark.keys import EngineKey, Key, SecretKey

__all__ = ["load_key", "load_secret", "save_key"]

_FORMAT: Final = "heirmark-key-1"
_ENGINE_FORMAT: Final = "heirmark-engine-key-1"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


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
    # Written whole beside its place and then linked into it: link() refuses to overwrite.
    temporary = Path(f"{path}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(json.dumps(_payload(key), indent=2) + "\n")
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        raise KeyFileError(
            f"{path} exists already; a key file is never overwritten. Choose another name"
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot write the key file {path}: {error.strerror}") from None


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
    text = _read_private(Path(path))
    try:
        payload = json.loads(text)
        key, expected_id = _parsed(payload), str(payload["key_id"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise KeyFileError(
            f"{path} is not an intact {_FORMAT} or {_ENGINE_FORMAT} file; restore it from your "
            "backup, or make a new key with: heirmark keys new"
        ) from None
    if key.key_id != expected_id:
        raise KeyFileError(
            f"{path} is damaged: its secret belongs to {key.key_id!r}, not to the key id that it "
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
    key = load_key(path)
    if isinstance(key, EngineKey):
        raise KeyFileError(
            f"{path} holds another engine's key; this needs a key of heirmark's, made with: "
            "heirmark keys new"
        )
    return key


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # The mode of the opened file itself, so that a swap in between changes nothing.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise KeyFileError(
                    f"{path} can be read by others (mode {mode:04o}, expected 0600); "
                    f"run: chmod 600 {path}"
                )
            return file.read(1 << 16).decode("ascii", errors="replace")
    except FileNotFoundError:
        raise KeyFileError(
            f"no key file at {path}; make one with: heirmark keys new {path}"
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from None
