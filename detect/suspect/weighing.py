"""How pairs that a suspect and a reference were read on become one statistic.

H0: the words are independent and uniform; the pairs and all that is known of them depend on models
and texts alone. Alternative: the suspect prefers tokens whose words are high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from detect.results import Tail
from detect.scoring.bets import TELLING, BetScorer, moving, place_bets
from detect.scoring.score_tables import Scorer
from detect.suspect.reading import PairWeights
from detect.tails.mixed_sums import MixedLaw
from detect.tails.weighted import weighted_tail
from watermark.contexts import group_rows
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel

__all__ = ["Weighed", "weigh"]


@final
@dataclass(frozen=True)
class Weighed:
    """The pairs of a statistic, what scores them, and their weights.

    Attributes:
        scorer: of the words of all pairs, in their order.
        contexts: int64, shape (n, h).
        tokens: int64, shape (n,).
        weights: float64, shape (n,), or None where the scores hold them.
    """

    scorer: Scorer
    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    weights: NDArray[np.float64] | None

    @property
    def n_telling(self) -> int:
        """Distinct contexts in which a bet is large enough to tell anything; without bets, all."""
        least = TELLING if isinstance(self.scorer, BetScorer) else 0.0
        return len(group_rows(self.contexts[self.sizes >= least])[0])

    @property
    def sizes(self) -> NDArray[np.float64]:
        """How much each pair can matter, float64, shape (n,): absolute weights or stakes."""
        if isinstance(self.scorer, BetScorer):
            return self.scorer.bets.sizes
        assert self.weights is not None
        return np.abs(self.weights)

    def only(self, kept: NDArray[np.int64]) -> Weighed:
        """Keep some pairs."""
        scorer, weights = self.scorer, self.weights
        if isinstance(scorer, BetScorer):
            scorer = BetScorer(scorer.scheme, scorer.bets.only(kept))
        return Weighed(
            scorer,
            self.contexts[kept],
            self.tokens[kept],
            None if weights is None else weights[kept],
        )

    def statistic(self, scores: NDArray[np.float64]) -> float:
        """Add scores up, each less its mean."""
        centred = scores - self.scorer.law.mean
        return float(centred.sum() if self.weights is None else self.weights @ centred)

    def tail(self, centred: float) -> Tail:
        """Compute P(S >= s), s less its mean given: exact for bets, else as `weighted_tail`."""
        law = self.scorer.law
        if isinstance(law, MixedLaw):
            return law.tail(centred + law.n * law.mean)
        assert self.weights is not None
        return weighted_tail(law, self.weights, centred)


def weigh(scheme: Scheme, pairs: PairWeights) -> Weighed:
    """Place a bet on each pair; or weigh the scheme's own score, where no single token has a ratio.

    Args:
        scheme: of the mark under test.
        pairs: what was read.

    Returns:
        The pairs that count.
    """
    if not isinstance(scheme, Gumbel | DualGumbel):
        return Weighed(scheme, pairs.contexts, pairs.tokens, pairs.weights)
    bets = place_bets(pairs.gained, pairs.likely)
    placed = moving(scheme, bets)
    scorer = BetScorer(scheme, bets.only(placed))
    return Weighed(scorer, pairs.contexts[placed], pairs.tokens[placed], None)
