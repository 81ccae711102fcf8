"""Scores made for an alternative: log-likelihood ratios of cells of words, on a lattice.

A scheme's own score knows nothing of the text. Told what marked text looks like
(`detect.scoring.alternatives`), the best score of one token is the logarithm of a likelihood ratio.
With r the ratio of a cell of words and e the share of tokens that are presumed to be marked at all,
it is ln(1 + e (r - 1)): nearly the full ratio for e near 1 (direct text), nearly the locally best
score r - 1 for small e (inherited signal). With a fresh coin for each token between two keys, r is
(1 - alpha) r_A + alpha r_B.

Rounded to a lattice, a score has finitely many values with exactly known probabilities: the null
law (`Tabulated`) is exact for 32-bit words, whatever the alternative. A wrong alternative costs
power, never validity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.alternatives import Ensemble
from detect.scoring.cells import N_CELLS, cell_bounds, cell_of
from watermark.errors import ConfigError
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.laws import ScoreLaw, Tabulated

__all__ = ["ScoreTable", "Scorer", "cell_ratios", "score_table", "tabulate"]

# Steps of the lattice in a standard deviation: rounding costs power only, and little of it.
_STEPS_PER_DEVIATION = 32


class Scorer(Protocol):
    """What scores words: a scheme, or a table made for an alternative."""

    @property
    def score_name(self) -> str:
        """How results call the score."""

    @property
    def n_streams(self) -> int:
        """Word streams that the score reads."""

    @property
    def law(self) -> ScoreLaw:
        """The null law of one token's score."""

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words, uint32 of shape (n_streams, n); float64, shape (n,)."""


@final
@dataclass(frozen=True, eq=False)
class ScoreTable:
    """A score that is constant on cells of words.

    Attributes:
        units: int64, shape (N_CELLS,) for one stream or (N_CELLS, N_CELLS) for two: the score of
            each cell in steps of the lattice.
        law: the null law.
        score_name: how results call the score.
    """

    units: NDArray[np.int64]
    law: Tabulated
    score_name: str = "table"

    @property
    def n_streams(self) -> int:
        """Word streams that the table reads."""
        return self.units.ndim

    def units_of(self, words: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Look scores up, in steps of the lattice.

        Args:
            words: uint32, shape (n_streams, n).

        Returns:
            int64, shape (n,).
        """
        cells = cell_of(words)
        flat = cells[0] if self.n_streams == 1 else cells[0] * N_CELLS + cells[1]
        units: NDArray[np.int64] = np.take(self.units.reshape(-1), flat)
        return units

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words; see `Scorer.score`."""
        return np.multiply(self.units_of(words), self.law.step, dtype=np.float64)


def score_table(
    scheme: Scheme, alternative: Ensemble, *, marked_share: float, step: float | None = None
) -> ScoreTable:
    """Make the best score of one token for an alternative.

    Args:
        scheme: Gumbel-max with one or two keys.
        alternative: what marked tokens look like.
        marked_share: e, share of tokens presumed to be marked, in (0, 1).
        step: spacing of the lattice; None is a 32nd of the score's standard deviation.

    Returns:
        The table.

    Raises:
        ConfigError: a scheme whose own score is already the best of its kind.
    """
    if not 0 < marked_share < 1:
        raise ValueError(f"marked_share must lie in (0, 1), got {marked_share}")
    ratios, probabilities = cell_ratios(scheme, alternative)
    scores = np.log1p(marked_share * (ratios - 1))
    if step is None:
        step = _deviation(scores, probabilities) / _STEPS_PER_DEVIATION
    units = np.rint(scores / step).astype(np.int64)
    return ScoreTable(units, tabulate(units, probabilities, step))


def tabulate(
    units: NDArray[np.int64], probabilities: NDArray[np.float64], step: float
) -> Tabulated:
    """Add up the probabilities of cells with the same score.

    Args:
        units: int64, any shape, scores in steps.
        probabilities: float64, the same shape, of sum 1.
        step: spacing of the lattice.

    Returns:
        The law.
    """
    lowest = int(units.min())
    weights = probabilities.reshape(-1)
    mass = np.bincount((units - lowest).reshape(-1), weights=weights).astype(np.float64)
    values = np.flatnonzero(mass)
    return Tabulated(step, values + lowest, mass[values])


def cell_ratios(
    scheme: Scheme, alternative: Ensemble
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Likelihood ratios of cells and their null probabilities, of one or two dimensions."""
    bounds = cell_bounds()
    one, null = alternative.cell_ratios(bounds), np.diff(bounds) / bounds[-1]
    match scheme:
        case Gumbel():
            return one, null
        case DualGumbel(alpha):
            return (1 - alpha) * one[:, None] + alpha * one, np.outer(null, null)
        case _:
            raise ConfigError(
                f"scores for an alternative are made for gumbel and dual-gumbel; {scheme.name} "
                "is tested by its own score"
            )


def _deviation(scores: NDArray[np.float64], probabilities: NDArray[np.float64]) -> float:
    mean = float((scores * probabilities).sum())
    return math.sqrt(float(((scores - mean) ** 2 * probabilities).sum()))
