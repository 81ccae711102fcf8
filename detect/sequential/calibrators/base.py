"""Calibrators: bets on words that gain nothing under the null.

H0: the words of the scored pairs are independent, uniform 32-bit integers. A bet turns one word
into a factor f(word) >= 0 with E[f] <= 1 under H0, so that the product of factors is a non-negative
supermartingale: an e-process (`detect.sequential.eprocess`). The alternative's strength is unknown;
a calibrator therefore holds a family of bets and mixes their *products* with weights that are fixed
before any word is looked at. What a mixture loses against its best member is at most -ln(that
member's weight), whatever the number of words.

Rounding cannot make a mean exceed 1: bets on Gumbel-type words rise with u and are evaluated at
the lower end of the word's cell, which leaves their mean below 1 by more than a double's error.
The other laws are discrete; their means are 1 to 1e-16, which 10^8 words raise to 1e-8 nats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.laws import ScoreLaw

__all__ = ["Calibrator", "Known", "Mixture", "Scored", "log_mean"]


class Scored(Protocol):
    """A score of words with its null law; every `Scheme` is one."""

    @property
    def law(self) -> ScoreLaw:
        """The null law of one score."""

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words of shape (n_streams, n); gives shape (n,)."""


class Known(NamedTuple):
    """What is known of each pair before its word is looked at.

    Attributes:
        weights: float64, shape (n,), in [0, 1]: the part of each bet that is placed; None is all.
            They may depend on text, public models, context counts and words already scored.
        log_probs: float64, shape (n,): natural log-probability of each token under a reference
            model; only `Likelihood` reads it.
    """

    weights: NDArray[np.float64] | None = None
    log_probs: NDArray[np.float64] | None = None


class Calibrator(ABC):
    """A family of bets with fixed weights. Concrete ones are frozen dataclasses.

    `summaries` says what a word adds to running totals, `log_e` what totals are worth.
    """

    @property
    @abstractmethod
    def n_totals(self) -> int:
        """Length of the running totals."""

    @abstractmethod
    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Summarise words so that sums are all that is needed.

        Args:
            words: uint32, shape (n_streams, n).
            known: what was known before.

        Returns:
            float64, shape (n, n_totals).
        """

    @abstractmethod
    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compute ln E from summed summaries.

        Args:
            totals: float64, shape (..., n_totals).
            n_scored: int64, shape (...), words in them.

        Returns:
            float64, shape (...); 0 for no words.
        """


@final
@dataclass(frozen=True, slots=True)
class Mixture(Calibrator):
    """Several calibrators, equally weighted: as good as the best of them but for ln(how many).

    Attributes:
        parts: the calibrators.
    """

    parts: tuple[Calibrator, ...]

    @property
    def n_totals(self) -> int:
        """Those of the parts, one after the other."""
        return sum(part.n_totals for part in self.parts)

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Put the parts' side by side; see `Calibrator.summaries`."""
        return np.concatenate([part.summaries(words, known) for part in self.parts], axis=1)

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Average the parts' e-values; see `Calibrator.log_e`."""
        ends = np.cumsum([part.n_totals for part in self.parts])[:-1]
        pieces = np.split(totals, ends, axis=-1)
        return log_mean(
            np.stack(
                [part.log_e(t, n_scored) for part, t in zip(self.parts, pieces, strict=True)],
                axis=-1,
            )
        )


def log_mean(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute ln of the mean of exponentials over the last axis.

    Args:
        logs: float64, shape (..., k), finite, k at least 1.

    Returns:
        float64, shape (...).
    """
    largest = logs.max(axis=-1)
    total: NDArray[np.float64] = np.exp(logs - largest[..., None]).sum(axis=-1)
    mean: NDArray[np.float64] = largest + np.log(total / logs.shape[-1])
    return mean
