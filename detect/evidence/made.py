"""When a bundle was made: what its signer says, and beside it what others' time stamps show.

A stamp in a bundle is older than the bundle, which could not have held it before. A stamp over the
bundle's envelope is younger. What lies between is the signer's word.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from detect.evidence.checks import Check, Outcome
from detect.evidence.envelope import ENVELOPE_NAME
from detect.evidence.folder import open_inside
from detect.evidence.request import VerifyRequest
from watermark.errors import WatermarkError

__all__ = ["check_made"]

_NAME: Final = "made"
_SHOWN: Final = "%Y-%m-%d %H:%M:%S UTC"
_DAY: Final = "%Y-%m-%d"


def check_made(request: VerifyRequest, created: str, newest: datetime | None = None) -> Check:
    """Say when a bundle was made, and by whose word.

    Args:
        request: the bundle, its envelope verified, and perhaps a stamp over it.
        created: by the signer's word, `bundle.json`.
        newest: the newest time stamp in the bundle that was verified, or None.

    Returns:
        The check: passed if a stamp shows something, not done if none does, failed if a stamp
        contradicts the signer. Its part of the verdict's line never names the signer's time alone.
    """
    try:
        said = datetime.fromisoformat(created)
        latest = _stamped(request)
    except ValueError as error:
        # CommitmentError too.
        reason = str(error) if isinstance(error, WatermarkError) else f"{created} is no time"
        return Check(_NAME, Outcome.FAILED, reason)
    word = f"{said:{_SHOWN}} by the signer's word"
    if newest is not None and newest.replace(microsecond=0) > said:
        detail = f"{word}, yet it holds a time stamp of {newest:{_SHOWN}}"
        return Check(_NAME, Outcome.FAILED, detail)
    if latest is not None and latest < said:
        detail = f"{word}, yet it was stamped at {latest:{_SHOWN}}"
        return Check(_NAME, Outcome.FAILED, detail)
    if said > datetime.now(UTC):
        word += " (later than this machine's clock)"
    earliest = f"not before {newest:{_SHOWN}}" if newest else "nothing shows since when"
    until = f"by {latest:{_SHOWN}}" if latest else "nothing shows by when"
    detail = f"{word}, which is no proof; by time stamps: {earliest}, {until}"
    if newest is None and latest is None:
        return Check(_NAME, Outcome.NOT_DONE, f"{word}, which nothing proves")
    days = [f"not before {newest:{_DAY}}"] if newest else []
    days += [f"by {latest:{_DAY}}"] if latest else []
    shown = f"made {' and '.join(days)} by time stamp ({said:{_DAY}} by the signer's word)"
    return Check(_NAME, Outcome.PASSED, detail, shown)


def _stamped(request: VerifyRequest) -> datetime | None:
    from watermark.commitments.timestamps import verify_digest

    if request.stamp is None or request.tsa_certificates is None:
        return None
    with open_inside(request.folder, ENVELOPE_NAME) as file:
        digest = "sha256:" + hashlib.sha256(file.read()).hexdigest()
    return verify_digest(request.stamp, digest, ENVELOPE_NAME, request.tsa_certificates)[0]
