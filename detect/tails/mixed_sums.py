"""Tails of sums whose scores have several laws on one lattice: the convolution, or its saddlepoint.

What a token's score is made for may differ from token to token (its probability under a reference
model, a weight), as long as it was fixed before any word was looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.results import Tail
from detect.tails.convolution import MAX_LENGTH, Part, convolution_log_tails, window_length
from detect.tails.saddlepoint import SumCumulants, saddlepoint_tail
from watermark.schemes.laws import Bernoulli, Cumulants, LayeredBits, ScoreLaw, Tabulated

__all__ = ["MixedLaw", "as_table", "mixed_tail"]


@final
@dataclass(frozen=True, eq=False)
class MixedLaw(ScoreLaw):
    """The law of one of n scores, drawn at random, of which each has a law of its own.

    n times its cumulants are those of the sum of all n: it stands for sums of exactly these scores.

    Attributes:
        parts: the laws, and how many scores of each, of one step.
    """

    parts: tuple[Part, ...]

    @property
    def n(self) -> int:
        """How many scores there are."""
        return sum(part.n for part in self.parts)

    @property
    def mean(self) -> float:
        """Mean of the scores' means."""
        return sum(part.n * part.law.mean for part in self.parts) / max(self.n, 1)

    @property
    def variance(self) -> float:
        """Mean of the scores' variances: that of the sum, divided by n."""
        return sum(part.n * part.law.variance for part in self.parts) / max(self.n, 1)

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Average the cumulants of the scores; see `ScoreLaw.cumulants`."""
        total = [np.zeros_like(t), np.zeros_like(t), np.zeros_like(t)]
        for law, n in self.parts:
            for slot, value in zip(total, law.cumulants(t), strict=True):
                slot += n / self.n * value
        return Cumulants(*total)

    def tail(self, statistic: float) -> Tail:
        """Compute P(S >= statistic) for the sum of all n scores."""
        if not self.n:
            return Tail(0.0, 0.0, "none")
        return mixed_tail(self.parts, round(statistic / self.parts[0].law.step))


def mixed_tail(parts: Sequence[Part], statistic: int) -> Tail:
    """Compute P(S >= statistic) for the sum of all parts.

    H0: the words are independent and uniform; which law a score has was fixed before. Exact where
    the convolution fits into memory (several million tokens), beyond that a saddlepoint value under
    a rigorous ceiling.

    Args:
        parts: laws of one step, and how many scores of each.
        statistic: the observed sum in steps of the lattice.

    Returns:
        The tail; without scores p is 1, method "none".
    """
    parts = [part for part in parts if part.n]
    if not parts:
        return Tail(0.0, 0.0, "none")
    if window_length(parts) <= MAX_LENGTH:
        logs = convolution_log_tails(parts, np.array([statistic]))
        log10_p = float(logs[0]) / math.log(10)
        return Tail(log10_p, log10_p, "exact")
    step = parts[0].law.step
    mean = sum(part.n * part.law.mean for part in parts)
    deviation = math.sqrt(sum(part.n * part.law.variance for part in parts))
    return saddlepoint_tail(
        _PartSum(tuple(parts), deviation), (statistic * step - mean) / deviation
    )


def as_table(law: ScoreLaw) -> Tabulated | None:
    """Write a law on the integers as a table.

    Args:
        law: any law.

    Returns:
        The table; None for a law that lives on no lattice.
    """
    match law:
        case Tabulated():
            return law
        case Bernoulli(probability):
            return Tabulated(1.0, np.array([0, 1]), np.array([1 - probability, probability]))
        case LayeredBits(weights):
            mass = np.ones(1)
            for weight in weights:
                mass = (np.pad(mass, (0, weight)) + np.pad(mass, (weight, 0))) / 2
            values = np.flatnonzero(mass)
            return Tabulated(1.0, values, mass[values])
        case _:
            return None


class _PartSum(NamedTuple):
    """The sum of all parts, centred and scaled."""

    parts: tuple[Part, ...]
    deviation: float

    def cumulants(self, t: float) -> SumCumulants:
        at, total = np.array(t / self.deviation), [0.0, 0.0, 0.0]
        for law, n in self.parts:
            k = law.cumulants(at)
            total[0] += n * (float(k.value) - float(at) * law.mean)
            total[1] += n * (float(k.first) - law.mean) / self.deviation
            total[2] += n * float(k.second) / self.deviation**2
        return SumCumulants(*total)

    def domain(self) -> tuple[float, float]:
        return -math.inf, math.inf
