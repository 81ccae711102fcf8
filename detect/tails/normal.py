"""Tails of weighted sums of normal scores, weights of either sign.

S = sum_i w_i s_i. H0: the words are independent and uniform, and the weights do not depend on them.
Normal scores of continuous words make S exactly normal, however uneven the weights are. Words lie
on a grid of 2^-32: the value is the normal tail, off by some 1e-9 of it unless a single pair near
the end of the grid rules the sum. The ceiling is Chernoff's bound exp(K(t) - t s) at t = s, with a
rigorous toll for the grid (`watermark.schemes.laws.Normal`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from detect.results import Tail
from watermark.schemes.laws import Normal

__all__ = ["normal_tail"]

_LN10 = math.log(10)


def normal_tail(law: Normal, weights: NDArray[np.float64], statistic: float) -> Tail:
    """Compute P(S >= statistic).

    Args:
        law: law of one score.
        weights: float64, shape (n,), finite, at least one not 0.
        statistic: observed sum_i w_i s_i.

    Returns:
        The normal tail, method "normal", under a rigorous ceiling.
    """
    # In two steps: squares of very large or small weights would overflow or vanish.
    largest = float(np.abs(weights).max())
    scaled = weights / largest
    size = math.sqrt(float(scaled @ scaled))
    z = statistic / largest / size
    log_p = float(log_ndtr(-z))
    if z <= 0:
        return Tail(log_p / _LN10, 0.0, "normal")
    bound = float(law.cumulants(z / size * scaled).value.sum()) - z * z
    return Tail(log_p / _LN10, min(max(bound, log_p) / _LN10, 0.0), "normal")
