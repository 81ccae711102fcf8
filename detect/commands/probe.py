"""`heirmark probe`: test a model for inherited signal."""

from __future__ import annotations

from typing import Any

import click

from detect.commands.options import PATH, assessment_options, show
from detect.commands.suspect_options import (
    asking_options,
    heard_options,
    request_of,
    sampling_options,
)
from watermark.cli import chosen_config, progress
from watermark.keyring.secret_stores import read_key

__all__ = ["probe"]


@click.command()
@click.argument("suspect")
@heard_options
@click.option(
    "--marked-reading",
    type=PATH,
    help='With weights: texts marked under the key, whole, JSONL with "prompt", "text" and '
    '"token_ids" as heirmark generate writes them.',
)
@assessment_options
@sampling_options
@asking_options
def probe(suspect: str, **options: Any) -> None:
    """Test a model for inherited signal.

    SUSPECT, like each --control, is a model's folder, a *.gguf file, a Hub id or smollm2; the
    address of an OpenAI-compatible API, http(s)://HOST/v1; or *.jsonl, recorded answers.
    """
    from detect.suspect.opening import is_replay
    from detect.suspect.probing import run_probe

    _check(options, is_replay(suspect))
    config = chosen_config(options["preset_name"], options["config_path"])
    request = request_of(suspect, options, config, read_key(options["key_path"]))
    result = run_probe(
        request,
        options["prompts_path"],
        options["reading_path"],
        progress,
        announce=lambda line: click.echo(line, err=True),
    )
    show(result.to_dict(), options["as_json"], options["output"])


def _check(options: dict[str, Any], replayed: bool) -> None:
    """Refuse options that do not go together."""
    access, by_weights = options["access"], options["access"] == "weights"
    reading = [name for name in ("reading_path", "marked_reading") if options[name]]
    if not by_weights and options["prompts_path"] is None and not replayed:
        raise click.UsageError(f"--access {access} needs --prompts FILE")
    if by_weights and len(reading) != 1:
        raise click.UsageError("--access weights needs --reading FILE or --marked-reading FILE")
    for name, made_for in (("score", "text"), ("own_texts", "text"), ("marked_reading", "weights")):
        if options[name] and access != made_for:
            raise click.UsageError(f"--{name.replace('_', '-')} is for --access {made_for}")
    if options["reference"] and options["score"]:
        raise click.UsageError("--score and --reference are scores both: give one of them")
