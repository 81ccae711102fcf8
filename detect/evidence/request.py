"""What a verifier has and asks: the bundle, and whatever was revealed to him."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

from detect.evidence.signing_keys import raw_public
from watermark.commitments.commitment import Opening

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["VerifyRequest"]


@final
@dataclass(frozen=True)
class VerifyRequest:
    """What the verifier has.

    Attributes:
        folder: the bundle.
        key_place: the revealed key, absolute; None if it was not revealed.
        opening: the commitment's opening, or None.
        signers: public keys that he trusts.
        tsa_certificates: PEM of the time-stamping authority, or None.
        stamp: an authority's answer over the bundle's envelope, or None.
        head: the commitment log's head as it was published, SHA-256 as hex digits with or without
            "sha256:"; None if he does not know it.
        given: places of inputs that the bundle does not hold, by name.
    """

    folder: Path
    key_place: str | None = None
    opening: Opening | None = None
    signers: tuple[Ed25519PublicKey, ...] = ()
    tsa_certificates: bytes | None = None
    stamp: bytes | None = None
    head: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write it for another process: holds the opening, of the key the place alone."""
        return json.dumps(
            {
                "folder": str(self.folder),
                "key_place": self.key_place,
                "opening": None if self.opening is None else self.opening.to_dict(),
                "signers": [raw_public(key).hex() for key in self.signers],
                "tsa_certificates": _text(self.tsa_certificates),
                "stamp": _text(self.stamp),
                "head": self.head,
                "given": dict(self.given),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        fields = json.loads(text)
        opening = fields["opening"]
        return cls(
            folder=Path(fields["folder"]),
            key_place=fields["key_place"],
            opening=None if opening is None else Opening.from_dict(opening),
            signers=tuple(
                Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in fields["signers"]
            ),
            tsa_certificates=_bytes(fields["tsa_certificates"]),
            stamp=_bytes(fields["stamp"]),
            head=fields["head"],
            given=fields["given"],
        )


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
