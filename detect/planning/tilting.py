"""Laws of scores where the mark is: exponential tilts, dilution, and sums over answers.

Tilting a law by t multiplies its density by exp(t s): whatever the scheme, a weak signal is a tilt
of the null law, to first order; and texts that carry more or less of a mark are tilts of one law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.laws import Cumulants, ScoreLaw

__all__ = ["Alternative", "AnswerLaw", "Diluted", "tilt_to"]


@final
@dataclass(frozen=True, eq=False)
class Alternative:
    """Scores where the mark is.

    Attributes:
        law: of one score; independent within a text.
        tilts: float64, shape (J,): text j has `law` exponentially tilted by tilts[j], so that its
            mean is K'(tilts[j]); the texts are equally likely.
    """

    law: ScoreLaw
    tilts: NDArray[np.float64]
    at_tilts: Cumulants = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at_tilts", self.law.cumulants(self.tilts))

    @property
    def mean(self) -> float:
        """Mean of a score, over texts."""
        return float(self.at_tilts.first.mean())

    @classmethod
    def shifted(cls, null: ScoreLaw, effect: float) -> Alternative:
        """Tilt the null law itself: what a weak signal is, to first order, for any scheme.

        Args:
            null: the null law.
            effect: mean shift in null standard deviations.
        """
        return cls(null, np.array([tilt_to(null, null.mean + effect * math.sqrt(null.variance))]))


@final
@dataclass(frozen=True, eq=False)
class Diluted(ScoreLaw):
    """A marked score with probability `share`, a null score otherwise."""

    marked: ScoreLaw
    null: ScoreLaw
    share: float

    @property
    def mean(self) -> float:
        """Mean of the mixture."""
        return self.share * self.marked.mean + (1 - self.share) * self.null.mean

    @property
    def variance(self) -> float:
        """Variance of the mixture."""
        between = self.share * (1 - self.share) * (self.marked.mean - self.null.mean) ** 2
        return self.share * self.marked.variance + (1 - self.share) * self.null.variance + between

    @property
    def t_min(self) -> float:
        """The narrower domain of the two."""
        return max(self.marked.t_min, self.null.t_min)

    @property
    def t_max(self) -> float:
        """The narrower domain of the two."""
        return min(self.marked.t_max, self.null.t_max)

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Mix the moment-generating functions; see `ScoreLaw.cumulants`."""
        parts = [self.marked.cumulants(t), self.null.cumulants(t)]
        return _mix(
            np.stack([k.value for k in parts], axis=-1),
            np.stack([k.first for k in parts], axis=-1),
            np.stack([k.second for k in parts], axis=-1),
            np.array([self.share, 1 - self.share]),
        )


@final
@dataclass(frozen=True, eq=False)
class AnswerLaw(ScoreLaw):
    """The summed score of one answer: `n_pairs` scores of a text that is drawn at random."""

    alternative: Alternative
    n_pairs: int

    @property
    def mean(self) -> float:
        """Mean of an answer's sum."""
        return self.n_pairs * self.alternative.mean

    @property
    def variance(self) -> float:
        """Within answers and between them."""
        k = self.alternative.at_tilts
        return float(self.n_pairs * k.second.mean() + self.n_pairs**2 * k.first.var())

    @property
    def t_max(self) -> float:
        """Where the most tilted text's log-MGF ends."""
        return self.alternative.law.t_max - float(self.alternative.tilts.max())

    def cumulants(self, t: NDArray[np.float64]) -> Cumulants:
        """Mix the moment-generating functions of the texts; see `ScoreLaw.cumulants`."""
        tilts, base = self.alternative.tilts, self.alternative.at_tilts
        k = self.alternative.law.cumulants(t[..., None] + tilts)
        m = self.n_pairs
        weights = np.full(len(tilts), 1 / len(tilts))
        return _mix(m * (k.value - base.value), m * k.first, m * k.second, weights)


def _mix(
    value: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> Cumulants:
    """Cumulants of a mixture of laws along the last axis, weighed by their MGFs."""
    largest = value.max(axis=-1, keepdims=True)
    shares = weights * np.exp(value - largest)
    total = shares.sum(axis=-1)
    shares /= total[..., None]
    mean = (shares * first).sum(axis=-1)
    spread = (shares * (second + (first - mean[..., None]) ** 2)).sum(axis=-1)
    return Cumulants(largest[..., 0] + np.log(total), mean, spread)


@lru_cache(maxsize=65536)
def tilt_to(law: ScoreLaw, mean: float) -> float:
    """Solve K'(t) = mean: the exponential tilt of a law that has this mean.

    Args:
        law: the law.
        mean: the mean wanted.

    Returns:
        The tilt; an infinity where no tilt gets there.
    """
    # Here, since it takes as long to import as a text takes to test.
    from scipy.optimize import brentq

    def excess(t: float) -> float:
        return float(law.cumulants(np.array([t])).first[0]) - mean

    # The law's own mean may differ from this by rounding, which would leave no bracket.
    lacking = -excess(0.0)
    if lacking == 0:
        return 0.0
    sign = 1.0 if lacking > 0 else -1.0
    edge = law.t_max if sign > 0 else -law.t_min
    near, far = 0.0, min(1 / math.sqrt(law.variance), edge / 2)
    for _ in range(60):
        if sign * excess(sign * far) >= 0:
            return float(brentq(excess, sign * near, sign * far, xtol=1e-14, rtol=1e-13))
        near, far = far, (far + edge) / 2 if math.isfinite(edge) else 2 * far
    return sign * math.inf
