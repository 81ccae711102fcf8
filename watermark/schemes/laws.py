"""The null law of one token's score, as a scheme declares it.

Under the null hypothesis a word is a uniform 32-bit integer, so that the score of a token has a
known law whatever the text. `detect.tails.nulls` turns laws into tails of sums.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bernoulli",
    "Cumulants",
    "Exponential",
    "LayeredBits",
    "ScoreLaw",
    "Tabulated",
]


class Cumulants(NamedTuple):
    """A log-moment-generating function and its first two derivatives, at the same points."""

    value: NDArray[np.float64]
    first: NDArray[np.float64]
    second: NDArray[np.float64]


class ScoreLaw(ABC):
    """The law of one score. `t_min` and `t_max` bound where its log-MGF is finite (open ends)."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """Mean of the score."""

    @property
    @abstractmethod
    def variance(self) -> float:
        """Variance of the score."""

    @property
    def t_min(self) -> float:
        """Infimum of t with a finite log-MGF."""
        return -math.inf

    @property
    def t_max(self) -> float:
        """Supremum of t with a finite log-MGF."""
        return math.inf

    @abstractmethod
    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Evaluate K(t) = ln E[exp(t * score)] and its derivatives.

        Args:
            t: float64, any shape, inside (t_min, t_max).

        Returns:
            K, K' and K'', each of the same shape.
        """


def _fair_or_not(t: NDArray[np.float64], probability: float) -> Cumulants:
    """Cumulants of a Bernoulli variable, stable for large |t|."""
    value = np.logaddexp(math.log1p(-probability), math.log(probability) + t)
    first = np.exp(math.log(probability) + t - value)
    return Cumulants(value, first, first * np.exp(math.log1p(-probability) - value))


@final
@dataclass(frozen=True)
class Bernoulli(ScoreLaw):
    """1 with the given probability, else 0."""

    probability: float

    @property
    def mean(self) -> float:
        """The probability."""
        return self.probability

    @property
    def variance(self) -> float:
        """P (1 - p)."""
        return self.probability * (1 - self.probability)

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Evaluate ln(1 - p + p e^t); see `ScoreLaw.cumulants`."""
        return _fair_or_not(t, self.probability)


@final
@dataclass(frozen=True)
class Exponential(ScoreLaw):
    """Exponential with mean 1."""

    @property
    def mean(self) -> float:
        """1."""
        return 1.0

    @property
    def variance(self) -> float:
        """1."""
        return 1.0

    @property
    def t_max(self) -> float:
        """1."""
        return 1.0

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Evaluate -ln(1 - t); see `ScoreLaw.cumulants`."""
        first = 1 / (1 - t)
        return Cumulants(-np.log1p(-t), first, first * first)


@final
@dataclass(frozen=True)
class LayeredBits(ScoreLaw):
    """Sum of independent fair bits with positive integer weights: a law on a lattice."""

    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 1:
            raise ValueError(f"weights must be positive integers, got {self.weights}")

    @property
    def mean(self) -> float:
        """Half the sum of the weights."""
        return sum(self.weights) / 2

    @property
    def variance(self) -> float:
        """A quarter of the sum of squared weights."""
        return sum(w * w for w in self.weights) / 4

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Sum the cumulants of the bits; see `ScoreLaw.cumulants`."""
        total = [np.zeros_like(t), np.zeros_like(t), np.zeros_like(t)]
        for w in self.weights:
            value, first, second = _fair_or_not(w * t, 0.5)
            total[0] += value
            total[1] += w * first
            total[2] += w * w * second
        return Cumulants(*total)


@final
@dataclass(frozen=True, eq=False)
class Tabulated(ScoreLaw):
    """Finitely many values on a lattice: what a table of scores over words gives.

    Attributes:
        step: spacing of the lattice; a score is `step` times an integer.
        values: int64, shape (m,), strictly ascending.
        probabilities: float64, shape (m,), positive, of sum 1.
    """

    step: float
    values: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def __post_init__(self) -> None:
        total = float(self.probabilities.sum())
        if not self.step > 0 or not len(self.values) or (np.diff(self.values) <= 0).any():
            raise ValueError("a table of scores needs a positive step and ascending values")
        if (self.probabilities <= 0).any() or abs(total - 1) > 1e-12:
            raise ValueError(f"probabilities must be positive and sum to 1, not to {total}")

    @property
    def mean(self) -> float:
        """Mean of the table."""
        return float(self.probabilities @ self.values) * self.step

    @property
    def variance(self) -> float:
        """Variance of the table."""
        centred = self.values * self.step - self.mean
        return float(self.probabilities @ centred**2)

    def times(self, weight: int) -> Tabulated:
        """Return the law of the score times a whole weight; a negative one turns it round."""
        turned = slice(None, None, 1 if weight > 0 else -1)
        return Tabulated(self.step, self.values[turned] * weight, self.probabilities[turned])

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Sum over the table, stable for large |t|; see `ScoreLaw.cumulants`."""
        scores = self.values * self.step
        exponents = np.multiply.outer(np.asarray(t, np.float64), scores)
        largest = exponents.max(axis=-1, keepdims=True)
        weights = self.probabilities * np.exp(exponents - largest)
        total = weights.sum(axis=-1)
        first = weights @ scores / total
        second = (weights * (scores - first[..., None]) ** 2).sum(axis=-1) / total
        return Cumulants(largest[..., 0] + np.log(total), first, second)
