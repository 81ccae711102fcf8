"""DSSE envelopes with one Ed25519 signature, by securesystemslib, in one canonical form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from detect.evidence.canonical import canonical_json, parse_canonical
from watermark.errors import EvidenceError
from watermark.extras import import_extra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["ENVELOPE_NAME", "PAYLOAD_TYPE", "Opened", "check_signature", "open_envelope", "seal"]

ENVELOPE_NAME: Final = "evidence.dsse.json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


class Opened(NamedTuple):
    """An envelope that was read, not yet verified.

    Attributes:
        payload: what is signed.
        envelope: securesystemslib's.
    """

    payload: bytes
    envelope: Any


def seal(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign a payload.

    Args:
        payload: what is signed.
        key: the signer's.

    Returns:
        The envelope's bytes.
    """
    dsse, signer = import_extra("securesystemslib.dsse", "evidence"), _signer()
    envelope = dsse.Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer.CryptoSigner(key))
    return canonical_json(envelope.to_dict())


def open_envelope(content: bytes) -> Opened:
    """Read an envelope.

    Args:
        content: its bytes.

    Returns:
        The payload, to be trusted after `check_signature` only.

    Raises:
        EvidenceError: not one of ours to the byte.
    """
    dsse = import_extra("securesystemslib.dsse", "evidence")
    parsed = parse_canonical(content, ENVELOPE_NAME)
    try:
        envelope = dsse.Envelope.from_dict(parsed)
        again = canonical_json(envelope.to_dict())
    except Exception:
        # The library raises what Python raises for the wrong shape: KeyError, binascii.Error ...
        raise EvidenceError(f"{ENVELOPE_NAME} is not a DSSE envelope; it is damaged") from None
    # Base64 may hide bits that decode to nothing.
    if again != content or envelope.payload_type != PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise EvidenceError(
            f"{ENVELOPE_NAME} is not the envelope that heirmark writes ({PAYLOAD_TYPE}, one "
            "signature): it was changed"
        )
    return Opened(envelope.payload, envelope)


def check_signature(opened: Opened, public: Ed25519PublicKey) -> None:
    """Verify the one signature.

    Args:
        opened: the envelope.
        public: whose signature it must be.

    Raises:
        EvidenceError: it is not.
    """
    exceptions, signer = import_extra("securesystemslib.exceptions", "evidence"), _signer()
    try:
        opened.envelope.verify([signer.SSlibKey.from_crypto(public)], 1)
    except (exceptions.VerificationError, ValueError):
        raise EvidenceError(
            f"the signature in {ENVELOPE_NAME} does not fit: it or what it signs was changed"
        ) from None


def _signer() -> Any:
    return import_extra("securesystemslib.signer", "evidence")
