"""How large is the ratio of passages where there are none? Markov's bound, sharpened by draws.

1 / ratio is a p-value that gives away a factor of about 50: most ratios that exceed x exceed it by
far. Under H0

    P(ratio >= x) = E[1 / ratio; ratio >= x] = m(x) / x,   m(x) = E[x / ratio; ratio >= x],

with the means over texts *with* passages, and such texts can be drawn: their ratios depend on the
number of pairs alone. x / ratio lies in [0, 1], so that the mean of M draws bounds m(x) from above
by Chernoff's and Hoeffding's inequality: P(mean <= a) <= exp(-M KL(a, m)) for a < m (Hoeffding,
JASA 58, 1963, theorem 1).

The draws are fixed once and for all, so that nobody can choose among them, and bound every x of a
grid and every number of pairs at once: that of one scheme they do not, anywhere, had a chance of
10^-9 when they were drawn. Given that, P(p <= a) <= a for every a, also where Markov's bound is
taken for some ratios and the sharper one for others. Words that are rounded down (other engines'
grids) only lower a ratio, which grows with each word. Ratios between two points of the grid have
the p-value of the lower one; beyond the grid Markov's bound is left as it is.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import rel_entr

from detect.scoring.cells import cell_bounds
from detect.tracing.texts.passages import PassageTable, forward_log_ratios, prior_of

__all__ = ["drawn_log_ratios", "log_p_values"]

_SEED: Final = 20_261_126
# Draws; fewer for long texts, whose pairs all have to be drawn.
_MOST: Final = 4000
_LEAST: Final = 200
_MOST_PAIRS: Final = 3_000_000
# Points of the grid, from a ratio of 1 upwards, and ln of the step: a twentieth of a decade.
_POINTS: Final = 801
_STEP: Final = math.log(10) / 20
_LN_FAILURE: Final = math.log(1e-9)
# What two orders of adding up can differ by counts as a tie.
_TIE: Final = 1e-9


def log_p_values(
    table: PassageTable, log_ratios: NDArray[np.float64], n_pairs: int
) -> NDArray[np.float64]:
    """Bound ln P(ratio >= x) from above, for ratios x.

    H0: the text does not depend on the key. See the module.

    Args:
        table: of the scheme.
        log_ratios: float64, shape (k,), of texts of so many pairs (`log_ratios` of passages).
        n_pairs: at least 1.

    Returns:
        float64, shape (k,), at most -log_ratios; falling in them.
    """
    n_draws = max(min(_MOST, _MOST_PAIRS // n_pairs), _LEAST)
    bounds = _grid_bounds(table, n_pairs, n_draws, _SEED)
    place = np.floor((log_ratios - _TIE) / _STEP).astype(np.int64)
    is_on_grid = (place >= 0) & (place < len(bounds))
    sharper = np.where(is_on_grid, bounds[np.clip(place, 0, len(bounds) - 1)], np.inf)
    found: NDArray[np.float64] = np.minimum(sharper, -log_ratios)
    return found


@lru_cache(maxsize=16)
def _grid_bounds(table: PassageTable, n_pairs: int, n_draws: int, seed: int) -> NDArray[np.float64]:
    """Bound ln P(ratio >= x) at every point of the grid; falling."""
    drawn = np.sort(drawn_log_ratios(table, n_pairs, n_draws, seed))
    weights = np.append(np.logaddexp.accumulate(-drawn[::-1])[::-1], -np.inf)
    grid = _STEP * np.arange(_POINTS)
    means = np.exp(grid + weights[np.searchsorted(drawn, grid - _TIE)] - math.log(n_draws))
    # All lengths share the chance of failure: the sum of 1 / n^2 is pi^2 / 6.
    n_bounds = _POINTS * n_pairs**2 * math.pi**2 / 6
    entropy = (math.log(n_bounds) - _LN_FAILURE) / n_draws
    above = np.array([_largest_mean(min(mean, 1.0), entropy) for mean in means])
    return np.minimum.accumulate(np.log(above) - grid)


def _largest_mean(mean: float, entropy: float) -> float:
    """Find the m >= mean of which KL(mean, m) is as large as that."""

    def missing(m: float) -> float:
        return float(rel_entr(mean, m) + rel_entr(1 - mean, 1 - m)) - entropy

    highest = 1 - 1e-12
    if mean >= highest or missing(highest) <= 0:
        return 1.0
    # A little further: what the root finder leaves open counts against the accuser.
    return min(float(brentq(missing, mean, highest, xtol=1e-12)) + 1e-11, 1.0)


def drawn_log_ratios(
    table: PassageTable, n_pairs: int, n_draws: int, seed: int
) -> NDArray[np.float64]:
    """Draw texts with passages, and compute ln of their ratios.

    Args:
        table: of the scheme.
        n_pairs: of each text.
        n_draws: M.
        seed: of numpy's PCG64.

    Returns:
        float64, shape (n_draws,).
    """
    rng, prior = np.random.default_rng(seed), prior_of(n_pairs)
    values, outside, inside = _laws(table)
    is_inside = rng.random(n_draws) < prior.start

    def draw() -> NDArray[np.float64]:
        nonlocal is_inside
        chance = np.where(is_inside, 1 - prior.leave, prior.enter)
        is_inside = rng.random(n_draws) < chance
        place = rng.random(n_draws)
        found = np.where(is_inside, np.searchsorted(inside, place), np.searchsorted(outside, place))
        return values[np.minimum(found, len(values) - 1)]

    return forward_log_ratios((draw() for _ in range(n_pairs)), n_draws, prior)


def _laws(
    table: PassageTable,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The ratios of cells with words, ascending; how they are distributed outside and inside."""
    null = np.diff(cell_bounds()) / cell_bounds()[-1]
    if table.n_streams == 2:
        null = np.outer(null, null)
    values, place = np.unique(table.ratios, return_inverse=True)
    mass = np.bincount(place.reshape(-1), null.reshape(-1))
    marked = mass * values
    return values, np.cumsum(mass), np.cumsum(marked) / marked.sum()
