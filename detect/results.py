"""What every test returns: a tail probability, evidence, and a verdict with three values."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Final, Literal, NoReturn, final

__all__ = [
    "ALPHA",
    "CONTROL_FIRES_AT",
    "RESULT_SCHEMA",
    "Tail",
    "Verdict",
    "decide",
    "format_p",
    "json_p",
    "n_needed",
]

ALPHA: Final = 1e-6
CONTROL_FIRES_AT: Final = 1e-3
# Of detect/evidence/schemas/result-1.schema.json.
RESULT_SCHEMA: Final = "heirmark-result-1"
_NO_SIGNAL_ABOVE: Final = 0.01
_POWER: Final = 0.9
_LOWEST: Final = math.log10(sys.float_info.min)

Method = Literal["exact", "inversion", "saddlepoint", "bound", "e-process", "decoys", "none"]


@final
class Verdict(StrEnum):
    """What a test says. It has three values, so that it cannot be read as a truth value."""

    SIGNAL = "signal"
    NO_SIGNAL = "no_signal"
    INCONCLUSIVE = "inconclusive"

    def __bool__(self) -> NoReturn:
        raise TypeError("a verdict has three values; compare it with Verdict.SIGNAL and so on")


@final
@dataclass(frozen=True, slots=True)
class Tail:
    """An upper tail probability of a statistic under the null.

    Attributes:
        log10_p: log10 P(S >= s); -inf only if the null makes the observation impossible.
        log10_p_ceiling: a rigorous upper bound on it; equal to `log10_p` where that is exact, or
            a bound itself (e-process). Of an engine with few keys the chance that a stranger's key
            makes the same words is added (`detect.key_floor`).
        method: how `log10_p` was computed: "exact"; "inversion", numerically and right to about
            1e-9; "saddlepoint", approximately; "bound", never too small, but not exact;
            "e-process", a bound at any time; "decoys", the rank among decoy keys; "none" if nothing
            was scored.
    """

    log10_p: float
    log10_p_ceiling: float
    method: Method

    @property
    def p_value(self) -> float:
        """10 ** log10_p; underflows to 0.0 below 1e-308, where `log10_p` still holds."""
        return float(10**self.log10_p)


def n_needed(effect: float, alpha: float) -> int:
    """Count the scored pairs that find a given effect with 90 % power.

    First-order: n = ((z_alpha + z_power) / effect)^2, reference statistics.md B5.

    Args:
        effect: mean shift of a pair's score under the alternative, in null standard deviations.
        alpha: level.

    Returns:
        The number of pairs, at least 1.
    """
    normal = NormalDist()
    return math.ceil(((-normal.inv_cdf(alpha) + normal.inv_cdf(_POWER)) / effect) ** 2)


def decide(tail: Tail, n_scored: int, *, alpha: float, n_powered: int) -> Verdict:
    """Turn a tail into a verdict.

    Args:
        tail: the tail of the statistic.
        n_scored: pairs in the statistic.
        alpha: level; the rigorous ceiling must reach it.
        n_powered: pairs below which finding nothing means nothing (`n_needed`).

    Returns:
        SIGNAL if the ceiling is at most alpha; NO_SIGNAL if p > 0.01 with enough pairs;
        INCONCLUSIVE otherwise.
    """
    if n_scored and tail.log10_p_ceiling <= math.log10(alpha):
        return Verdict.SIGNAL
    if n_scored >= n_powered and tail.log10_p > math.log10(_NO_SIGNAL_ABOVE):
        return Verdict.NO_SIGNAL
    return Verdict.INCONCLUSIVE


def json_p(log10_p: float) -> float | None:
    """Return the p-value as a JSON number, or None where a double would underflow."""
    return float(10**log10_p) if log10_p >= _LOWEST else None


def format_p(log10_p: float) -> str:
    """Write a p-value for people: 0.31, 1.3e-07, 10^-1234.5; never 0.

    Args:
        log10_p: log10 of the p-value.

    Returns:
        The text.
    """
    if log10_p == -math.inf:
        return "impossible under the null"
    if log10_p < -100:
        return f"10^{log10_p:.1f}"
    return f"{10**log10_p:.2g}"
