"""Keys that sign evidence: Ed25519, PEM files (PKCS #8 and SubjectPublicKeyInfo)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from watermark.errors import KeyFileError
from watermark.storage.private_files import read_private, write_private

__all__ = ["load_public_key", "load_signing_key", "public_path", "raw_public", "save_signing_key"]

_MOST_BYTES: Final = 1 << 14


def public_path(path: Path) -> Path:
    """Return where the public half of a signing key stands: PATH.pub."""
    return path.with_name(path.name + ".pub")


def raw_public(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """Return the 32 bytes of a public key."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def save_signing_key(key: Ed25519PrivateKey, path: Path) -> None:
    """Write a new signing key, and its public half beside it.

    Args:
        key: the key.
        path: a file that does not exist yet (mode 0600); PATH.pub is for everybody.

    Raises:
        KeyFileError: one of both exists, or the folder cannot be written.
    """
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if public_path(path).exists():
        raise _exists(public_path(path))
    write_private(path, private.decode("ascii"), what="signing key")
    _write_public(public_path(path), public)


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read a signing key.

    Args:
        path: file made by `save_signing_key`, or any Ed25519 key in PEM without password.

    Returns:
        The key.

    Raises:
        KeyFileError: missing, readable by others, or not such a key. Never quotes the content.
    """
    missing = f"make one with: heirmark keys signing {path}"
    text = read_private(path, what="signing key", missing=missing)
    try:
        key = load_pem_private_key(text.encode("utf-8"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} is not an Ed25519 private key in PEM without password; {missing}"
        )
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read the public half of a signing key.

    Args:
        path: a PATH.pub.

    Returns:
        The key.

    Raises:
        KeyFileError: missing, or not such a key.
    """
    try:
        key = load_pem_public_key(_read_public(path))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(
            f"{path} is not an Ed25519 public key in PEM; give the file that ends in .pub"
        )
    return key


def _write_public(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None


def _read_public(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path}: {error.strerror}") from None


def _exists(path: Path) -> KeyFileError:
    return KeyFileError(
        f"{path} exists already; a key file is never overwritten. Choose another name"
    )
