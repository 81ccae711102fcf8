"""Options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from watermark.config import PRESETS, WatermarkConfig, load_config, preset
from watermark.keys import LABELS

__all__ = ["PATH", "FiniteRange", "chosen_config", "config_options", "label_options"]

PATH = click.Path(path_type=Path)


def label_options(command: Any) -> Any:
    """Add `--model`, `--epoch`, `--cohort`, `--account` and `--purpose`."""
    for label in reversed(LABELS):
        command = click.option(f"--{label}", default="", help=f"The {label}'s name.")(command)
    return command


def config_options(command: Any) -> Any:
    """Add `--preset` and `--config`, of which at most one is given."""
    command = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="A config file, as written by heirmark generate --save-config.",
    )(command)
    return click.option(
        "--preset",
        "preset_name",
        type=click.Choice(list(PRESETS)),
        help="A named config.  [default: default]",
    )(command)


def chosen_config(preset_name: str | None, config_path: Path | None) -> WatermarkConfig:
    """Resolve `--preset` and `--config`.

    Args:
        preset_name: a preset's name, or None.
        config_path: a config file, or None.

    Returns:
        The config.

    Raises:
        UsageError: both are given.
        ConfigError: the config cannot be read.
    """
    if preset_name and config_path:
        raise click.UsageError("give --preset or --config, not both")
    return load_config(config_path) if config_path else preset(preset_name or "default")


class FiniteRange(click.FloatRange):
    """A range of numbers that refuses NaN and infinity."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Check a value; see `click.ParamType.convert`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number
