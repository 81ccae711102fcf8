"""Scores as whole units: their sums are the same in any order, on any number of machines."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.cells import N_CELLS
from detect.scoring.score_tables import Scorer, ScoreTable
from watermark.kernels.grouped_pairs import BYTES, ONE_CELL, THRESHOLD, TWO_CELLS, Lookup
from watermark.schemes.laws import Exponential, Tabulated
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

__all__ = ["FINE_STEP", "kernel_cells", "lookup_of", "score_step", "score_units"]

# Scores off a lattice are rounded down to one: a sum of integers is the same in any order.
FINE_STEP: Final = 2.0**-32
# Where a kernel looks for the upper half of the words, and how many cells a side has.
_UPPER: Final = 128
_SIDE: Final = N_CELLS // 2


def score_step(scorer: Scorer) -> float:
    """Tell of what the scores are multiples.

    Args:
        scorer: the score.

    Returns:
        The lattice's step; for scores of a continuous law 2^-32, to which they are rounded down: a
        p-value can only grow by that.
    """
    if isinstance(scorer.law, Tabulated):
        return scorer.law.step
    return FINE_STEP if isinstance(scorer.law, Exponential) else 1.0


def score_units(scorer: Scorer, words: NDArray[np.uint32]) -> NDArray[np.signedinteger]:
    """Score words in steps, rounded down.

    Args:
        scorer: the score.
        words: uint32, shape (n_streams, n).

    Returns:
        int32 where the score is on a lattice, else int64; shape (n,).
    """
    if isinstance(scorer, ScoreTable):
        return scorer.units_of(words).astype(np.int32)
    step = score_step(scorer)
    units = np.floor(scorer.score(words) / step)
    return units.astype(np.int64 if step == FINE_STEP else np.int32)


def lookup_of(scorer: Scorer) -> Lookup | None:
    """Write a score as what kernels look up.

    Args:
        scorer: the score.

    Returns:
        The same units as `score_units` for every word; None for a score that has no such form.
    """
    match scorer:
        case ScoreTable():
            return _cells(scorer)
        case RedGreen():
            return _lookup(THRESHOLD, np.array([scorer.first_red], np.uint32).view(np.int32), 1)
        case Tournament():
            return _bytes(scorer)
    return None


def _lookup(kind: int, units: NDArray[Any], largest: int) -> Lookup:
    table: NDArray[np.int32] = units.astype(np.int32)
    return Lookup(kind, table, largest)


def kernel_cells() -> NDArray[np.int64]:
    """List the cell of `detect.scoring.cells` for each cell of a kernel, int64, shape (256,)."""
    cells = np.zeros(2 * _UPPER, np.int64)
    cells[:_SIDE] = np.arange(_SIDE)
    cells[_UPPER : _UPPER + _SIDE] = N_CELLS - 1 - np.arange(_SIDE)
    return cells


@lru_cache(maxsize=8)
def _cells(scorer: ScoreTable) -> Lookup:
    cells = kernel_cells()
    largest = max(int(np.abs(scorer.units).max()), 1)
    if scorer.n_streams == 1:
        return _lookup(ONE_CELL, scorer.units[cells], largest)
    return _lookup(TWO_CELLS, scorer.units[np.ix_(cells, cells)].reshape(-1), largest)


@lru_cache(maxsize=8)
def _bytes(scorer: Tournament) -> Lookup:
    values = np.arange(256, dtype=np.uint32)
    tables = [score_units(scorer, (values << np.uint32(s))[None]) for s in (24, 16, 8, 0)]
    return _lookup(BYTES, np.concatenate(tables), sum(int(table.max()) for table in tables))
