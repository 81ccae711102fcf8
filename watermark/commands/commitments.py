"""`heirmark commitments`: what binds a provider to keys and test plans before any test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watermark.commands.options import PATH, FiniteRange, chosen_config, config_options
from watermark.commands.registry import open_registry
from watermark.commitments.log import Entry, entry_for, read_log, verify_chain, verify_opening
from watermark.commitments.plans import COMPARED, SCORE_NAMES
from watermark.commitments.writing import commit, load_opening, repair
from watermark.errors import CommitmentError, DocumentError
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import atomic_binary_writer, dump_json, read_json

if TYPE_CHECKING:
    from watermark.commitments.timestamps import Stamp

__all__ = ["commitments"]

_log = click.argument("log", type=PATH)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_key = click.option("--key", "key_place", required=True, help="Key file, or env:VARIABLE.")
_certificate_help = "PEM file of the time-stamping authority's root certificate."


@click.group()
def commitments() -> None:
    """Commit to keys and test plans in a public log.

    They are revealed and verified later.
    """


@commitments.command("add")
@_log
@_key
@click.option(
    "--opening",
    "opening_path",
    type=PATH,
    required=True,
    help="Private file to write (mode 0600): without it the commitment can never be revealed.",
)
@config_options
@click.option("--plan", "plan_path", type=PATH, help="JSON object: how the key will be tested.")
@click.option(
    "--alpha",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="Of the plan: the level of the test.",
)
@click.option(
    "--score", type=click.Choice(SCORE_NAMES), help="Of the plan: the score that will be used."
)
@click.option("--min-pairs", type=click.IntRange(1), help="Of the plan: least number of pairs.")
@click.option("--registry", "-r", "place", help="Note the commitment in this registry, too.")
@_json
def add(
    log: Path,
    key_place: str,
    opening_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    plan_path: Path | None,
    place: str | None,
    as_json: bool,
    **stated: Any,
) -> None:
    """Commit to a key, its config and its test plan.

    LOG is made if there is none.
    """
    plan = _plan(plan_path, {name: value for name, value in stated.items() if value is not None})
    config = chosen_config(preset_name, config_path)
    entry = commit(log, opening_path, read_key(key_place), config, plan)
    if place:
        with open_registry(place) as opened:
            opened.record_commitment(entry)
    if as_json:
        click.echo(dump_json(entry.to_dict()), nl=False)
        return
    click.echo(f"entry {entry.sequence} of {log} commits to the key {entry.key_id}")
    click.echo(_compared(plan))
    click.echo(f"publish the log, or its head {entry.digest}; keep {opening_path} as the key")


def _compared(plan: dict[str, Any]) -> str:
    compared, others = [n for n in COMPARED if n in plan], sorted(set(plan) - set(COMPARED))
    said = f"a test under this plan is compared with {', '.join(compared) or 'nothing of it'}"
    if others:
        said += (
            f"; {', '.join(others)} {'is' if len(others) == 1 else 'are'} for people to read, "
            "unless the test's command has an option of that name"
        )
    return said


def _plan(path: Path | None, stated: dict[str, Any]) -> dict[str, Any]:
    plan = read_json(path) if path else {}
    if not isinstance(plan, dict):
        raise DocumentError(f"{path} is no test plan; expected a JSON object")
    if twice := sorted(set(plan) & set(stated)):
        raise CommitmentError(f"the plan says {', '.join(twice)}, and so does an option")
    return plan | stated


@commitments.command("check")
@_log
@click.option("--repair", "is_repaired", is_flag=True, help="Mend the end a killed writer left.")
@click.option("--head", help="A head known from elsewhere: this log must hold it.")
@click.option("--tsa-certificate", "certificate", type=PATH, help=_certificate_help)
@_json
def check(
    log: Path, is_repaired: bool, head: str | None, certificate: Path | None, as_json: bool
) -> None:
    """Check the chain of a log, and its time stamps.

    Time stamps beside LOG are checked with --tsa-certificate.
    """
    if is_repaired and (removed := repair(log)):
        done = f"{removed} bytes taken away" if removed > 0 else "its line break was missing"
        click.echo(f"mended the end of {log} ({done})", err=True)
    entries = _chain(log)
    if head and head not in {entry.digest for entry in entries}:
        raise CommitmentError(
            f"no line of {log} has the hash {head[:80]}: this is another log, or it was changed or "
            "cut before that line"
        )
    stamps = _stamps(log, entries, certificate)
    if as_json:
        click.echo(dump_json(_checked(entries, stamps)), nl=False)
        return
    shown = entries[-1].digest if entries else "none"
    click.echo(f"{log} holds {len(entries)} entries in an unbroken chain; its head is {shown}")
    _say_stamps(log, stamps)


def _checked(entries: tuple[Entry, ...], stamps: tuple[Stamp, ...] | None) -> dict[str, Any]:
    return {
        "n_entries": len(entries),
        "head": entries[-1].digest if entries else None,
        "entries": [entry.to_dict() for entry in entries],
        "time_stamps": None if stamps is None else [_stamp_dict(stamp) for stamp in stamps],
    }


def _stamp_dict(stamp: Stamp) -> dict[str, Any]:
    # Beyond 2^53 numbers are not safe in every reader of JSON.
    serial_number = str(stamp.serial_number)
    return stamp._asdict() | {"time": stamp.time.isoformat(), "serial_number": serial_number}


def _chain(log: Path) -> tuple[Entry, ...]:
    entries = read_log(log)
    verify_chain(entries)
    return entries


def _stamps(
    log: Path, entries: tuple[Entry, ...], certificate: Path | None
) -> tuple[Stamp, ...] | None:
    if certificate is None:
        return None
    from watermark.commitments.timestamps import verify_stamps

    return verify_stamps(log, entries, _bytes(certificate))


def _say_stamps(log: Path, stamps: tuple[Stamp, ...] | None) -> None:
    if stamps is None:
        from watermark.commitments.timestamps import stamps_beside

        if n_beside := sum(1 for _ in stamps_beside(log)):
            click.echo(f"{n_beside} time stamps beside it were not verified: --tsa-certificate")
        return
    for stamp in stamps:
        click.echo(f"entries up to {stamp.sequence} existed by {stamp.time:%Y-%m-%d %H:%M:%S} UTC")
    if not stamps:
        click.echo("no time stamp stands beside it")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}") from None


@commitments.command("verify")
@_log
@_key
@click.option("--opening", "opening_path", type=PATH, required=True, help="The revealed opening.")
@click.option("--tsa-certificate", "certificate", type=PATH, help=_certificate_help)
@_json
def verify(
    log: Path, key_place: str, opening_path: Path, certificate: Path | None, as_json: bool
) -> None:
    """Check a revealed key and opening against LOG.

    It says since when both were fixed.
    """
    entries = _chain(log)
    key, opening = read_key(key_place), load_opening(opening_path)
    entry = entry_for(entries, key.key_id)
    verify_opening(entry, key, opening)
    stamps = _stamps(log, entries, certificate)
    first = next((stamp for stamp in stamps or () if stamp.sequence >= entry.sequence), None)
    if as_json:
        payload = {
            "entry": entry.to_dict(),
            "config": json.loads(opening.config),
            "plan": json.loads(opening.plan),
            "time_stamp": _stamp_dict(first) if first else None,
        }
        click.echo(dump_json(payload), nl=False)
        return
    click.echo(
        f"verified: entry {entry.sequence} commits to the key {key.key_id}, config "
        f"{opening.watermark_config.fingerprint} and plan {opening.plan}; "
        + (
            f"it existed by {first.time:%Y-%m-%d %H:%M:%S} UTC (RFC 3161)"
            if first
            else f"its time, {entry.time:%Y-%m-%d %H:%M:%S} UTC, is the provider's own word"
        )
    )


@commitments.command("request")
@_log
@click.option("--output", "-o", type=PATH, help="Write the request for curl or openssl to send.")
@click.option("--no-certificates", is_flag=True, help="Ask for a stamp without certificates.")
@click.option("--tsa", "url", help="Send it to this authority, and store its verified stamp.")
@click.option("--tsa-certificate", "certificate", type=PATH, help=_certificate_help)
def request(
    log: Path,
    output: Path | None,
    no_certificates: bool,
    url: str | None,
    certificate: Path | None,
) -> None:
    """Request a time stamp (RFC 3161) over the head of LOG.

    Nothing is sent without --tsa. The request holds the head's hash and no more.
    """
    if (output is None) == (url is None) or (url is None) != (certificate is None):
        raise click.UsageError("give --output FILE, or --tsa URL with --tsa-certificate PEM")
    from watermark.commitments.timestamps import ask_authority, timestamp_request

    entries = _chain(log)
    if not entries:
        raise CommitmentError(f"{log} is empty; there is no head to stamp")
    query = timestamp_request(entries[-1], with_certificates=not no_certificates)
    if output:
        with atomic_binary_writer(output) as file:
            file.write(query)
        click.echo(f"wrote {output}; send it as application/timestamp-query, then: stamp")
        return
    assert url is not None
    assert certificate is not None
    _store(log, entries, ask_authority(url, query), certificate)


@commitments.command("stamp")
@_log
@click.option("--token", type=PATH, required=True, help="The authority's answer (DER).")
@click.option("--tsa-certificate", "certificate", type=PATH, required=True, help=_certificate_help)
def stamp(log: Path, token: Path, certificate: Path) -> None:
    """Verify an authority's time stamp, and store it.

    It stands beside LOG, as LOG.SEQUENCE.tsr.
    """
    _store(log, _chain(log), _bytes(token), certificate)


def _store(log: Path, entries: tuple[Entry, ...], response: bytes, certificate: Path) -> None:
    from watermark.commitments.timestamps import find_stamped, store_stamp, verify_stamp

    entry = find_stamped(response, entries)
    stamp = verify_stamp(response, entry, _bytes(certificate))
    path = store_stamp(log, entry, response)
    click.echo(
        f"entries up to {stamp.sequence} existed by {stamp.time:%Y-%m-%d %H:%M:%S} UTC; "
        f"wrote {path}"
    )
