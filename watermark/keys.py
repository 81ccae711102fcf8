"""Secrets: 256-bit keys, derivation by labels, public key ids; and the keys of other engines.

A provider holds one master secret. Every key in use is derived from it by HKDF-SHA256 (RFC 5869)
under labels (model, epoch, cohort, account, purpose), so that one file is all there is to guard.
Engines with marks of their own have keys of their own: a few integers. A secret is never part of a
repr, a pickle, a log line, an argument list or an error.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from typing import Final, NoReturn, Self, TypeAlias, final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from watermark.errors import ConfigError

__all__ = ["LABELS", "SALT_BYTES", "SECRET_BYTES", "EngineKey", "Key", "SecretKey"]

SECRET_BYTES: Final = 32
LABELS: Final = ("model", "epoch", "cohort", "account", "purpose")
SALT_BYTES: Final = 16


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

    @property
    def secret(self) -> bytes:
        """The secret itself, 32 bytes: for the key file only."""
        return self._secret

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


@final
class EngineKey:
    """The key of another system's mark: its integers. Shows only a public `key_id`.

    Such keys are short (64 bits, 32, or an example's 15485863), so that anything computed from one
    alone would give it away to whoever tries all of them. The key id is therefore salted, and the
    salt is kept with the secret.
    """

    __slots__ = ("_integers", "_key_id", "_salt")

    def __init__(self, integers: Sequence[int], salt: bytes | None = None) -> None:
        if not integers or min(integers) < 0 or max(integers) >= 1 << 64:
            raise ConfigError(
                "an engine's key is one or more integers from 0 to 2^64 - 1; a negative one is "
                "written as what the engine makes of it (heirmark keys import --help)"
            )
        self._integers = tuple(int(i) for i in integers)
        self._salt = secrets.token_bytes(SALT_BYTES) if salt is None else bytes(salt)
        if len(self._salt) != SALT_BYTES:
            raise ConfigError(f"the salt of a key id has {SALT_BYTES} bytes, got {len(self._salt)}")
        message = b"".join(i.to_bytes(8, "little") for i in self._integers)
        self._key_id = "hme1-" + hmac.digest(self._salt, message, "sha256")[:10].hex()

    @property
    def key_id(self) -> str:
        """The public handle: 80 bits of a salted hash."""
        return self._key_id

    @property
    def integers(self) -> tuple[int, ...]:
        """The secret."""
        return self._integers

    @property
    def salt(self) -> bytes:
        """What keeps the key id from being guessed; as secret as the key."""
        return self._salt

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EngineKey):
            return NotImplemented
        return self._integers == other._integers

    def __hash__(self) -> int:
        # Equal keys may have different salts.
        return hash(self._integers)

    def __repr__(self) -> str:
        return f"EngineKey({self._key_id})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an EngineKey is not pickled; pass its key file instead")


Key: TypeAlias = SecretKey | EngineKey
