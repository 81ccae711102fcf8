"""Scores times whole weights, one weight for each token, with the exact law of their sum.

The weights were fixed before any word was looked at. Whole numbers keep the sum on the lattice of
the score, so that its null law is a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.score_tables import Scorer
from detect.tails.convolution import Part
from detect.tails.mixed_sums import MixedLaw, as_table
from watermark.errors import ConfigError

__all__ = ["WeightedScorer"]


@final
@dataclass(frozen=True, eq=False)
class WeightedScorer:
    """Scores the tokens of one text, in their order, under any number of keys.

    Attributes:
        scorer: what scores a word; its law must live on a lattice.
        weights: int64, shape (n,), at least 1.
    """

    scorer: Scorer
    weights: NDArray[np.int64]

    def __post_init__(self) -> None:
        if as_table(self.scorer.law) is None:
            raise ConfigError(
                f"the score {self.scorer.score_name!r} cannot be weighted exactly; "
                "use one on a lattice, for example the default"
            )

    @property
    def score_name(self) -> str:
        """How results call the score."""
        return f"{self.scorer.score_name}, weighted by contexts"

    @property
    def n_streams(self) -> int:
        """Word streams that the score reads."""
        return self.scorer.n_streams

    @property
    def law(self) -> MixedLaw:
        """The null law of the sum of all tokens' scores."""
        table = as_table(self.scorer.law)
        assert table is not None
        found, counts = np.unique(self.weights, return_counts=True)
        return MixedLaw(
            tuple(
                Part(table.times(w), n)
                for w, n in zip(found.tolist(), counts.tolist(), strict=True)
            )
        )

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words of the text's tokens under one key, or under several in a row.

        Args:
            words: uint32, shape (n_streams, keys * n).

        Returns:
            float64, shape (keys * n,).
        """
        n_keys = words.shape[1] // max(len(self.weights), 1)
        weighted: NDArray[np.float64] = self.scorer.score(words) * np.tile(self.weights, n_keys)
        return weighted
