"""Bets on scores: exponential tilts of any score, and the closed form for green counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from detect.sequential.calibrators.base import Calibrator, Known, Scored, log_mean
from detect.tails.nulls import log_tails
from watermark.schemes.laws import Bernoulli

__all__ = ["BetaMixture", "Tilts", "tilts_for"]

# Mean shifts in null standard deviations: faint inheritance (0.008) to strong direct marks (2).
EFFECTS: Final = tuple(2.0**k for k in range(-7, 2))
_BISECTIONS = 60
_FARTHEST = 64.0  # null standard deviations


@final
@dataclass(frozen=True, slots=True)
class Tilts(Calibrator):
    """Exponential tilts of any score: factors exp(t s - K(t)), K the score's null log-MGF.

    Exact: the mean is 1 (at most 1 for Gumbel-type schemes, whose scores on the grid of words lie
    below the law's). A weight a turns the tilt t into a t.

    Attributes:
        source: the score and its law.
        tilts: the t, equally weighted; see `tilts_for`.
    """

    source: Scored
    tilts: tuple[float, ...]

    @property
    def n_totals(self) -> int:
        """One log-product for each tilt."""
        return len(self.tilts)

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Log factors; see `Calibrator.summaries`."""
        t, scores = np.array(self.tilts), self.source.score(words)[:, None]
        if known.weights is None:
            factors: NDArray[np.float64] = t * scores - self.source.law.cumulants(t).value
            return factors
        # A table's K is a sum over the table: once for each weight that occurs.
        weights, place = np.unique(known.weights, return_inverse=True)
        weighed = np.outer(weights, t)
        weighed_factors: NDArray[np.float64] = weighed[place] * scores
        return weighed_factors - self.source.law.cumulants(weighed).value[place]

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Mix the products; see `Calibrator.log_e`."""
        return log_mean(totals)


def tilts_for(source: Scored, effects: tuple[float, ...] = EFFECTS) -> Tilts:
    """Choose tilts by the law alone, on a geometric grid of effects.

    Args:
        source: the score and its law.
        effects: mean shifts of the score under the tilted law, in null standard deviations;
            those that the law cannot reach are left out.

    Returns:
        The calibrator.
    """
    law = source.law
    deviation = math.sqrt(law.variance)
    target = law.mean + deviation * np.array(effects)
    edge = min(law.t_max, _FARTHEST / deviation)
    low, high = np.zeros(len(target)), np.full(len(target), edge)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        # Not above: an effect that the law only nears, at t = infinity, is out of reach.
        below = law.cumulants(middle).first <= target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    reached = high < edge * (1 - 1e-9)
    return Tilts(source, tuple(low[reached].tolist()))


@final
@dataclass(frozen=True, slots=True)
class BetaMixture(Calibrator):
    """Green counts under a uniform prior on the green probability above gamma: a closed form.

        E_n = int_gamma^1 theta^S (1 - theta)^(n - S) d theta / ((1 - gamma) gamma^S
        (1 - gamma)^(n - S)),

    exact at any depth; its regret grows like (1/2) ln n. Weights are not taken.

    Attributes:
        source: a score that is 0 or 1.
    """

    source: Scored

    def __post_init__(self) -> None:
        if not isinstance(self.source.law, Bernoulli):
            raise TypeError(f"expected a Bernoulli score, got {self.source.law}")

    @property
    def n_totals(self) -> int:
        """The green count."""
        return 1

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """1 for green; see `Calibrator.summaries`."""
        if known.weights is not None:
            raise ValueError("BetaMixture takes no weights; use Tilts")
        return self.source.score(words)[:, None]

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Evaluate the closed form; see `Calibrator.log_e`."""
        gamma, s = float(self.source.law.mean), totals[..., 0]
        red = n_scored - s
        # The incomplete part is P(Binomial(n + 1, gamma) <= S), a tail of the reds.
        above = log_tails(Bernoulli(1 - gamma), (red + 1).ravel(), (n_scored + 1).ravel())
        posterior = betaln(s + 1, red + 1) + above.reshape(s.shape)
        log_e: NDArray[np.float64] = (
            posterior - math.log1p(-gamma) - s * math.log(gamma) - red * math.log1p(-gamma)
        )
        return log_e
