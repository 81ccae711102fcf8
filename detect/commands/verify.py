"""`heirmark verify`: is a bundle intact, and does its test give the same result again?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from detect.commands.amounts import read_bytes, read_seconds
from detect.commands.options import PATH
from detect.commands.terminal import plain, plain_values
from watermark.errors import EvidenceError, WatermarkError
from watermark.storage.files import dump_json

if TYPE_CHECKING:
    from detect.evidence.checks import Verification

__all__ = ["verify"]

_NOT_VERIFIED, _NOT_RECOMPUTED, _NOT_FINISHED = 1, 3, 4
_HEAD: Final = re.compile(r"(sha256:)?[0-9a-f]{64}")
_MOST_BYTES: Final = 1 << 20


class _NotRead(click.ClickException):
    exit_code = 2


@click.command()
@click.argument("folder", metavar="BUNDLE", type=PATH)
@click.option("--key", "key", type=PATH, help="The revealed key file, or env:VARIABLE.")
@click.option("--opening", type=PATH, help="The revealed opening of the key's commitment.")
@click.option(
    "--signer", "signers", multiple=True, type=PATH, help="Public key to trust; may be repeated."
)
@click.option(
    "--tsa-certificate", "tsa", type=PATH, help="PEM of the time-stamping authority to trust."
)
@click.option(
    "--stamp", type=PATH, help="A time stamp (RFC 3161) over the bundle's evidence.dsse.json."
)
@click.option(
    "--input",
    "given",
    multiple=True,
    metavar="NAME=PATH",
    help="Where an input is that the bundle has only hashes of; may be repeated.",
)
@click.option(
    "--head", metavar="SHA256", help="The commitment log's head, as it was published before."
)
@click.option(
    "--memory",
    type=read_bytes,
    help="What it may take, as 8G.  [default: three quarters of the machine's]",
)
@click.option(
    "--time-limit",
    "seconds",
    type=read_seconds,
    default="1h",
    show_default=True,
    help="How long it may take, as 90s, 30m or 2h.",
)
@click.option(
    "--disk",
    type=read_bytes,
    default="16G",
    show_default=True,
    help="What it may write, in a temporary folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every check as JSON.")
@click.option("--verbose", "-v", is_flag=True, help="Print every check.")
def verify(
    folder: Path,
    key: Path | None,
    opening: Path | None,
    signers: tuple[Path, ...],
    tsa: Path | None,
    stamp: Path | None,
    given: tuple[str, ...],
    head: str | None,
    memory: int | None,
    seconds: int,
    disk: int,
    as_json: bool,
    verbose: bool,
) -> None:
    """Check somebody's bundle, and run its test again.

    Nothing in the bundle is run, and nothing is fetched. Exit code 0: verified; 1: not; 2: what you
    gave cannot be read or is not asked for; 3: intact, but not recomputed, since the key or an
    input is missing, or recomputed, but made by another version that may word things otherwise; 4:
    not finished, since a limit was reached or a file broke what reads it.
    """
    from detect.evidence.apart import verify_apart
    from detect.evidence.invocation import absolute_place
    from detect.evidence.limits import Limits, default_memory
    from detect.evidence.request import VerifyRequest
    from detect.evidence.revealed import load_revealed_opening
    from detect.evidence.signing_keys import load_public_key

    if not folder.is_dir():
        raise click.UsageError(f"no folder '{folder}': give the folder that heirmark bundle wrote")
    if head is not None and not _HEAD.fullmatch(head):
        raise click.UsageError("--head takes a SHA-256, 64 hexadecimal digits")
    if stamp is not None and tsa is None:
        raise click.UsageError("--stamp is checked with --tsa-certificate PEM")
    try:
        limits = Limits(memory or default_memory(), seconds, disk)
        found = verify_apart(
            VerifyRequest(
                folder=folder.absolute(),
                key_place=None if key is None else absolute_place(str(key)),
                opening=None if opening is None else load_revealed_opening(opening),
                signers=tuple(load_public_key(path) for path in signers),
                tsa_certificates=None if tsa is None else _read(tsa),
                stamp=None if stamp is None else _read(stamp),
                head=head,
                given=dict(_pair(text) for text in given),
            ),
            limits,
        )
    except WatermarkError as error:
        # Of the verifier's own files: that says nothing about the bundle.
        raise _NotRead(str(error)) from None
    # Names in a bundle may hold anything but what a terminal obeys.
    if as_json:
        click.echo(dump_json(plain_values(found.to_dict())), nl=False)
    else:
        click.echo(plain(found.line))
        if verbose:
            for check in found.checks:
                word = check.outcome.value.replace("_", " ")
                click.echo(plain(f"  {word:9} {check.name}: {check.detail}"))
    click.get_current_context().exit(_exit_code(found))


def _exit_code(found: Verification) -> int:
    if found.is_verified:
        return 0
    if found.is_intact:
        return _NOT_RECOMPUTED
    return _NOT_VERIFIED if found.has_failed else _NOT_FINISHED


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise click.UsageError(f"--input takes NAME=PATH, got {text!r}")
    return name, place


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}") from None
