"""Whether a bundle is as it was signed: the envelope to the byte, and every file of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detect.evidence.checks import Check, Outcome
from detect.evidence.envelope import ENVELOPE_NAME, check_signature, open_envelope
from detect.evidence.folder import Digest, block_bytes, digest_file, list_files, open_inside
from detect.evidence.signing_keys import raw_public
from detect.evidence.statement import Statement, read_statement
from watermark.errors import EvidenceError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["check_files", "check_signer", "short_signer", "signed_statement"]

_MOST_BYTES: Final = 64 << 20
_SHOWN: Final = 5


def signed_statement(folder: Path) -> Statement:
    """Read a bundle's envelope and verify its signature.

    Args:
        folder: the bundle.

    Returns:
        The statement; that it is signed by somebody to be trusted is another check.

    Raises:
        EvidenceError: a byte of the envelope is not as it was signed.
    """
    with open_inside(folder, ENVELOPE_NAME) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise EvidenceError(f"{ENVELOPE_NAME} has more than {_MOST_BYTES:,} bytes")
    opened = open_envelope(content)
    statement = read_statement(opened.payload)
    check_signature(opened, statement.signer_key)
    return statement


def short_signer(public: str) -> str:
    """Return the name of a signer for people: the beginning of the public key."""
    return f"ed25519:{public[:16]}"


def check_signer(statement: Statement, named: Sequence[Ed25519PublicKey]) -> Check:
    """Compare who signed with whom the verifier trusts.

    Args:
        statement: of the bundle, its signature verified.
        named: public keys that the verifier named; none if he named nobody.

    Returns:
        The check.
    """
    who = short_signer(statement.signer)
    if statement.signer in {raw_public(key).hex() for key in named}:
        return Check("signer", Outcome.PASSED, f"{who}, named by you", f"signature by {who}")
    if named:
        return Check(
            "signer",
            Outcome.FAILED,
            f"the signature is valid, but {who} signed, who is none of the {len(named)} that you "
            "named",
        )
    return Check(
        "signer",
        Outcome.NOT_DONE,
        f"{who} signed; whether that is somebody to be trusted is not known: name signers with "
        "--signer PUB",
        f"signature by {who} (nobody was named)",
    )


def check_files(folder: Path, statement: Statement) -> Check:
    """Compare every file with the statement.

    Args:
        folder: the bundle.
        statement: of the bundle, its signature verified.

    Returns:
        The check; it names files that are changed (and where), missing or extra.
    """
    try:
        listing = list_files(folder)
    except EvidenceError as error:
        return Check("files", Outcome.FAILED, str(error))
    there = set(listing.files) - {ENVELOPE_NAME}
    wrong = [f"{name} is not part of the bundle" for name in (*listing.strange, *listing.empty)]
    wrong += [f"{name} is missing" for name in sorted(statement.files.keys() - there)]
    wrong += [f"{name} is not part of the bundle" for name in sorted(there - set(statement.files))]
    for name in sorted(there & set(statement.files)):
        wrong += _changes(folder, name, statement.files[name])
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return Check("files", Outcome.FAILED, "; ".join(wrong[:_SHOWN]) + more)
    n = len(there) + 1
    return Check("files", Outcome.PASSED, f"{n} files, each as it was signed", f"{n} files")


def _changes(folder: Path, name: str, signed: Digest) -> Iterator[str]:
    block = block_bytes(signed.size)
    try:
        with open_inside(folder, name) as file:
            size = os.fstat(file.fileno()).st_size
            # Of a file that has grown without end, no more than tells where.
            found = digest_file(file, block, most=signed.size)._replace(size=size)
    except EvidenceError as error:
        yield str(error)
        return
    if (found.size, found.sha256) == (signed.size, signed.sha256):
        return
    yield f"{name} was changed{_place(found, signed, block)}"


def _place(found: Digest, signed: Digest, block: int) -> str:
    pairs = zip(found.blocks, signed.blocks, strict=False)
    changed = [i for i, (a, b) in enumerate(pairs) if a != b]
    if found.size != signed.size:
        least = changed[0] if changed else min(len(found.blocks), len(signed.blocks))
        start = min(least * block, signed.size)
        return f" from byte {start:,} on ({found.size - signed.size:+,} bytes)"
    if not changed:
        return ""
    end = min((changed[-1] + 1) * block, found.size) - 1
    return f" within bytes {changed[0] * block:,} to {end:,}"
