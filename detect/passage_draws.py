"""How large is the ratio of passages where there are none? Markov's bound, sharpened by draws.

1 / ratio is a p-value that gives away a factor of about 50: most ratios that exceed x exceed it by
far. P(ratio >= x) under H0 is the mean of 1 / ratio over texts *with* passages whose ratio is at
least x, and such texts can be drawn: their ratios depend on the number of pairs alone. With M of
them, r_1 .. r_M, and x itself among the terms,

    p = (1 / x + sum over r_i >= x of 1 / r_i) / (M + 1)

is a p-value for every M, and at most 1 / x (Harrison, Biometrika 99, 2012). The reason: let all
M + 1 be drawn from the alternative, of which the observed one weighs 1 / x. By symmetry P(p <= a)
is the mean over k of the weights of those r_k for which all weights from r_k upwards add up to at
most a (M + 1): together these are at most a (M + 1).

It is exact over draws and keys together. The draws are fixed once and for all, so that nobody can
choose among them; given them the level is some 20 % off, to either side, and more
where there are fewer (above some 1,000 pairs).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.passages import PassageTable, forward_log_ratios, prior_of
from detect.scoring.cells import cell_bounds

__all__ = ["drawn_log_ratios", "log_p_values"]

_SEED: Final = 20_261_126
# Draws; fewer for long texts, whose pairs all have to be drawn.
_MOST: Final = 4000
_LEAST: Final = 200
_MOST_PAIRS: Final = 3_000_000
# What two orders of adding up can differ by counts as a tie.
_TIE: Final = 1e-9


def log_p_values(
    table: PassageTable, log_ratios: NDArray[np.float64], n_pairs: int
) -> NDArray[np.float64]:
    """Compute ln p of ratios.

    H0: the text does not depend on the key. See the module.

    Args:
        table: of the scheme.
        log_ratios: float64, shape (k,), of texts of so many pairs (`detect.passages.log_ratios`).
        n_pairs: at least 1.

    Returns:
        float64, shape (k,), at most -log_ratios.
    """
    n_draws = max(min(_MOST, _MOST_PAIRS // n_pairs), _LEAST)
    drawn, weights = _tail_weights(table, n_pairs, n_draws, _SEED)
    above = weights[np.searchsorted(drawn, log_ratios - _TIE)]
    found: NDArray[np.float64] = np.logaddexp(-log_ratios, above) - math.log(n_draws + 1)
    return np.minimum(found, -log_ratios)


@lru_cache(maxsize=16)
def _tail_weights(
    table: PassageTable, n_pairs: int, n_draws: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sort the draws; ln of the summed 1 / ratio of each one and all above, and of none."""
    drawn = np.sort(drawn_log_ratios(table, n_pairs, n_draws, seed))
    weights = np.logaddexp.accumulate(-drawn[::-1])[::-1]
    return drawn, np.append(weights, -np.inf)


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
