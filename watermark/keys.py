"""Secrets: 256-bit keys, derivation by labels, public key ids, and the key file.

A provider holds one master secret. Every key in use is derived from it by HKDF-SHA256 (RFC 5869)
under labels (model, epoch, cohort, account, purpose), so that one file is all there is to guard.
The secret is never part of a repr, a pickle, a log line, an argument list or an error.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Final, NoReturn, Self, final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from watermark.errors import ConfigError, KeyFileError

__all__ = ["LABELS", "SecretKey", "load_key", "save_key"]

SECRET_BYTES: Final = 32
LABELS: Final = ("model", "epoch", "cohort", "account", "purpose")
_FILE_FORMAT: Final = "heirmark-key-1"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@final
class SecretKey:
    """A 256-bit secret that shows only its public `key_id`.

    Copies share the secret (it is immutable); pickling is refused, since a pickle would carry it.
    """

    __slots__ = ("_key_id", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ConfigError(
                f"a secret key has {SECRET_BYTES} bytes, got {len(secret)}; "
                "make one with: heirmark keys new"
            )
        self._secret = bytes(secret)
        self._key_id = "hm1-" + self.subkey("key-id", 10).hex()

    @classmethod
    def generate(cls) -> Self:
        """Draw a fresh key from the operating system's random source."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @property
    def key_id(self) -> str:
        """The public handle: 80 bits derived one-way from the secret."""
        return self._key_id

    def subkey(self, purpose: str, n_bytes: int) -> bytes:
        """Derive raw key material for one internal purpose (not a label of `derive`).

        Args:
            purpose: what the bytes are for; different purposes give independent bytes.
            n_bytes: how many bytes, at most 255 * 32.

        Returns:
            HKDF-Expand(secret, info), RFC 5869 section 2.3: the secret is already uniform, so
            that the extract step has nothing to do.
        """
        return self._expand(b"subkey", [purpose], n_bytes)

    def derive(
        self,
        *,
        model: str = "",
        epoch: str = "",
        cohort: str = "",
        account: str = "",
        purpose: str = "",
    ) -> SecretKey:
        """Derive the key for one model, epoch, cohort, account and purpose.

        Args:
            model: model name as the provider knows it.
            epoch: key period, for example "2026-11".
            cohort: group of accounts.
            account: one account.
            purpose: anything else that must have a key of its own.

        Returns:
            A key that is independent of every key with other labels.

        Raises:
            ConfigError: all labels are empty (the result would only look derived).
        """
        labels = [model, epoch, cohort, account, purpose]
        if not any(labels):
            raise ConfigError(f"derive() needs at least one of {', '.join(LABELS)}; got none")
        return SecretKey(self._expand(b"derive", labels, SECRET_BYTES))

    def _expand(self, domain: bytes, labels: list[str], n_bytes: int) -> bytes:
        # Every label carries its length, so that ("ab", "c") and ("a", "bc") differ.
        parts = [domain, *(label.encode("utf-8") for label in labels)]
        info = b"heirmark-1" + b"".join(len(p).to_bytes(4, "little") + p for p in parts)
        return HKDFExpand(algorithm=SHA256(), length=n_bytes, info=info).derive(self._secret)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._key_id)

    def __repr__(self) -> str:
        return f"SecretKey({self._key_id})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a SecretKey is not pickled; pass its key file instead")


def save_key(key: SecretKey, path: str | Path) -> None:
    """Write a new key file that only its owner can read (mode 0600).

    Args:
        key: the key.
        path: a file that does not exist yet; an existing one is never overwritten.

    Raises:
        KeyFileError: the file exists, or the folder cannot be written.
    """
    payload = {
        "format": _FILE_FORMAT,
        "key_id": key.key_id,
        "secret": base64.b64encode(key._secret).decode("ascii"),
    }
    # Written whole beside its place and then linked into it: link() refuses to overwrite.
    temporary = Path(f"{path}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(json.dumps(payload, indent=2) + "\n")
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        raise KeyFileError(
            f"{path} exists already; a key file is never overwritten. Choose another name"
        ) from None
    except OSError as error:
        raise KeyFileError(f"cannot write the key file {path}: {error.strerror}") from None


def load_key(path: str | Path) -> SecretKey:
    """Read a key file.

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
        if payload["format"] != _FILE_FORMAT:
            raise ValueError
        key = SecretKey(base64.b64decode(payload["secret"], validate=True))
        expected_id = str(payload["key_id"])
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise KeyFileError(
            f"{path} is not an intact {_FILE_FORMAT} file; restore it from your backup, "
            "or make a new key with: heirmark keys new"
        ) from None
    if key.key_id != expected_id:
        raise KeyFileError(
            f"{path} is damaged: its secret belongs to {key.key_id!r}, not to the key id that it "
            "names; restore it from your backup"
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
