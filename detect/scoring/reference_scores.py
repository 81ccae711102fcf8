"""Scores that know how likely each token was: likelihood ratios with a reference model.

A token that the model chose with probability p has u ~ Beta(1/p, 1) if it is marked. A reference
model, run on the same text, says p; the likelihood ratio (1/p) u^(1/p - 1) is then the best score
there is. Tokens are put on levels of -ln p, and each level has a table of its own on one common
lattice, so that the null law of the sum is exact. p is a function of the text and of a public
model alone, never of the key: a wrong reference model costs power, never validity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.alternatives import chosen_with
from detect.scoring.score_tables import ScoreTable, score_table
from detect.tails.convolution import Part
from detect.tails.mixed_sums import MixedLaw
from watermark.errors import DocumentError
from watermark.schemes import Scheme

__all__ = ["MARKED_SHARE", "ReferenceScorer", "TableSet", "levels_of", "reference_tables"]

# Presumed share of marked tokens where a text is tested directly: what an edit or a repeated
# context leaves unmarked then costs at most -ln(1 - share) nats.
MARKED_SHARE: Final = 0.95
_LEVEL_WIDTH: Final = 0.25  # nats
_N_LEVELS: Final = 49
_STEP: Final = 1 / 32  # nats


@final
@dataclass(frozen=True, eq=False)
class TableSet:
    """Tables on one lattice, one for each level of what is known of a token beforehand."""

    tables: tuple[ScoreTable, ...]

    @property
    def step(self) -> float:
        """Spacing of the lattice."""
        return self.tables[0].law.step

    def units(self, words: NDArray[np.uint32], levels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Score words by the tables of their levels.

        Args:
            words: uint32, shape (n_streams, n).
            levels: int64, shape (n,).

        Returns:
            int64, shape (n,), scores in steps of the lattice.
        """
        out = np.zeros(words.shape[1], np.int64)
        for level in np.unique(levels).tolist():
            members = levels == level
            out[members] = self.tables[level].units_of(words[:, members])
        return out

    def parts(
        self, levels: NDArray[np.int64], weights: NDArray[np.int64] | None = None
    ) -> list[Part]:
        """List the laws of the scores at these levels and weights, and how many of each."""
        if weights is None:
            weights = np.ones_like(levels)
        found, counts = np.unique(np.stack([levels, weights]), axis=1, return_counts=True)
        return [
            Part(self.tables[level].law.times(weight), n)
            for level, weight, n in zip(*found.tolist(), counts.tolist(), strict=True)
        ]


@final
@dataclass(frozen=True, eq=False)
class ReferenceScorer:
    """Scores the tokens of one text, in their order, under any number of keys.

    Attributes:
        tables: of the scheme.
        levels: int64, shape (n,), of the text's scored tokens.
        weights: int64, shape (n,), at least 1, that multiply the scores; None is all ones.
    """

    tables: TableSet
    levels: NDArray[np.int64]
    weights: NDArray[np.int64] | None = None

    @property
    def score_name(self) -> str:
        """How results call the score."""
        return "reference" if self.weights is None else "reference, weighted by contexts"

    @property
    def n_streams(self) -> int:
        """Word streams that the tables read."""
        return self.tables.tables[0].n_streams

    @property
    def law(self) -> MixedLaw:
        """The null law of the sum of all tokens' scores."""
        return MixedLaw(tuple(self.tables.parts(self.levels, self.weights)))

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words of the text's tokens under one key, or under several in a row.

        Args:
            words: uint32, shape (n_streams, keys * n).

        Returns:
            float64, shape (keys * n,).
        """
        n_keys = words.shape[1] // max(len(self.levels), 1)
        units = self.tables.units(words, np.tile(self.levels, n_keys))
        if self.weights is not None:
            units *= np.tile(self.weights, n_keys)
        return np.multiply(units, self.tables.step, dtype=np.float64)


@cache
def reference_tables(
    scheme: Scheme, marked_share: float = MARKED_SHARE, step: float = _STEP
) -> TableSet:
    """Make the tables of all levels for a scheme.

    Args:
        scheme: Gumbel-max with one or two keys.
        marked_share: share of tokens presumed to be marked, in (0, 1).
        step: of the lattice, in nats; small shares make small scores, which need a finer one.

    Returns:
        The tables.

    Raises:
        ConfigError: a scheme without a likelihood for single tokens.
    """
    # The middle of level 0 is not p = 1, whose ratio would be 1 whatever the word.
    depths = [_LEVEL_WIDTH / 4, *(_LEVEL_WIDTH * k for k in range(1, _N_LEVELS))]
    return TableSet(
        tuple(
            score_table(scheme, chosen_with(math.exp(-depth)), marked_share=marked_share, step=step)
            for depth in depths
        )
    )


def levels_of(log_probs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Put tokens on levels.

    Args:
        log_probs: float64, shape (n,), natural log of each token's probability under the
            reference model.

    Returns:
        int64, shape (n,).

    Raises:
        DocumentError: values that are no logarithms of probabilities.
    """
    if np.isnan(log_probs).any() or (log_probs > 1e-6).any():
        raise DocumentError(
            "log-probabilities must be at most 0 and not NaN; check the reference model"
        )
    levels = np.rint(-np.maximum(log_probs, -1e6) / _LEVEL_WIDTH).astype(np.int64)
    return np.minimum(levels, _N_LEVELS - 1)
