"""Verify a bundle that somebody else made: nothing in it is trusted, and none of it is run.

What runs is our own code, on a command that `detect.evidence.recordable` allows, in a folder of its
own, on copies of the files that were just checked, without the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from detect.evidence.bundled import Bundled, read_bundled
from detect.evidence.checks import Check, Outcome, Verification
from detect.evidence.commitment import (
    LOG_NAME,
    find_entry,
    stamped_by,
    verify_bundled_stamps,
)
from detect.evidence.envelope import ENVELOPE_NAME
from detect.evidence.integrity import check_files, check_signer, signed_statement
from detect.evidence.made import check_made
from detect.evidence.planned import Examined, check_opening
from detect.evidence.recomputing import recompute
from detect.evidence.request import VerifyRequest
from detect.evidence.revealed import revealed_key
from detect.evidence.words import check_words
from watermark.errors import EvidenceError, WatermarkError
from watermark.keyring.secret_stores import read_key

if TYPE_CHECKING:
    from datetime import datetime

    from watermark.commitments.log import Entry

__all__ = ["VerifyRequest", "verify_bundle", "verify_steps"]

_DAY: Final = "%Y-%m-%d"
_SECOND: Final = "%Y-%m-%dT%H:%M:%SZ"
_STAMP: Final = re.compile(re.escape(LOG_NAME) + r"\.[0-9]{1,18}\.tsr")


def verify_bundle(request: VerifyRequest) -> Verification:
    """Verify a bundle in this process; see `detect.evidence.apart` for one of its own.

    Args:
        request: the bundle, and what the verifier has.

    Returns:
        Every check. Checks that rest on a failed one are not made.

    Raises:
        WatermarkError: what the verifier gave cannot be read; never for the bundle's sake.
    """
    *_, found = verify_steps(request)
    return found


def verify_steps(request: VerifyRequest) -> Iterator[Verification]:
    """Verify a bundle; see `verify_bundle`.

    Args:
        request: the bundle, and what the verifier has.

    Yields:
        What was found so far, one check more each time; the last is the answer.

    Raises:
        WatermarkError: as `verify_bundle`.
    """
    found = Verification("", ())
    try:
        statement = signed_statement(request.folder)
    except EvidenceError as error:
        detail = str(error)
        named = detail if ENVELOPE_NAME in detail else f"{ENVELOPE_NAME}: {detail}"
        yield found.plus(Check("signature", Outcome.FAILED, named))
        return
    found = found.plus(
        Check("signature", Outcome.PASSED, "Ed25519, over every file"),
        check_signer(statement, request.signers),
    )
    yield found
    found = found.plus(check_files(request.folder, statement))
    yield found
    if found.checks[-1].outcome is Outcome.FAILED:
        return
    try:
        bundled = read_bundled(request.folder, statement)
        finding = bundled.finding
    except WatermarkError as error:
        yield found.plus(Check("schema", Outcome.FAILED, str(error)))
        return
    passed = Check("schema", Outcome.PASSED, "result and manifest fit schema and each other")
    found = Verification(finding, (*found.checks, passed))
    yield found
    found = found.plus(check_words(bundled))
    yield found
    with revealed_key(request.key_place) as place:
        asked = replace(request, key_place=place)
        for check in chain(
            _commitment_checks(asked, bundled), recompute(bundled, place, request.given)
        ):
            found = found.plus(check)
            yield found


def _commitment_checks(request: VerifyRequest, bundled: Bundled) -> Iterator[Check]:
    said = bundled.manifest.commitment
    if said is None:
        detail = "the bundle rests on no commitment"
        # An authority's certificate may be given for the bundle's own time stamp.
        tsa = request.tsa_certificates if request.stamp is None else None
        asked = (request.opening, tsa, request.head)
        outcome = Outcome.NOT_DONE if asked == (None, None, None) else Outcome.FAILED
        yield Check("commitment", outcome, detail, "no commitment")
        yield check_made(request, bundled.manifest.created)
        return
    try:
        log = bundled.read(LOG_NAME)
        entry, entries = find_entry(log, bundled.manifest.key_id, said)
    except WatermarkError as error:
        yield Check("commitment", Outcome.FAILED, str(error))
        return
    day = f"{entry.time:{_DAY}}"
    if f"{entry.time:{_SECOND}}" > bundled.manifest.created:
        yield Check("commitment", Outcome.FAILED, f"it is of {day}, after the bundle was made")
        return
    stamped, newest = _stamp_check(request, bundled, entry, entries)
    # A log's times are its writer's word, who may be the signer; a stamp's are not.
    words = f"commitment of {day} by the signer's word"
    yield Check(
        "commitment",
        Outcome.PASSED,
        f"entry {entry.sequence} of {len(entries)}, by the log of {day}; the chain holds; its head "
        f"is {entries[-1].digest}",
        stamped.said or words,
    )
    yield _head_check(request.head, entry, entries)
    yield _opening_check(request, bundled, entry)
    yield replace(stamped, said="")
    yield check_made(request, bundled.manifest.created, newest)


def _head_check(head: str | None, entry: Entry, entries: tuple[Entry, ...]) -> Check:
    if head is None:
        detail = "compare the log's head with the one that was published: --head SHA256"
        return Check("head", Outcome.NOT_DONE, detail)
    # The published one may be older or newer than the commitment; only one that covers it counts.
    wanted = f"sha256:{head.removeprefix('sha256:')}"
    place = next((one.sequence for one in entries if one.digest == wanted), None)
    if place is None:
        detail = f"no line of the log has the hash {wanted}: it is not the log that was published"
        return Check("head", Outcome.FAILED, detail)
    if place < entry.sequence:
        detail = f"it is of entry {place}, before the commitment, which it does not cover"
        return Check("head", Outcome.FAILED, detail)
    return Check("head", Outcome.PASSED, f"as you gave it, of entry {place}", "head as given")


def _opening_check(request: VerifyRequest, bundled: Bundled, entry: Entry) -> Check:
    if request.opening is None or request.key_place is None:
        return Check(
            "opening",
            Outcome.NOT_DONE,
            "needs the revealed key and opening: --key FILE --opening FILE",
            "not opened",
        )
    manifest = bundled.manifest
    tested = Examined(
        manifest.command,
        manifest.options,
        manifest.config_fingerprint,
        bundled.input_hashes,
        bundled.result,
    )
    key = read_key(request.key_place)
    try:
        fixed = check_opening(entry, key, request.opening, tested)
    except WatermarkError as error:
        # CommitmentError; ConfigError of a config that this version cannot read.
        return Check("opening", Outcome.FAILED, str(error))
    others = f"; for people to compare: {', '.join(fixed.others)}" if fixed.others else ""
    compared = ", ".join(("key", "config", *fixed.compared))
    left = f" ({len(fixed.others)} of its plan for people to compare)" if fixed.others else ""
    return Check("opening", Outcome.PASSED, f"{compared} as committed{others}", f"opened{left}")


def _stamp_check(
    request: VerifyRequest, bundled: Bundled, entry: Entry, entries: tuple[Entry, ...]
) -> tuple[Check, datetime | None]:
    """Return the check, and the newest time in the bundle: it was not made before."""
    names = [name for name in bundled.names if _STAMP.fullmatch(name)]
    if request.tsa_certificates is None:
        detail = f"{len(names)} in the bundle; to check them give --tsa-certificate PEM"
        return Check("time stamps", Outcome.NOT_DONE, detail), None
    try:
        responses = [bundled.read(name) for name in names]
        stamps = verify_bundled_stamps(entries, responses, request.tsa_certificates)
        time = stamped_by(stamps, entry)
    except WatermarkError as error:
        return Check("time stamps", Outcome.FAILED, str(error)), None
    newest = max(stamp.time for stamp in stamps)
    if f"{time:{_SECOND}}" > bundled.manifest.created:
        detail = (
            f"the first that covers the commitment is of {time:{_SECOND}}, after the bundle was "
            f"made ({bundled.manifest.created})"
        )
        return Check("time stamps", Outcome.FAILED, detail), newest
    detail = f"{len(names)} hold; the commitment stood by {time:%Y-%m-%d %H:%M:%S} UTC"
    passed = Check("time stamps", Outcome.PASSED, detail, f"commitment stamped {time:{_DAY}}")
    return passed, newest
