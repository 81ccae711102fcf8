"""How few keys an engine's hash tells apart, and what that leaves of a p-value.

H0 says that the tested material is independent of the key, which is drawn uniformly. Material that
somebody marked under another key of the same engine satisfies it, and with probability 2^-bits that
key has the words of ours: then the sum is that of marked text, whatever its tail says. So of text
that may be such P(p <= x) is at most x + 2^-bits, and no less can be promised. Our own keys have
128 bits, for which nobody would ask.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.results import Tail
from watermark.word_sources import WordSource

__all__ = ["key_floor", "like_keys_limit", "with_floor", "with_key_floor"]

# Keys with so many different words are distinct if their integers are, as those of our own PRF.
_ENOUGH_BITS: Final = 128
_LOG2_10: Final = math.log2(10)


def key_floor(source: WordSource, n_keys: int = 1) -> float:
    """Bound what a stranger's key may do: log10 of n_keys 2^-bits.

    Args:
        source: what makes the words.
        n_keys: keys that are searched.

    Returns:
        The logarithm; -inf for keys of 128 bits and more.
    """
    bits = source.distinct_key_bits
    return -math.inf if bits >= _ENOUGH_BITS else math.log10(n_keys) - bits / _LOG2_10


def with_floor(log10_p: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Add a floor to p-values, and cut them at 1; all are logarithms to base 10."""
    if floor > -math.inf:
        log10_p = np.logaddexp2(log10_p * _LOG2_10, floor * _LOG2_10) / _LOG2_10
    return np.minimum(log10_p, 0.0)


def with_key_floor(null: Tail, source: WordSource, n_keys: int = 1) -> Tail:
    """Add the floor to the ceiling of a tail, on which verdicts rest.

    Args:
        null: the tail of a sum of independent scores.
        source: what makes the words; where they depend on each other, the null is another one,
            which knows of other keys (`WordSource.null`).
        n_keys: keys whose scores are added up.

    Returns:
        The tail; the same for our own words, and where nothing was scored.
    """
    floor = key_floor(source, n_keys)
    if floor == -math.inf or source.null != "independent" or null.method == "none":
        return null
    ceiling = float(with_floor(np.array(null.log10_p_ceiling), floor))
    return Tail(null.log10_p, ceiling, null.method)


def like_keys_limit(source: WordSource) -> tuple[str, ...]:
    """Say what no p-value of an engine's words can be smaller than; nothing of our own."""
    floor = key_floor(source)
    if floor == -math.inf or source.null != "independent":
        return ()
    return (
        f"{source.name} tells at most 2^{source.distinct_key_bits} keys apart. Text that somebody "
        f"else marked under another key of that engine has the words of this one with p = "
        f"{10**floor:.0e}: against that explanation no smaller p-value holds, and verdicts count "
        "it in.",
    )
