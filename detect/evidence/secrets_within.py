"""Files that hold a secret, which a bundle would publish: found anywhere within them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from watermark.errors import EvidenceError
from watermark.keys import EngineKey, Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Secrets"]

_FORMATS: Final = (b'"heirmark-key-', b'"heirmark-engine-key-', b'"heirmark-opening-')
_PEM: Final = b"PRIVATE KEY-----"
_CHUNK: Final = 1 << 20
# Integers of fewer bits stand in any text.
_LEAST_TOLD: Final = 1 << 40


@final
@dataclass(frozen=True)
class Secrets:
    """What no file of a bundle may hold.

    Attributes:
        spellings: of the secrets in hand, as bytes of a file.
    """

    spellings: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, key: Key, signer: Ed25519PrivateKey) -> Secrets:
        """Know the key under test, and the signer's."""
        return cls((*_of_key(key), *_spellings(signer.private_bytes_raw())))

    def refuse(self, path: Path, *, ours: bool = False) -> None:
        """Refuse a file that holds a secret, as a key file in a folder of texts.

        Args:
            path: the file; all of it is read.
            ours: whether it is no input: a text that a suspect wrote may hold a stranger's PEM.

        Raises:
            EvidenceError: it holds one, which is not quoted; or it cannot be read.
        """
        try:
            found = self._is_in(path, () if ours else (_PEM,))
        except OSError as error:
            raise EvidenceError(f"cannot read {path}: {error.strerror}") from None
        if found:
            # Raised where no local value holds the secret: some tools print these.
            raise EvidenceError(
                f"{path} holds a secret, which a bundle would publish: move it away, or keep "
                "hashes alone with --no-copy"
            )

    def _is_in(self, path: Path, more: tuple[bytes, ...]) -> bool:
        marks = (*_FORMATS, *self.spellings, *more)
        overlap = max(map(len, marks)) - 1
        window = b""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                window = window[-overlap:] + chunk
                if any(mark in window for mark in marks):
                    return True
        return False


def _of_key(key: Key) -> Iterator[bytes]:
    if not isinstance(key, EngineKey):
        yield from _spellings(key.secret)
        return
    yield from _spellings(key.salt)
    yield from (str(i).encode("ascii") for i in key.integers if i >= _LEAST_TOLD)


def _spellings(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode("ascii")
    yield secret.hex().upper().encode("ascii")
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
