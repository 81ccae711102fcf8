"""Bets on ranks: what a logged answer does among its counterfactuals, if a model saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.sequential.calibrators.base import Calibrator, Known, log_mean

__all__ = ["RankBets"]

# From a shift of all ranks (1.25) to answers that come out on top of any number (16).
POWERS: Final = (1.25, 1.6, 2.5, 5.0, 16.0)
# Shares of answers that were seen; none is 1, so that no single rank can ruin a bet.
SHARES: Final = (0.9, 0.4, 0.1)


@final
@dataclass(frozen=True, slots=True)
class RankBets(Calibrator):
    """Bets on ranks among m: factors 1 + share (g - 1), g = m [(r/m)^a - ((r-1)/m)^a].

    The mean of g over r = 1 .. m is exactly 1. Ranks low .. high that tie share the average of g
    over them, which keeps the mean 1 for any pattern of ties. In place of words, `summaries` takes
    three rows of whole numbers for each item: low - 1, high and m.

    Attributes:
        powers: the a.
        shares: in (0, 1); all combinations are equally weighted products.
    """

    powers: tuple[float, ...] = POWERS
    shares: tuple[float, ...] = SHARES

    @property
    def n_totals(self) -> int:
        """One log-product for each power and share."""
        return len(self.powers) * len(self.shares)

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Log factors; see `Calibrator.summaries`."""
        if known.weights is not None:
            raise ValueError("RankBets takes no weights")
        below, high, m = words.astype(np.float64)[:, :, None]
        powers = np.array(self.powers)
        gain = m * ((high / m) ** powers - (below / m) ** powers) / (high - below)
        factors = 1 + np.array(self.shares) * (gain[:, :, None] - 1)
        logs: NDArray[np.float64] = np.log(factors).reshape(len(gain), self.n_totals)
        return logs

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Mix the products; see `Calibrator.log_e`."""
        return log_mean(totals)
