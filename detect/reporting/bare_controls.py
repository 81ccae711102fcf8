"""Controls of which a result holds a p-value, but no verdict of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from detect.reporting.fields import Fields
from detect.reporting.reader import FIRES_AT, read_decoys, read_log10_p
from watermark.errors import ResultError

__all__ = ["BareControl", "read_bare_controls", "refuse_signal_beside"]


@dataclass(frozen=True, slots=True)
class BareControl:
    """A clean model: its p-value, and whether it shows signal.

    `z`: statistic in null standard deviations, where the result has it.
    """

    name: str
    role: str
    log10_p: float | None
    z: float | None
    fires: bool


def read_bare_controls(fields: Fields) -> tuple[BareControl, ...]:
    """Read the field "controls".

    Args:
        fields: the object that may hold it.

    Returns:
        The controls in order.

    Raises:
        ResultError: a field is missing or malformed.
    """
    return tuple(_control(control) for control in fields.objects("controls"))


def _control(control: Fields) -> BareControl:
    log10_p, decoys = read_log10_p(control, "log10_p"), read_decoys(control)
    smallest = min(0.0 if log10_p is None else log10_p, 0.0 if decoys is None else decoys.log10_p)
    return BareControl(
        control.text("name"),
        control.text("role", "control"),
        log10_p,
        control.maybe_number("z"),
        fires=smallest <= math.log10(FIRES_AT),
    )


def refuse_signal_beside(fields: Fields, controls: Iterable[BareControl]) -> None:
    """Refuse a verdict of signal that a control contradicts.

    Args:
        fields: the result.
        controls: all its controls.

    Raises:
        ResultError: one shows signal too.
    """
    if fields.raw("verdict") == "signal" and any(control.fires for control in controls):
        raise ResultError(
            f"result field {fields.path('verdict')!r} says signal, but a control shows signal "
            "too, which makes a result inconclusive; the result was changed or damaged"
        )
