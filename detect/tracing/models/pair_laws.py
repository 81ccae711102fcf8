"""The law of each pair's score: mean, variance and the values that it cannot leave.

`MixedLaw` says how many scores have which law; bounds on sums of dependent scores need to know
which score has which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.scoring.bets import BetScorer, bet_law
from detect.scoring.reference_scores import ReferenceScorer
from detect.scoring.score_tables import Scorer
from detect.scoring.weighted_scores import WeightedScorer
from detect.tails.mixed_sums import as_table
from watermark.schemes.laws import Exponential, ScoreLaw, Tabulated

__all__ = ["PairLaws", "pair_laws"]

# Scores without an end are cut here: e^-8 of the null mass lies beyond.
_CUT: Final = 8.0


class PairLaws(NamedTuple):
    """The null laws of the scores of n pairs, each float64, shape (n,).

    Attributes:
        mean: of a score.
        variance: of a score.
        low: no score is below.
        high: no score is above; scores beyond are to be cut to it.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def times(self, weights: NDArray[np.float64] | None) -> PairLaws:
        """Multiply the scores by weights of either sign."""
        if weights is None:
            return self
        ends = np.sort(np.stack([weights * self.low, weights * self.high]), axis=0)
        return PairLaws(weights * self.mean, weights**2 * self.variance, ends[0], ends[1])


def pair_laws(scorer: Scorer, n: int) -> PairLaws:
    """Tell the law of each pair's score.

    Args:
        scorer: of the words of n pairs, in their order.
        n: how many pairs.

    Returns:
        The laws.

    Raises:
        TypeError: a scorer whose laws are not known.
    """
    match scorer:
        case BetScorer(scheme, bets):
            return _by_kind(
                np.stack([bets.levels, bets.stakes]), lambda kind: bet_law(scheme, *kind)
            )
        case ReferenceScorer(tables, levels, weights):
            ones = np.ones_like(levels) if weights is None else weights
            return _by_kind(
                np.stack([levels, ones]), lambda kind: tables.tables[kind[0]].law.times(kind[1])
            )
        case WeightedScorer(inner, weights):
            table = as_table(inner.law)
            assert table is not None
            return _by_kind(weights[None], lambda kind: table.times(kind[0]))
        case _:
            return _spread(_four(scorer.law), np.zeros(n, np.int64))


def _by_kind(kinds: NDArray[np.int64], law: Callable[[tuple[int, ...]], ScoreLaw]) -> PairLaws:
    found, group = np.unique(kinds, axis=1, return_inverse=True)
    rows = [_four(law(tuple(kind))) for kind in found.T.tolist()]
    return _spread(np.array(rows).reshape(-1, 4).T, group.reshape(-1))


def _spread(values: NDArray[np.float64], group: NDArray[np.int64]) -> PairLaws:
    return PairLaws(*values.reshape(4, -1)[:, group])


def _four(law: ScoreLaw) -> NDArray[np.float64]:
    """Mean, variance, least and largest value of a law."""
    if isinstance(law, Exponential):
        # Of min(X, c): mean 1 - e^-c, second moment 2 - 2 (1 + c) e^-c.
        left = np.exp(-_CUT)
        mean, second = 1 - left, 2 - 2 * (1 + _CUT) * left
        return np.array([mean, second - mean**2, 0.0, _CUT])
    table = as_table(law)
    if not isinstance(table, Tabulated):
        raise TypeError(f"no bounds are known for the scores of {type(law).__name__}")
    ends = np.array([table.values[0], table.values[-1]]) * table.step
    return np.array([table.mean, table.variance, *ends])
