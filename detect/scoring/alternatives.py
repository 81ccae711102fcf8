"""What marking does to the word of a chosen token: the alternatives that scores are made for.

A Gumbel-max token that the model chooses with probability p has u ~ Beta(1/p, 1) under the mark:
P(u <= x) = x^(1/p). A text is a mixture over the probabilities of its tokens (Li et al., Annals of
Statistics 2025; statistics.md B2), and so are the least favourable texts of the minimax score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["TYPICAL", "Ensemble", "chosen_with", "minimax"]


@final
@dataclass(frozen=True)
class Ensemble:
    """Tokens of several probabilities.

    Attributes:
        probabilities: p of a chosen token under the unmarked model, in (0, 1].
        shares: share of tokens with each, positive, of sum 1.
    """

    probabilities: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(self.shares) or not self.shares:
            raise ValueError("as many probabilities as shares are needed, at least one")
        if not all(0 < p <= 1 for p in self.probabilities):
            raise ValueError("probabilities of tokens must lie in (0, 1]")
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError("shares of tokens must be positive and sum to 1")

    def cell_ratios(self, bounds: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the likelihood ratio of each cell of words, marked against unmarked.

        Args:
            bounds: int64, shape (c + 1,), where cells begin, from 0 to 2^32.

        Returns:
            float64, shape (c,), P(cell | marked) / P(cell | null), of null mean 1; 1 for cells
            without words.
        """
        u = bounds / bounds[-1]
        width = np.diff(u)
        total = np.zeros(len(width))
        for p, share in zip(self.probabilities, self.shares, strict=True):
            total += share * _power_steps(u, 1 / p)
        return np.where(width > 0, total / np.where(width > 0, width, 1.0), 1.0)


def _power_steps(u: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Differences of u^exponent, precise where neighbours are nearly equal."""
    lower, upper = u[:-1], u[1:]
    with np.errstate(divide="ignore"):
        ratio = np.log(lower) - np.log(upper)
    return np.exp(exponent * np.log(upper, where=upper > 0, out=np.full(len(upper), -np.inf))) * (
        -np.expm1(exponent * ratio)
    )


def chosen_with(probability: float) -> Ensemble:
    """Know the probability of the token: the ratio (1/p) u^(1/p - 1)."""
    return Ensemble((probability,), (1.0,))


def minimax(delta: float) -> Ensemble:
    """Make the least favourable text whose likeliest token never exceeds 1 - delta.

    Its log ratio is the minimax score h_delta of Li, Ruan, Wang, Long and Su (Annals of
    Statistics 53, 2025): ln(floor(1/(1-d)) u^(d/(1-d)) + u^(d'/(1-d'))), d' the rest.

    Args:
        delta: in (0, 1).

    Returns:
        The ensemble.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")
    count = math.floor(1 / (1 - delta))
    rest = 1 - count * (1 - delta)
    if rest <= 1e-12:
        return Ensemble((1 - delta,), (1.0,))
    return Ensemble((1 - delta, rest), (count * (1 - delta), rest))


# How likely the tokens of text are that a small chat model wrote (SmolLM2-135M-Instruct,
# temperature 1, top-k 50): shares of bins of -ln p and their mean probabilities, as
# benchmarks.token_depths measures them. Another model's text costs power only.
TYPICAL: Final = Ensemble(
    (0.97, 0.804, 0.58, 0.37, 0.2, 0.084, 0.031, 0.0114, 0.00426, 0.00155, 0.00029),
    (0.0963, 0.0873, 0.1161, 0.1206, 0.1464, 0.1519, 0.1119, 0.0841, 0.0604, 0.0229, 0.0021),
)
