"""An e-process over rows of words: one weighted bet a context, all its tokens at once.

A row holds the words of several tokens in one context. H0: given everything before it, a row's
words are independent and uniform. Its weights w_v (how much more a suspect likes token v than a
reference does) and its scale s > 0 are known before the row. The factor

    f = exp(sum_v [s w_v score_v - K(s w_v)]),      K the score's null log-MGF,

then has mean 1 given the past, so that products of factors are e-processes and so are mixtures of
them with fixed weights. By Ville's inequality P(E_n >= 1 / alpha for any n) <= alpha. Exact, not
a bound on moments. Source: Ville 1939; Ramdas, Grunwald, Vovk and Shafer, Statist. Sci. 38
(2023).

For schemes whose scores are exact on the grid of words: red-green and tournament. Gumbel schemes
place bets (`detect.scoring.bets.log_factors`).

Scales: the best s is (mean of the row's sum) / (its variance), which nobody knows. Two shapes are
mixed over a geometric grid of effects: s = effect / d_i, d_i the row's own standard deviation
(every row shifts alike), and s = effect / root mean square of d_1 .. d_i (rows shift as their
weights do). Both look at weights of this row and of earlier rows only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.sequential.calibrators.base import log_mean
from watermark.schemes import Scheme

__all__ = ["EFFECTS", "log_bets", "log_e_of_rows", "row_scales"]

# Mean shifts of a row's sum in its null standard deviations: faint (0.016) to strong (1).
EFFECTS: Final = tuple(2.0**k for k in range(-6, 1))
# Largest |s w| in null standard deviations of a score: one word must not ruin a bet.
_LARGEST_TILT = 4.0


def row_scales(scheme: Scheme, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Choose the scales s of every bet, row by row, from weights alone.

    Args:
        scheme: the scheme, for its score's law.
        weights: float64, shape (n, k), rows in order, none of zeros only.

    Returns:
        float64, shape (n, 2 * len(EFFECTS)). Row i depends on weights of rows up to i.
    """
    law = scheme.law
    variances = law.variance * np.square(weights).sum(axis=1)
    running = np.cumsum(variances) / np.arange(1, len(weights) + 1)
    units = np.concatenate([variances[:, None] ** -0.5, running[:, None] ** -0.5], axis=1)
    scales = (units[:, :, None] * np.array(EFFECTS)).reshape(len(weights), 2 * len(EFFECTS))
    # Half of t_max: where the law has no exponential moments beyond, one word could rule all.
    limit = min(law.t_max / 2, _LARGEST_TILT / law.variance**0.5)
    capped: NDArray[np.float64] = np.minimum(scales, limit / np.abs(weights).max(axis=1)[:, None])
    return capped


def log_bets(
    scheme: Scheme,
    words: NDArray[np.uint32],
    weights: NDArray[np.float64],
    scales: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute ln f of every row under every bet.

    Args:
        scheme: the scheme.
        words: uint32, shape (n_streams, n, k).
        weights: float64, shape (n, k).
        scales: float64, shape (n, b), see `row_scales`.

    Returns:
        float64, shape (n, b). Their exponentials have mean 1 under H0.
    """
    n, k = weights.shape
    scores = scheme.score(words.reshape(len(words), n * k)).reshape(n, k)
    logs = np.empty(scales.shape)
    for bet in range(scales.shape[1]):
        tilts = scales[:, bet, None] * weights
        gains = tilts * scores - scheme.law.cumulants(tilts).value
        logs[:, bet] = gains.sum(axis=1)
    return logs


def log_e_of_rows(bets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mix the products of factors: ln E after each row.

    Args:
        bets: float64, shape (n, b), ln factors; see `log_bets`.

    Returns:
        float64, shape (n,).
    """
    return log_mean(np.cumsum(bets, axis=0))
