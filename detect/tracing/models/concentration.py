"""Is more than a given part of a suspect's inherited signal one key's?

v_ik is the centred score of pair i under key k, m_ik its mean given the scores before it (pair by
pair, key by key). Where the words of a pair are uniform, m_ik is 0; where the suspect learned from
text under key k, it is above.

H0(b, r): sum_i m_ib <= r sum_i sum_{k != b} m_ik: key b's part of the signal is at most r times
that of the other keys together. r = 1 is "at most half". Alternative: it is more.

For increments Y >= -c and 0 <= t c < 1, exp(t Y - psi_c(t) Y^2) <= 1 + t Y with
psi_c(t) = (-ln(1 - t c) - t c) / c^2 (Fan, Grama and Liu, Electron. J. Probab. 20, 2015, lemma 4.1;
used like this by Howard et al., Annals of Statistics 49, 2021). The increments are v_ib and
-r v_ik, c is how far the score's law reaches, and so exp(t D - sum psi Y^2) has mean at most
exp(t (sum m_ib - r sum m_ik)), which H0 keeps below 1. D is the difference of the sums. The
average over a few t that were fixed by the null variances alone is an e-value, and p = 1 / e.

A rigorous bound under H0, not an exact value: it costs a few units of log10 p where the evidence is
deep. It needs nothing else: increments may depend on each other in any way and vary as they like,
documents may be clustered, scores may be weighted. What H0 means for a leak is another question:
`detect.tracing.models.leaks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.tracing.models.pair_laws import PairLaws

__all__ = ["Increments", "share_at_least"]

# Rates t in units of the best one for a Gaussian sum of the null variance.
_MULTIPLES: Final = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41)
# Of the largest rate at which the bound holds.
_MOST: Final = 0.95
# The parts that are tried, in steps of 1 / 100.
_STEPS: Final = 100


@final
@dataclass(frozen=True, eq=False)
class Increments:
    """Centred scores of all pairs under all keys, weights included, and how far they can reach.

    Attributes:
        own: float64, shape (n,), of the key that is asked about.
        others: float64, shape (keys - 1, n), of the other keys.
        below: float64, shape (n,): no centred score is less than minus this.
        above: float64, shape (n,): none is more than this.
        variance: sum of the null variances of one key's scores.
    """

    own: NDArray[np.float64]
    others: NDArray[np.float64]
    below: NDArray[np.float64]
    above: NDArray[np.float64]
    variance: float

    @classmethod
    def of(cls, scores: NDArray[np.float64], laws: PairLaws, key: int) -> Increments:
        """Centre scores.

        Args:
            scores: float64, shape (keys, n), times their weights.
            laws: of the same.
            key: the row that is asked about.

        Returns:
            The increments; scores beyond the end of their law are cut to it.
        """
        centred = np.clip(scores, laws.low, laws.high) - laws.mean
        return cls(
            centred[key],
            np.delete(centred, key, axis=0),
            laws.mean - laws.low,
            laws.high - laws.mean,
            float(laws.variance.sum()),
        )

    @cached_property
    def _squares(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Squares of the own scores, and of the others' added up over the keys."""
        others: NDArray[np.float64] = np.einsum("kn,kn->n", self.others, self.others)
        return self.own**2, others

    def difference(self, odds: float) -> float:
        """Own sum less `odds` times the others', in null standard deviations of it."""
        n_others = len(self.others)
        deviation = math.sqrt(self.variance * (1 + odds**2 * n_others))
        return float(self.own.sum() - odds * self.others.sum()) / deviation if deviation else 0.0

    def log10_p(self, odds: float, level: float) -> float:
        """Bound the p-value of H0 at `odds`: log10 of min(1 / e, 1); see `log_e`."""
        return min(-self.log_e(odds, level) / math.log(10), 0.0)

    def log_e(self, odds: float, level: float) -> float:
        """Compute ln of the e-value against H0 at `odds`; see the module.

        Args:
            odds: r, at least 0; infinite odds are never exceeded.
            level: the p-value that is hoped for, which sets the rates; fixed beforehand.

        Returns:
            The natural logarithm; 0 where nothing was scored.
        """
        if not self.variance or not math.isfinite(odds):
            return 0.0
        difference = float(self.own.sum() - odds * self.others.sum())
        spread = self.variance * (1 + odds**2 * len(self.others))
        reach = odds * self.above
        furthest = max(float(self.below.max()), float(reach.max()))
        own, others = self._squares
        logs = []
        for multiple in _MULTIPLES:
            rate = multiple * math.sqrt(2 * math.log(1 / level) / spread)
            rate = min(rate, _MOST / furthest)
            paid = float(_psi(rate, self.below) @ own + odds**2 * (_psi(rate, reach) @ others))
            logs.append(rate * difference - paid)
        return float(np.logaddexp.reduce(logs)) - math.log(len(logs))


def share_at_least(increments: Increments, level: float) -> float:
    """Bound one key's part of the signal from below.

    Args:
        increments: of the key.
        level: the chance that the bound is above the truth.

    Returns:
        The largest part x, in whole hundredths, for which "at most x" is rejected at `level`
        together with every part below it; 0 if none is. Rejection need not be monotone in x: beyond
        the first part that is not rejected nothing is looked at, and to be above the truth the
        bound must reject the one true hypothesis next to it.
    """
    last = 0.0
    for step in range(_STEPS):
        odds = step / (_STEPS - step)
        if increments.log10_p(odds, level) > math.log10(level):
            break
        last = step / _STEPS
    return last


def _psi(rate: float, reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """(-ln(1 - t c) - t c) / c^2, which tends to t^2 / 2 as c does to 0."""
    x = rate * reach
    small = x < 1e-4
    safe = np.where(small, 0.5, x)
    value = (-np.log1p(-safe) - safe) / safe**2
    result: NDArray[np.float64] = rate**2 * np.where(small, 0.5 + x / 3, value)
    return result
