"""Where in and around a window the marked segments begin and end: estimates, no claims.

A score s counts as the log-likelihood ratio of the score law, tilted to a strength t, against the
null: t s - K(t), that is score minus the drift K(t) / t, which lies between the null mean and that
of marked text. The likeliest segmentation is the best sum over its segments less 2 ln n for each of
them (as in Schwarz' criterion: two edges, each one of n), for the best strength of a grid. In text
of one kind a dip wins x with probability about n e^-x: one segment in n is cut for nothing.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.planning.tilting import tilt_to
from detect.segments.windows import Pairs
from watermark.schemes.laws import ScoreLaw

__all__ = ["estimate_segments"]

_LEAST_EXCESS: Final = 1e-9
_LEAST_SWING: Final = 1.0
# Strengths tried, as multiples of the window's own: it may hold unmarked text too.
_STRENGTHS: Final = 2.0 ** np.arange(-1, 6, 0.5)
_CHUNK: Final = 512


def estimate_segments(
    pairs: Pairs,
    law: ScoreLaw,
    window: tuple[int, int],
    stretch: tuple[int, int],
    *,
    n_tokens: int,
) -> list[tuple[int, int]]:
    """Find the likeliest marked segments in a window and at most half its length beyond.

    Args:
        pairs: the scored pairs.
        law: null law of a score.
        window: the window, with more evidence than its surroundings.
        stretch: what is free around it; nothing outside is looked at.
        n_tokens: n, length of the document.

    Returns:
        First token and token after the last of each, in order; none where there is too little to
        estimate from.
    """
    reach = (window[1] - window[0]) // 2
    members = pairs.within(max(window[0] - reach, stretch[0]), min(window[1] + reach, stretch[1]))
    at, scores = pairs.positions[members], pairs.scores[members]
    first, beyond = np.searchsorted(at, window).tolist()
    inside = scores[first:beyond]
    # With one more score as under the null, the mean is never the largest score possible.
    mean = (float(inside.sum()) + law.mean) / (len(inside) + 1)
    if mean - law.mean < _LEAST_EXCESS:
        return []
    strength = tilt_to(law, mean)
    if not math.isfinite(strength):
        return []
    strengths = np.append(_STRENGTHS * strength, strength)
    strengths = strengths[strengths < law.t_max]
    drifts = law.cumulants(strengths).value
    own = float(strength * inside.sum() - drifts[-1] * len(inside))
    least = max(min(2 * math.log(n_tokens), own), _LEAST_SWING)
    best = max(
        (_segmentation(t * scores - k, least) for t, k in zip(strengths, drifts, strict=True)),
        key=lambda found: found[0],
    )
    return [(int(at[i]), int(at[j - 1]) + 1) for i, j in best[1]]


def _segmentation(gains: NDArray[np.float64], least: float) -> tuple[float, list[tuple[int, int]]]:
    """Choose disjoint intervals [i, j) with the best sum of gains, less `least` for each.

    Returns:
        That sum, and the intervals: the rises between the lows and highs of the running sum, where
        swings smaller than `least` are no swings. (Two rises with a smaller dip between are better
        taken as one; a smaller rise is better left out.)
    """
    curve = np.concatenate([[0.0], np.cumsum(gains)])
    turns = _turns(curve, least)
    rises = list(zip(turns[::2], turns[1::2], strict=True))
    return sum(float(curve[j] - curve[i]) - least for i, j in rises), rises


def _turns(curve: NDArray[np.float64], least: float) -> list[int]:
    """Return the indices of lows and highs by turns, a low first, a high last."""
    turns: list[int] = []
    start, sign = 0, 1.0
    while (end := _first_swing(sign * curve, start, least)) is not None:
        start += int(np.argmin(sign * curve[start : end + 1]))
        turns.append(start)
        sign = -sign
    if sign < 0:
        turns.append(start + int(np.argmax(curve[start:])))
    return turns


def _first_swing(curve: NDArray[np.float64], start: int, least: float) -> int | None:
    """Return where the curve is first `least` above its lowest point since the start."""
    size = _CHUNK
    while True:
        part = curve[start : start + size]
        risen = part - np.minimum.accumulate(part) >= least
        if risen.any():
            return start + int(np.argmax(risen))
        if start + size >= len(curve):
            return None
        size *= 2
