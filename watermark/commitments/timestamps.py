"""Time stamps by RFC 3161: a third party's signature that a log's head existed at a time.

The stamp is over SHA-256 of a log's last line, which fixes every line before it. It proves "not
later than"; that nothing was committed earlier needs no proof. The stamp of a line stands beside
the log as LOG.SEQUENCE.tsr, the response as the authority sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from watermark.commitments.log import Entry
from watermark.errors import CommitmentError, MissingExtraError
from watermark.storage.files import atomic_binary_writer

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

__all__ = [
    "Stamp",
    "ask_authority",
    "find_stamped",
    "stamps_beside",
    "store_stamp",
    "timestamp_request",
    "verify_digest",
    "verify_stamp",
    "verify_stamps",
]

_SECONDS: Final = 30.0
_SHA256: Final = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")


class Stamp(NamedTuple):
    """A verified time stamp.

    Attributes:
        sequence: the last entry that it covers; all before are covered too.
        time: when the authority signed, UTC.
        serial_number: of the stamp at the authority.
    """

    sequence: int
    time: datetime
    serial_number: int


def timestamp_request(head: Entry, *, with_certificates: bool = True) -> bytes:
    """Make the request (application/timestamp-query) that any authority answers.

    Args:
        head: the log's last entry.
        with_certificates: whether the answer shall hold the authority's certificates.

    Returns:
        The request in DER, with a nonce. Of the log it holds the hash only.
    """
    client = _client()
    builder = client.TimestampRequestBuilder(cert_req=with_certificates).data(head.line)
    return bytes(builder.hash_algorithm(client.HashAlgorithm.SHA256).build().as_bytes())


def find_stamped(response: bytes, entries: Sequence[Entry]) -> Entry:
    """Find the entry whose hash a time stamp is over. Does not verify the signature.

    Args:
        response: the authority's answer in DER (application/timestamp-reply).
        entries: of the log.

    Returns:
        The entry that was the log's head.

    Raises:
        CommitmentError: not a granted time stamp, or over none of the log's lines.
    """
    digest = "sha256:" + _imprint(_decoded(response)).hex()
    for entry in entries:
        if entry.digest == digest:
            return entry
    raise CommitmentError(
        f"the time stamp is over {digest}, which is the hash of no line of this log: it belongs to "
        "another log, or the log was changed since"
    )


def verify_stamp(response: bytes, entry: Entry, certificates: bytes) -> Stamp:
    """Verify a time stamp over a log's entry.

    Args:
        response: the authority's answer in DER.
        entry: the entry that was the log's head.
        certificates: PEM: the authority's root, which is trusted, and whatever of the chain down
            to its own certificate is not in the answer. They count as of the stamp's own time.

    Returns:
        What the stamp shows.

    Raises:
        CommitmentError: signature, certificate or hash do not hold.
    """
    named = f"entry {entry.sequence}"
    time, serial_number = verify_digest(response, entry.digest, named, certificates)
    return Stamp(entry.sequence, time, serial_number)


def verify_digest(
    response: bytes, digest: str, named: str, certificates: bytes
) -> tuple[datetime, int]:
    """Verify a time stamp over anything that has a SHA-256.

    Args:
        response: the authority's answer in DER.
        digest: "sha256:" and hex digits.
        named: what has that hash, for errors.
        certificates: see `verify_stamp`.

    Returns:
        When the authority signed, UTC, and the stamp's serial number there.

    Raises:
        CommitmentError: signature, certificate or hash do not hold.
    """
    client = _client()
    decoded = _decoded(response)
    imprint = _imprint(decoded)
    if "sha256:" + imprint.hex() != digest:
        raise CommitmentError(
            f"the time stamp is over sha256:{imprint.hex()}, and {named} has the hash {digest}"
        )
    known = _certificates(certificates)
    own = None if decoded.signed_data.certificates else _authoritys_own(known)
    verifier = client.VerifierBuilder(roots=known, tsa_certificate=own).build()
    try:
        verifier.verify(decoded, imprint)
    except (client.VerificationError, ValueError) as error:
        raise CommitmentError(
            f"the time stamp of {named} is not signed by an authority that the certificate given "
            f"vouches for: {_reason(error)}"
        ) from None
    info = decoded.tst_info
    return info.gen_time.astimezone(UTC), info.serial_number


def verify_stamps(
    log: str | Path, entries: Sequence[Entry], certificates: bytes
) -> tuple[Stamp, ...]:
    """Verify all time stamps beside a log.

    Args:
        log: the log's file.
        entries: of the log.
        certificates: see `verify_stamp`.

    Returns:
        What they show, in the order of the log.

    Raises:
        CommitmentError: one does not hold, or is over a line that the log no longer has.
    """
    stamps = []
    for sequence, response in stamps_beside(log):
        if sequence >= len(entries):
            raise CommitmentError(
                f"{log}.{sequence}.tsr is over entry {sequence}, and the log has only "
                f"{len(entries)} entries: its end was cut off"
            )
        stamps.append(verify_stamp(response, entries[sequence], certificates))
    return tuple(stamps)


def ask_authority(url: str, request: bytes) -> bytes:
    """Send a request to a time-stamping authority: the one thing here that uses the network.

    Args:
        url: where it listens; https:// or http:// (the answer is signed).
        request: of `timestamp_request`.

    Returns:
        Its answer, not yet verified.

    Raises:
        CommitmentError: it cannot be reached, or answers with anything else.
        MissingExtraError: httpx is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError(error.name or "httpx", "api") from None
    headers = {"Content-Type": "application/timestamp-query"}
    try:
        answer = httpx.post(url, content=request, headers=headers, timeout=_SECONDS)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise CommitmentError(f"the authority gave no time stamp: {_one_line(error)}") from None
    return answer.content


