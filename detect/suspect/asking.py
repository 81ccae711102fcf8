"""Ask suspects by text: within a budget, and on the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from detect.suspect.cost import CostEstimate, Price, estimate_cost
from detect.suspect.endpoint_options import EndpointOptions
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.opening import (
    check_keys,
    is_endpoint,
    is_replay,
    open_suspect,
    suspect_name,
)
from detect.suspect.transcript import Registration, known_answers, recorded_answers
from watermark.generation.sampling import Sampling

__all__ = ["Asked", "AskingOptions", "ask", "plan_asking", "spending"]


@final
@dataclass(frozen=True)
class AskingOptions:
    """How suspects are asked.

    Attributes:
        endpoints: how endpoints are asked.
        transcript: where the suspect's answers are recorded; the controls' beside it.
        price: of an endpoint's tokens.
        max_cost: nothing is asked if it may cost more.
    """

    endpoints: EndpointOptions = field(default_factory=EndpointOptions)
    transcript: Path | None = None
    price: Price | None = None
    max_cost: float | None = None


@final
@dataclass(frozen=True)
class Asked:
    """One model that is going to be asked.

    Attributes:
        spec: what a person calls it.
        registration: its name, the prompts, and how answers are drawn.
        transcript: where its answers are recorded, if they are.
    """

    spec: str
    registration: Registration
    transcript: Path | None


def plan_asking(
    suspect: str,
    controls: Sequence[str],
    prompts: Sequence[str],
    sampling: Sampling,
    options: AskingOptions,
) -> list[Asked]:
    """Say who is asked what, and where that is recorded.

    Args:
        suspect: what is under test.
        controls: models tested the same way.
        prompts: user messages.
        sampling: how answers are drawn.
        options: how suspects are asked.

    Returns:
        The suspect, then the controls. Control i of a transcript NAME.jsonl is recorded in
        NAME.control-i.jsonl; what is itself a recording is not recorded again.

    Raises:
        ConfigError: an endpoint without model, or an API key that is not there.
    """
    specs = [suspect, *controls]
    check_keys(specs, options.endpoints)
    planned = []
    for number, spec in enumerate(specs):
        address = ""
        if is_endpoint(spec):
            open_suspect(spec, options.endpoints)  # what is missing is said before any query
            address = spec.partition("#")[0]
        name = suspect_name(spec, options.endpoints)
        path = None if is_replay(spec) else options.transcript
        if path is not None and number:
            path = path.with_name(f"{path.stem}.control-{number}{path.suffix}")
        planned.append(Asked(spec, Registration(name, tuple(prompts), sampling, address), path))
    return planned


def spending(planned: Sequence[Asked], price: Price | None) -> CostEstimate | None:
    """Bound what endpoints are still to be paid for.

    Args:
        planned: who is asked what.
        price: None if not known.

    Returns:
        The estimate; None if no endpoint is asked.
    """
    paid = [asked for asked in planned if is_endpoint(asked.spec)]
    if not paid:
        return None
    prompts = [prompt for asked in paid for prompt in _missing(asked)]
    return estimate_cost(prompts, paid[0].registration.sampling.max_new_tokens, price)


def ask(
    asked: Asked, options: AskingOptions, on_answers: Callable[[int], object]
) -> list[SuspectAnswer]:
    """Ask one model all its prompts.

    Args:
        asked: the model.
        options: how.
        on_answers: called with the number of answers that arrived since the last call.

    Returns:
        One answer a prompt, in the order of the prompts.
    """
    suspect = open_suspect(asked.spec, options.endpoints)
    registration = asked.registration
    if asked.transcript is None:
        source = suspect.ask(registration.prompts, registration.sampling)
    else:
        source = recorded_answers(suspect, registration, asked.transcript)
    found: dict[int, SuspectAnswer] = {}
    with closing(source):
        for position, answer in source:
            found[position] = answer
            on_answers(1)
    return [found[i] for i in range(len(registration.prompts))]


def _missing(asked: Asked) -> list[str]:
    prompts = asked.registration.prompts
    if asked.transcript is None:
        return list(prompts)
    known = known_answers(asked.transcript, asked.registration)
    return [prompt for i, prompt in enumerate(prompts) if i not in known]
