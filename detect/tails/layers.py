"""Tails of tournament sums whose layers are one function of the pairs under keys of their own.

S = sum_l w_l T_l, where T_l counts the ones of layer l over the scored pairs. H0: the text is
independent of the key, and layer keys were drawn independently and uniformly. Given the text, which
of N known totals belong to the layers is then a uniform choice without replacement
(`watermark.word_sources.Layers`): a permutation test, exact whatever the pairs, their repeats and
the hash, and as deep as (1 / N)^m. Layers of equal keys have equal totals and are taken together.

The tail of independent draws is a convolution (`detect.tails.convolution`). Draws without
replacement are independent ones, given that these are distinct; so their tail is at most that of
independent draws divided by the probability that G of them are distinct, prod_{i<G} (1 - i / N):
0.7 % more for 30 layers of 65,536 keys, 2.7 % for 16,414.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect.results import Tail
from detect.tails.convolution import Part
from detect.tails.mixed_sums import mixed_tail
from watermark.schemes.laws import Tabulated
from watermark.word_sources import Layers

__all__ = ["independent_layers_tail", "layer_parts", "layers_tail"]


def layers_tail(weights: Sequence[int], layers: Layers, statistic: int) -> Tail:
    """Bound P(S >= statistic); see the module.

    Args:
        weights: positive integers, one for each layer.
        layers: what the layers can sum to.
        statistic: the observed sum_l w_l T_l.

    Returns:
        The bound, as value and as ceiling: within the factor above of the exact tail. Where the sum
        is too large to be convolved the ceiling is Chernoff's bound.
    """
    together = np.bincount(layers.same, weights=weights).astype(np.int64)
    independent = independent_layers_tail(together.tolist(), layers.totals, statistic)
    n = len(layers.totals)
    log10_distinct = float(np.log1p(-np.arange(len(together)) / n).sum()) / math.log(10)
    return Tail(
        min(independent.log10_p - log10_distinct, 0.0),
        min(independent.log10_p_ceiling - log10_distinct, 0.0),
        independent.method,
    )


def independent_layers_tail(
    weights: Sequence[int], totals: NDArray[np.int64], statistic: int
) -> Tail:
    """Compute P(S >= statistic) for layers that each draw one of the totals, independently.

    Args:
        weights: positive integers, one for each layer.
        totals: int64, shape (N,), equally likely.
        statistic: the observed sum.

    Returns:
        The tail, exact where it can be convolved (`mixed_tail`).
    """
    parts, middle = layer_parts(weights, totals)
    above = statistic - middle
    if len(parts[0].law.values) == 1:
        highest = sum(part.n * int(part.law.values[0]) for part in parts)
        return Tail(0.0 if above <= highest else -math.inf, 0.0, "exact")
    return mixed_tail(parts, above)


def layer_parts(weights: Sequence[int], totals: NDArray[np.int64]) -> tuple[list[Part], int]:
    """Write independent layers as parts of a convolution.

    Args:
        weights: positive integers, one for each layer.
        totals: int64, shape (N,), equally likely.

    Returns:
        The parts, and what they leave out of the sum: near zero, totals of billions lose no digits.
    """
    middle = int(np.median(totals))
    values, counts = np.unique(totals - middle, return_counts=True)
    law = Tabulated(1.0, values, counts / len(totals))
    distinct, multiplicity = np.unique(np.asarray(weights), return_counts=True)
    parts = [
        Part(law.times(w), n) for w, n in zip(distinct.tolist(), multiplicity.tolist(), strict=True)
    ]
    return parts, middle * sum(weights)
