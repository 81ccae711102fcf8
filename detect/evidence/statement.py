"""The in-toto Statement (v1) of a bundle: every file with its SHA-256, and who signs.

Its predicate also holds the hashes of blocks, so that a change is not only found but located.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from detect.evidence.canonical import canonical_json, parse_canonical
from detect.evidence.folder import Digest
from detect.evidence.schemas import validate
from watermark.errors import EvidenceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["PREDICATE_TYPE", "Statement", "read_statement"]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:heirmark:evidence:v1"


@final
@dataclass(frozen=True)
class Statement:
    """What is signed.

    Attributes:
        files: digests by name.
        signer: the 32 bytes of the signer's Ed25519 public key, as hex digits. It only says who
            claims to have signed; whether that is somebody to be trusted the verifier must know.
    """

    files: Mapping[str, Digest]
    signer: str

    @property
    def signer_key(self) -> Ed25519PublicKey:
        """The public key that signed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.signer))

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        names = sorted(self.files)
        return canonical_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": n, "digest": {"sha256": self.files[n].sha256}} for n in names],
                "predicateType": PREDICATE_TYPE,
                "predicate": {
                    "signer": {"ed25519": self.signer},
                    "files": {
                        n: {"size": self.files[n].size, "blocks": "".join(self.files[n].blocks)}
                        for n in names
                    },
                },
            }
        )


def read_statement(payload: bytes) -> Statement:
    """Read a statement.

    Args:
        payload: an envelope's payload.

    Returns:
        The statement.

    Raises:
        EvidenceError: not one of ours to the byte.
    """
    parsed = parse_canonical(payload, "the signed statement")
    validate(parsed, "statement-1", "the signed statement")
    subjects = {s["name"]: s["digest"]["sha256"] for s in parsed["subject"]}
    described = parsed["predicate"]["files"]
    if set(subjects) != set(described):
        raise EvidenceError("the signed statement contradicts itself: subjects and files differ")
    files = {
        name: Digest(described[name]["size"], sha256, _cut(described[name]["blocks"]))
        for name, sha256 in subjects.items()
    }
    statement = Statement(files, parsed["predicate"]["signer"]["ed25519"])
    # Order of subjects, a subject named twice.
    if statement.to_bytes() != payload:
        raise EvidenceError("the signed statement is not one that heirmark writes")
    return statement


def _cut(blocks: str) -> tuple[str, ...]:
    return tuple(blocks[i : i + 16] for i in range(0, len(blocks), 16))
