"""Whether a test is the one that a commitment's plan names: every name that we know is met."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

from detect.evidence.invocation import leaf_command, recordable
from watermark.commitments.commitment import Opening
from watermark.commitments.log import Entry, verify_opening
from watermark.errors import CommitmentError
from watermark.keys import Key

__all__ = ["Examined", "Planned", "check_opening"]

# Pairs that must have been scored.
_LEAST: Final = "min_pairs"
_INPUTS: Final = "inputs"
# What every test has, or it is not one that a plan with such a name is for.
_OF_ALL: Final = frozenset({"alpha", "score", "seed", "n_decoys"})
# What results say of options: the values that were used, where the program chose.
_FROM_RESULT: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "alpha": lambda result: result.get("alpha"),
    "score": lambda result: result.get("score"),
    "n_decoys": lambda result: (result.get("decoys") or {}).get("n_decoys"),
}


@final
@dataclass(frozen=True)
class Examined:
    """What was tested.

    Attributes:
        command: as in `detect.evidence.recordable`.
        options: of the command, every one.
        config_fingerprint: of the deployment.
        inputs: SHA-256 of inputs that are single files, as hex digits, by name; None as long as
            they are not read.
        result: of the test; None as long as it was not run.
    """

    command: str
    options: Mapping[str, Any]
    config_fingerprint: str
    inputs: Mapping[str, str] | None = None
    result: Mapping[str, Any] | None = field(default=None, repr=False)


@final
class Planned(NamedTuple):
    """What a plan fixed: fields that were compared with the test, and others, which people read."""

    compared: tuple[str, ...]
    others: tuple[str, ...]


def check_opening(entry: Entry, key: Key, opening: Opening, tested: Examined) -> Planned:
    """Check that the test is the one that was committed to.

    Args:
        entry: of the log.
        key: the revealed key.
        opening: the revealed opening.
        tested: what was, or is going to be, tested. Options that the plan names must have the
            plan's values, be they given, defaults, or chosen by the program.

    Returns:
        What was compared.

    Raises:
        CommitmentError: key, config, plan or salt are others.
    """
    verify_opening(entry, key, opening)
    committed, config = opening.watermark_config.fingerprint, tested.config_fingerprint
    if committed != config:
        raise CommitmentError(
            f"the config that was committed is {committed[:19]}..., the one that was tested "
            f"{config[:19]}..."
        )
    plan: dict[str, Any] = json.loads(opening.plan)
    fields = _fields(tested.command)
    compared = []
    for name, planned in sorted(plan.items()):
        if name == _LEAST:
            _check_least(planned, tested.result)
        elif name == _INPUTS:
            _check_inputs(planned, tested.inputs)
        elif name in fields or name in _OF_ALL:
            _check_option(name, planned, fields.get(name, ""), tested)
        else:
            continue
        compared.append(name)
    return Planned(tuple(compared), tuple(sorted(plan.keys() - set(compared))))


def _fields(command: str) -> dict[str, str]:
    """Return options by the names that a plan may call them by: --decoys is n_decoys in Python."""
    found = {}
    for one in leaf_command(command).params:
        if one.name in recordable(command).options:
            found[str(one.name)] = found[one.opts[0].lstrip("-").replace("-", "_")] = str(one.name)
    return found


def _check_option(name: str, planned: Any, option: str, tested: Examined) -> None:
    result = tested.result
    said = _FROM_RESULT.get(option or name)
    used = said(result) if said and result is not None else None
    if used is None:
        used = tested.options.get(option)
        if used is None and result is None:
            return  # not known before the test is run
    if isinstance(planned, bool) is not isinstance(used, bool) or planned != used:
        what = "left it out" if used is None else f"used {used!r}"
        raise CommitmentError(
            f"the plan that was committed says {name} = {planned!r}, the test {what}"
        )


def _check_least(planned: Any, result: Mapping[str, Any] | None) -> None:
    if isinstance(planned, bool) or not isinstance(planned, int | float):
        raise CommitmentError(
            f"the plan that was committed says {_LEAST} = {planned!r}, which is no number"
        )
    if result is None:
        return
    n_scored = result.get("n_scored")
    if n_scored is None or n_scored < planned:
        used = "scored no pairs that are counted" if n_scored is None else f"used {n_scored}"
        raise CommitmentError(
            f"the plan that was committed says {_LEAST} = {planned!r}, the test {used}"
        )


def _check_inputs(planned: Any, inputs: Mapping[str, str] | None) -> None:
    if not isinstance(planned, dict) or not planned:
        raise CommitmentError(
            f"the plan that was committed says {_INPUTS} = {planned!r}; expected SHA-256 by name, "
            'as {"accounts": "sha256:..."}'
        )
    if inputs is None:
        return
    for name, wanted in sorted(planned.items()):
        found = inputs.get(name)
        if found is None or wanted != f"sha256:{found}":
            what = "has no such file" if found is None else f"has sha256:{found}"
            raise CommitmentError(
                f"the plan that was committed says that the input {name!r} is {wanted!r}, the test "
                f"{what}"
            )
