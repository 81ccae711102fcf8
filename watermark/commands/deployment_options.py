"""Options of the command line that say what a deployment spares: low entropy, reasoning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import click

from watermark.borders import is_kept_whole, reasoning_between
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.tokens import TextTokenizer, check_fingerprint, load_tokenizer

__all__ = ["Spared", "deployed", "deployment_options"]


class Spared(NamedTuple):
    """The options as they were given.

    Attributes:
        min_entropy: in nats, None if not given.
        reasoning: strings that begin and end it, None if not given.
        reasoning_unmarked: whether it is left unmarked.
        reasoning_open: whether responses begin in it.
    """

    min_entropy: float | None
    reasoning: tuple[str, str] | None
    reasoning_unmarked: bool
    reasoning_open: bool

    @property
    def is_empty(self) -> bool:
        """True if none was given."""
        return self == Spared(None, None, False, False)


def deployment_options(command: Any) -> Any:
    """Add the options, whose values are the fields of `Spared`."""
    for option in (
        click.option(
            "--reasoning-open",
            is_flag=True,
            help="Answers begin in reasoning: the chat template has begun it.",
        ),
        click.option("--reasoning-unmarked", is_flag=True, help="Leave reasoning unmarked."),
        click.option(
            "--reasoning",
            nargs=2,
            metavar="BEGIN END",
            help="Strings around the model's reasoning, such as '<think>' '</think>': contexts "
            "begin anew there.",
        ),
        click.option(
            "--min-entropy",
            type=float,
            help="Leave tokens of less entropy unmarked, in nats.  [default: mark all]",
        ),
    ):
        command = option(command)
    return command


def deployed(config: WatermarkConfig, spared: Spared, tokenizer: str | None) -> WatermarkConfig:
    """Apply the options to a config.

    Args:
        config: the config.
        spared: the options.
        tokenizer: where the model's tokenizer is; needed for reasoning.

    Returns:
        The config with what was given; bound to the tokenizer if that was used.

    Raises:
        ConfigError: a value out of range, borders that cannot be used, or no tokenizer for them.
        FingerprintError: the config is bound to another tokenizer.
    """
    config = _deployed(config, spared, tokenizer)
    if config.leaves:
        click.echo(f"note: {config.leaves} stay unmarked", err=True)
    return config


def _deployed(config: WatermarkConfig, spared: Spared, tokenizer: str | None) -> WatermarkConfig:
    if spared.min_entropy is not None:
        config = replace(config, min_entropy=spared.min_entropy)
    if spared.reasoning is None:
        if spared.reasoning_unmarked or spared.reasoning_open:
            raise click.UsageError("say where reasoning stands: --reasoning BEGIN END")
        return config
    if tokenizer is None:
        raise click.UsageError("--reasoning needs the model's tokenizer: give --tokenizer")
    tokens = load_tokenizer(tokenizer)
    check_fingerprint(tokens, config.tokenizer)
    channel = reasoning_between(
        tokens,
        *spared.reasoning,
        is_marked=not spared.reasoning_unmarked,
        starts_open=spared.reasoning_open,
    )
    _check_borders(tokens, spared)
    return replace(config, reasoning=channel).bound_to(tokens.fingerprint)


def _check_borders(tokenizer: TextTokenizer, spared: Spared) -> None:
    for border in spared.reasoning or ():
        if is_kept_whole(tokenizer, border):
            continue
        said = (
            f"{border!r} is no token of its own here, and is joined with its neighbours in some "
            "places; there it is not seen as a border"
        )
        if spared.reasoning_unmarked:
            # An end that is not seen would leave the answer unmarked as well.
            raise ConfigError(
                f"{said}, and all that follows would stay unmarked: mark reasoning (leave out "
                "--reasoning-unmarked), or give borders that are tokens of their own"
            )
        click.echo(f"note: {said}", err=True)
