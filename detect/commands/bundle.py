"""`heirmark bundle`: run a test and record it as evidence that a stranger can run again."""

from __future__ import annotations

from pathlib import Path

import click

from detect.commands.options import PATH

__all__ = ["bundle", "signing"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--output", "-o", "target", type=PATH, required=True, help="Folder; it is made.")
@click.option(
    "--sign", "signer", type=PATH, required=True, help="Signing key: heirmark keys signing."
)
@click.option("--commitments", "log", type=PATH, help="The public log that the key stands in.")
@click.option("--opening", type=PATH, help="The commitment's private opening; it stays private.")
@click.option(
    "--no-copy", is_flag=True, help="Keep only hashes of inputs; verifiers need the inputs then."
)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND ...")
def bundle(
    target: Path,
    signer: Path,
    log: Path | None,
    opening: Path | None,
    no_copy: bool,
    words: tuple[str, ...],
) -> None:
    """Run a test, and bundle and sign its evidence.

    COMMAND is detect, scan, probe or another test with its own options. The bundle holds result,
    report, inputs or their hashes, recorded answers, config, versions and what the result does not
    show, under one signature. It holds no secret.
    """
    from detect.evidence.commitment import Committed
    from detect.evidence.integrity import short_signer
    from detect.evidence.signing_keys import load_signing_key, raw_public
    from detect.evidence.writing import BundleRequest, write_bundle
    from watermark.commitments.writing import load_opening

    if (log is None) != (opening is None):
        raise click.UsageError("--commitments LOG and --opening FILE go together")
    key = load_signing_key(signer)
    committed = Committed(log, load_opening(opening)) if log and opening else None
    manifest = write_bundle(BundleRequest(words, target, key, not no_copy, committed))
    hashed = [one.name for one in manifest.inputs if not one.stored and not one.first_only]
    click.echo(f"wrote     {target}, signed by {short_signer(raw_public(key).hex())}")
    if hashed:
        click.echo(f"hashes    only of {', '.join(hashed)}: verifiers must have them")
    click.echo(f"verify    heirmark verify {target.name} --key REVEALED.key.json")


@click.command()
@click.argument("path", type=PATH)
def signing(path: Path) -> None:
    """Make an Ed25519 key that signs evidence.

    PATH is the key (mode 0600), PATH.pub is for everybody.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from detect.evidence.integrity import short_signer
    from detect.evidence.signing_keys import public_path, raw_public, save_signing_key

    key = Ed25519PrivateKey.generate()
    save_signing_key(key, path)
    name = short_signer(raw_public(key).hex())
    click.echo(f"wrote {path} and {public_path(path)}; the signer is {name}")
