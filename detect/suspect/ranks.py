"""The rank of one item among others that are exchangeable with it, over many groups.

H0: the groups are independent, and in each the first item is as likely to stand in any place as
each of the others. Alternative: it tends to score higher. Given the scores of a group as a set,
the first item's rank is then uniform over the places; where scores tie, the middle of the tied
ranks is taken, whose law given the pattern of ties is known as well. So no coin is thrown, and the
sum of ranks has an exact law: a convolution (`detect.tails.mixed_sums`). With one comparison a
group this is the sign test, with many Wilcoxon's idea carried to groups of one's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from detect.results import Tail
from detect.sequential.calibrators.rank_bets import RankBets
from detect.sequential.eprocess import EProcess
from detect.tails.convolution import Part
from detect.tails.mixed_sums import mixed_tail
from watermark.schemes.laws import Tabulated

__all__ = ["Rank", "RankSum", "rank_first", "sum_ranks"]


@final
@dataclass(frozen=True, slots=True)
class Rank:
    """Where the first item of one group stands.

    Attributes:
        low: its rank from below, 1 to m, the lowest of those that it ties for.
        high: the highest of them.
        ties: sizes of the groups of equal scores, from the lowest score up; they sum to m.
    """

    low: int
    high: int
    ties: tuple[int, ...]

    @property
    def size(self) -> int:
        """All items of the group, m."""
        return sum(self.ties)

    @property
    def centred(self) -> int:
        """Twice the middle rank, less its mean m + 1."""
        return self.low + self.high - self.size - 1

    @property
    def is_informative(self) -> bool:
        """True if not all scores are equal."""
        return len(self.ties) > 1


class RankSum(NamedTuple):
    """What the ranks of many groups say.

    Attributes:
        statistic: sum of the centred ranks.
        tail: its exact upper tail.
        process: the e-process over the groups in their order.
        lowest: log10 of the smallest p that these groups could have given.
    """

    statistic: int
    tail: Tail
    process: EProcess
    lowest: float


def rank_first(scores: Sequence[float]) -> Rank:
    """Rank the first score among all.

    Args:
        scores: of one group; -inf is a score, NaN is none.

    Returns:
        The rank.

    Raises:
        ValueError: no scores, or NaN.
    """
    values = np.array(scores, np.float64)
    if not len(values) or np.isnan(values).any():
        raise ValueError("expected at least one score, all of them numbers")
    _, counts = np.unique(values, return_counts=True)
    below = int((values < values[0]).sum())
    return Rank(below + 1, below + int((values == values[0]).sum()), tuple(counts.tolist()))


def sum_ranks(ranks: Sequence[Rank]) -> RankSum:
    """Test the sum of the ranks of independent groups.

    H0 and alternative as the module says. Exact; beyond several million groups a bound.

    Args:
        ranks: informative ones, in the order in which their groups were drawn.

    Returns:
        The sum with its tail and e-process; p is 1 without any.
    """
    patterns = Counter(rank.ties for rank in ranks)
    parts = [Part(_law(ties), n) for ties, n in patterns.items()]
    statistic = sum(rank.centred for rank in ranks)
    places = np.array([(r.low - 1, r.high, r.size) for r in ranks], np.uint32).reshape(-1, 3)
    lowest = sum(n * math.log10(ties[-1] / sum(ties)) for ties, n in patterns.items())
    process = EProcess(RankBets()).updated(places.T)
    return RankSum(statistic, mixed_tail(parts, statistic), process, lowest)


def _law(ties: tuple[int, ...]) -> Tabulated:
    """The law of a centred rank, given the pattern of ties."""
    sizes = np.array(ties, np.int64)
    high = np.cumsum(sizes)
    centred = 2 * high - sizes - sizes.sum()
    return Tabulated(1.0, centred, sizes / sizes.sum())
