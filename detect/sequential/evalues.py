"""E-values: evidence that can be averaged and multiplied, with what that assumes written in it.

E >= 0 is an e-value if its mean is at most 1 under H0 (the tested material is independent of the
key); then P(E >= 1 / alpha) <= alpha by Markov's inequality, and min(1 / E, 1) is a p-value.
Vovk and Wang, Ann. Statist. 49 (2021): averages are e-values under any dependence, and nothing
symmetric does essentially better; products need independence, or factors that are e-values given
everything before them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, final

import numpy as np

from detect.results import Tail, Verdict, decide, json_p
from watermark.errors import ResultError

__all__ = ["Dependence", "EValue", "average", "multiply", "sequential_verdict"]

_LN10 = math.log(10)


@final
class Dependence(StrEnum):
    """What a product of e-values rests on, beyond each factor's own validity."""

    DISJOINT = "disjoint: no (context, token) pair is scored in two factors"
    PREDICTABLE = "predictable: each factor is an e-value given all that came before it"


@final
@dataclass(frozen=True, slots=True)
class EValue:
    """An e-value, and what it rests on.

    Attributes:
        log10_e: log10 E; -inf for no chance at all.
        n_scored: pairs in it.
        combined: how it was made.
        n_parts: e-values in it.
        rests_on: assumptions on dependence; none for an average or a single one.
    """

    log10_e: float
    n_scored: int
    combined: Literal["single", "average", "product"] = "single"
    n_parts: int = 1
    rests_on: frozenset[Dependence] = frozenset()

    def __post_init__(self) -> None:
        if math.isnan(self.log10_e):
            raise ValueError("an e-value must be a number, got NaN")

    @property
    def log10_p(self) -> float:
        """log10 of the p-value min(1 / E, 1), which E bounds."""
        return min(-self.log10_e, 0.0)

    def verdict(self, alpha: float, n_powered: int) -> Verdict:
        """SIGNAL exactly if E >= 1 / alpha; see `detect.results.decide`."""
        return sequential_verdict(self.log10_e, self.n_scored, alpha=alpha, n_powered=n_powered)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the smallest e-value, 0, has log10_e null."""
        return {
            "log10_e": self.log10_e if math.isfinite(self.log10_e) else None,
            "log10_p": self.log10_p,
            "p_value": json_p(self.log10_p),
            "n_scored": self.n_scored,
            "combined": self.combined,
            "n_parts": self.n_parts,
            "rests_on": sorted(a.value for a in self.rests_on),
        }


def average(values: Sequence[EValue], weights: Sequence[float] | None = None) -> EValue:
    """Average e-values: valid under any dependence.

    Args:
        values: e-values of the same H0, at least one.
        weights: non-negative, fixed before looking, with sum 1; None weighs equally.

    Returns:
        The e-value. It rests on what its parts rest on, and on nothing else.

    Raises:
        ResultError: no e-values, or weights that are not such.
    """
    _refuse_nothing(values)
    part = np.full(len(values), 1 / len(values)) if weights is None else np.array(weights)
    if len(part) != len(values) or (part < 0).any() or abs(part.sum() - 1) > 1e-9:
        raise ResultError("an average needs one weight >= 0 for each e-value, with sum 1")
    logs = np.array([v.log10_e for v in values])
    largest = float(logs[part > 0].max())
    total = largest
    if math.isfinite(largest):
        total += math.log10(float(part @ 10 ** (logs - largest)))
    return EValue(
        total, sum(v.n_scored for v in values), "average", len(values), _assumptions(values)
    )


def multiply(values: Sequence[EValue], assumption: Dependence) -> EValue:
    """Multiply e-values: strong, and only as valid as the assumption.

    Args:
        values: e-values of the same H0, at least one.
        assumption: why the product is one too; carried in the result.

    Returns:
        The e-value.

    Raises:
        ResultError: no e-values (an empty product proves nothing), or 0 times infinity.
    """
    _refuse_nothing(values)
    total = math.fsum(v.log10_e for v in values) if _one_sign(values) else math.nan
    if math.isnan(total):
        raise ResultError("a product of an e-value 0 and an infinite one has no meaning")
    rests_on = _assumptions(values) | ({assumption} if len(values) > 1 else frozenset())
    return EValue(total, sum(v.n_scored for v in values), "product", len(values), rests_on)


def sequential_verdict(log10_e: float, n_scored: int, *, alpha: float, n_powered: int) -> Verdict:
    """Turn log10 of an e-value, or of an e-process's peak, into a verdict.

    Args:
        log10_e: log10 E.
        n_scored: pairs in it.
        alpha: level.
        n_powered: pairs below which finding nothing means nothing.

    Returns:
        SIGNAL if E >= 1 / alpha; NO_SIGNAL if E < 100 with enough pairs; else INCONCLUSIVE.
    """
    log10_p = min(-log10_e, 0.0)
    # 1 / E is a bound, and decisions are made on the bound.
    bound = Tail(log10_p, log10_p, "none")
    return decide(bound, n_scored, alpha=alpha, n_powered=n_powered)


def _refuse_nothing(values: Sequence[EValue]) -> None:
    if not values:
        raise ResultError("there are no e-values to combine; expected at least one")


def _one_sign(values: Sequence[EValue]) -> bool:
    """True unless 0 and infinity meet."""
    logs = {v.log10_e for v in values}
    return not {-math.inf, math.inf} <= logs


def _assumptions(values: Sequence[EValue]) -> frozenset[Dependence]:
    return frozenset().union(*(v.rests_on for v in values))
