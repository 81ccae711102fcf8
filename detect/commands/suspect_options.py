"""The options of hearing suspects: what is read or asked, drawing of answers, endpoints, costs."""

from __future__ import annotations

import functools
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from detect.commands.options import PATH, Command, add_options
from detect.suspect.endpoint_options import EndpointOptions
from watermark.cli import FiniteRange

if TYPE_CHECKING:
    from detect.suspect.probing import ProbeRequest
    from watermark.config import WatermarkConfig
    from watermark.keys import Key

__all__ = ["asking_options", "heard_options", "request_of", "sampling_options"]

_DEFAULT: Final = EndpointOptions()
_OPTIONS: Final = (
    click.option("--model", help="At an endpoint: the model's name, unless it is URL#NAME."),
    click.option(
        "--api-key-env",
        "api_key_envs",
        multiple=True,
        metavar="[HOST=]NAME",
        help="Environment variable with an endpoint's API key; may be repeated.",
    ),
    click.option(
        "--transcript",
        type=PATH,
        help="Record prompts and answers here as they arrive; a stopped run goes on from it.",
    ),
    click.option(
        "--concurrency",
        default=_DEFAULT.concurrency,
        show_default=True,
        type=click.IntRange(1, 256),
        help="Requests at the same time.",
    ),
    click.option(
        "--requests-per-minute",
        type=FiniteRange(0, min_open=True),
        help="At most so many.  [default: no limit]",
    ),
    click.option(
        "--timeout",
        default=_DEFAULT.timeout,
        show_default=True,
        type=FiniteRange(0, 86_400, min_open=True),
        help="Seconds for one request.",
    ),
    click.option(
        "--top-logprobs",
        "top_log_probs",
        default=_DEFAULT.top_log_probs,
        show_default=True,
        type=click.IntRange(0, 20),
        help="Candidates to ask an endpoint for at each token; 0 asks for none.",
    ),
    click.option(
        "--price",
        nargs=2,
        type=FiniteRange(0),
        metavar="IN OUT",
        help="An endpoint's price of a million tokens of prompts and of answers.",
    ),
    click.option(
        "--max-cost",
        type=FiniteRange(0),
        help="Ask nothing if it may cost more, at --price.",
    ),
)
_HEARD: Final = (
    click.option(
        "--access",
        type=click.Choice(["text", "logprobs", "weights"]),
        default="text",
        show_default=True,
        help="What is scored: answers, an endpoint's reported candidates, or open weights.",
    ),
    click.option("--control", "controls", multiple=True, help="A clean model; may be repeated."),
    click.option(
        "--reference",
        help="A public model, often the suspect's base, that reads the same texts or the answers.",
    ),
    click.option(
        "--own-texts",
        type=PATH,
        help='With text: own texts that no key under test shaped, JSONL with "text"; contexts that '
        "they reach often weigh more.",
    ),
    click.option(
        "--prompts", "prompts_path", help="With text: prompts for the suspect, one a line."
    ),
    click.option(
        "--reading",
        "reading_path",
        help='With weights: unmarked texts, JSONL with "prompt" and "text".',
    ),
)
_SAMPLING: Final = (
    click.option(
        "--max-new-tokens",
        default=96,
        show_default=True,
        type=click.IntRange(1),
        help="Longest answer.",
    ),
    click.option(
        "--temperature",
        default=1.0,
        show_default=True,
        type=FiniteRange(0, min_open=True),
        help="At which the suspect answers.",
    ),
    click.option(
        "--top-k", default=0, show_default=True, type=click.IntRange(0), help="0 keeps all."
    ),
)
_ENDPOINT: Final = tuple(field.name for field in fields(EndpointOptions))


def heard_options(command: Command) -> Command:
    """Add what is read of a suspect, and what stands beside it."""
    return add_options(command, *_HEARD)


def sampling_options(command: Command) -> Command:
    """Add how answers are drawn."""
    return add_options(command, *_SAMPLING)


def asking_options(command: Command) -> Command:
    """Add them, and pass them on as `asking`, an `AskingOptions`."""

    @functools.wraps(command)
    def with_asking(*args: Any, **options: Any) -> None:
        from detect.suspect.asking import AskingOptions
        from detect.suspect.cost import Price

        endpoints = EndpointOptions(**{name: options.pop(name) for name in _ENDPOINT})
        transcript: Path | None = options.pop("transcript")
        price, max_cost = options.pop("price"), options.pop("max_cost")
        if max_cost is not None and price is None:
            raise click.UsageError("--max-cost needs --price IN OUT, for a million tokens each")
        known_price = Price(*price) if price else None
        asking = AskingOptions(endpoints, transcript, known_price, max_cost)
        command(*args, asking=asking, **options)

    return add_options(with_asking, *_OPTIONS)


def request_of(
    suspect: str, options: dict[str, Any], config: WatermarkConfig, key: Key
) -> ProbeRequest:
    """Make the request of a command's options, which are called as its fields."""
    from detect.suspect.probing import ProbeRequest

    asked = {f.name: options[f.name] for f in fields(ProbeRequest) if f.name in options}
    return ProbeRequest(suspect=suspect, config=config, key=key, **asked)