def store_stamp(log: str | Path, entry: Entry, response: bytes) -> Path:
    """Put a time stamp beside its log; see `stamps_beside`.

    Args:
        log: the log's file.
        entry: what it is over.
        response: the authority's answer in DER.

    Returns:
        The file.

    Raises:
        CommitmentError: the entry has a time stamp, which by its earlier time is worth more.
        DocumentError: the place cannot be written.
    """
    path = Path(f"{log}.{entry.sequence}.tsr")
    if path.exists():
        raise CommitmentError(f"entry {entry.sequence} has a time stamp already: {path}")
    with atomic_binary_writer(path) as file:
        file.write(response)
    return path


def stamps_beside(log: str | Path) -> Iterator[tuple[int, bytes]]:
    """Read the time stamps beside a log.

    Args:
        log: the log's file.

    Yields:
        Sequence number of the entry and the authority's answer, in that order.

    Raises:
        CommitmentError: one cannot be read.
    """
    log = Path(log)
    pattern = re.compile(re.escape(log.name) + r"\.(\d{1,18})\.tsr")
    names = (pattern.fullmatch(path.name) for path in log.parent.iterdir())
    for sequence, name in sorted((int(found[1]), found[0]) for found in names if found):
        try:
            yield sequence, (log.parent / name).read_bytes()
        except OSError as error:
            raise CommitmentError(f"cannot read {name}: {error.strerror}") from None


def _client() -> ModuleType:
    try:
        import rfc3161_client
    except ImportError as error:
        raise MissingExtraError(error.name or "rfc3161-client", "evidence") from None
    return rfc3161_client


def _decoded(response: bytes) -> TimeStampResponse:
    try:
        decoded: TimeStampResponse = _client().decode_timestamp_response(response)
        status = decoded.status
    except ValueError:
        raise CommitmentError(
            "this is no intact answer of a time-stamping authority (strict DER of an "
            "application/timestamp-reply). Some authorities send their certificates out of order: "
            "request a stamp without them (--no-certificates)"
        ) from None
    if status != 0:
        raise CommitmentError(
            f"the authority granted no time stamp (status {status}): "
            f"{'; '.join(map(_one_line, decoded.status_string)) or 'it gave no reason'}"
        )
    return decoded


def _imprint(decoded: TimeStampResponse) -> bytes:
    try:
        imprint = decoded.tst_info.message_imprint
    except ValueError:
        raise CommitmentError("the authority's answer holds no time stamp") from None
    if imprint.hash_algorithm != _SHA256:
        raise CommitmentError("the time stamp is not over SHA-256; request one over SHA-256")
    return imprint.message


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CommitmentError("expected the authority's certificates in PEM") from None


def _authoritys_own(certificates: list[x509.Certificate]) -> x509.Certificate:
    for certificate in certificates:
        try:
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (x509.ExtensionNotFound, ValueError):
            continue
        if ExtendedKeyUsageOID.TIME_STAMPING in usage:
            return certificate
    raise CommitmentError(
        "the time stamp comes without certificates; add the authority's own, for time stamping, to "
        "the PEM file of its root"
    )


def _reason(error: Exception) -> str:
    """Find OpenSSL's own words within a dump of its error stack."""
    found = re.search(r'Verify error: ([^"]+)"', str(error)) or re.search(
        r'reason: "([^"]+)"', str(error)
    )
    return found[1] if found else _one_line(error)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
