"""`heirmark config`: a preset, or what an engine's own settings mean, as a config file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from detect.commands.options import PATH
from watermark.commands.deployment_options import Spared, deployed, deployment_options
from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.engine_settings import ENGINES, engine_config
from watermark.errors import ConfigError
from watermark.storage.files import atomic_writer, dump_json, read_json

__all__ = ["config"]


@click.command()
@click.option("--engine", type=click.Choice(list(ENGINES)), help="Who marked.")
@click.option("--preset", "preset_name", type=click.Choice(list(PRESETS)), help="Our own mark.")
@click.option(
    "--settings",
    "settings_path",
    help="JSON file of the engine's own settings, without its key; - is stdin.",
)
@click.option(
    "--set",
    "single",
    multiple=True,
    metavar="NAME=VALUE",
    help="One setting; may be given several times, and wins over the file.",
)
@click.option(
    "--tokenizer", help="The provider's tokenizer, to which the config is bound: as for detect."
)
@deployment_options
@click.option("--output", "-o", type=PATH, help="Config file.  [default: stdout]")
def config(
    engine: str | None,
    preset_name: str | None,
    settings_path: str | None,
    single: tuple[str, ...],
    tokenizer: str | None,
    output: Path | None,
    **spared: Any,
) -> None:
    """Write the config of a deployment, ours or an engine's.

    It is that of our own mark (--preset), or of the mark of another engine (--engine). Settings of
    an engine that are not given have the engine's own defaults. For example:

    heirmark config --engine vllm --set algorithm=dual_key_gumbel --tokenizer smollm2 -o mark.json

    heirmark config --preset default --reasoning '<think>' '</think>' --tokenizer MODEL -o ours.json
    """
    if (engine is None) == (preset_name is None):
        raise click.UsageError("give --engine ENGINE or --preset PRESET")
    if engine is None and (settings_path or single):
        raise click.UsageError("--settings and --set are those of an --engine")
    settings = _object(read_json(settings_path)) if settings_path else {}
    settings |= dict(_assignment(one) for one in single)
    made: WatermarkConfig = (
        engine_config(engine, settings) if engine else preset(preset_name or "default")
    )
    made = deployed(made, Spared(**spared), tokenizer)
    if tokenizer:
        from watermark.tokens import load_tokenizer

        made = made.bound_to(load_tokenizer(tokenizer).fingerprint)
    text = dump_json(made.to_dict())
    if output is None:
        click.echo(text, nl=False)
        return
    with atomic_writer(output) as file:
        file.write(text)
    click.echo(f"wrote {output}: {made.scheme.name}, context width {made.context_width}")


def _object(payload: Any) -> dict[str, Any]:
    if not isinstance(payload, dict):
        raise ConfigError("an engine's settings are a JSON object")
    return payload


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError("--set takes NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
