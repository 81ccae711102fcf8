"""The hash that all versions of SynthID-Text share: a linear congruential generator.

    h <- (h + datum) * 6364136223846793005 + 1   modulo 2^64

over the h context tokens, the token, and then, for each layer by itself, the layer's key. It is
linear: with s the state after the token, a layer's hash is that of s plus the layer's key. All
layers are therefore one function of s, shifted by keys of their own, and whatever s and another
pair's s have in common they have in common under every key.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.schemes import Scheme
from watermark.schemes.tournament import Tournament

__all__ = [
    "MULTIPLIER",
    "accumulate",
    "after_tokens",
    "check_layers",
    "check_tournament",
    "hash_contexts",
]

MULTIPLIER: Final = np.uint64(6364136223846793005)
_INCREMENT: Final = np.uint64(1)


def accumulate(
    hashes: NDArray[np.uint64], datum: NDArray[np.uint64] | np.uint64
) -> NDArray[np.uint64]:
    """Take one datum into hashes, uint64, of shapes that broadcast."""
    return (hashes + datum) * MULTIPLIER + _INCREMENT


def hash_contexts(start: int, contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash contexts.

    Args:
        start: the hash of nothing, below 2^64.
        contexts: int64, shape (n, h), oldest first.

    Returns:
        uint64, shape (n, 1).
    """
    hashes = np.full(len(contexts), start, np.uint64)
    for column in contexts.astype(np.uint64).T:
        hashes = accumulate(hashes, column)
    return hashes[:, None]


def after_tokens(hashes: NDArray[np.uint64], token_ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Take the tokens in: uint64, the shape of `token_ids`, (n,) or (n, K)."""
    contexts = hashes if token_ids.ndim == 2 else hashes[:, 0]
    return accumulate(contexts, token_ids.astype(np.uint64))


def check_tournament(source: str, n_layers: int, scheme: Scheme) -> None:
    """Refuse all but the tournament with a layer for each key.

    Raises:
        ConfigError: says what the system has.
    """
    if not isinstance(scheme, Tournament):
        raise ConfigError(
            f"{source} has only the scheme tournament (ngram_len is context_width + 1), got "
            f"{scheme.name}"
        )
    if scheme.n_layers != n_layers:
        raise ConfigError(
            f"{source} has one key for each layer: give the source and the scheme the same "
            f"n_layers, got {n_layers} and {scheme.n_layers}"
        )


def check_layers(source: str, n_layers: int) -> None:
    """Refuse numbers of layers that a word of 32 bits cannot hold.

    Raises:
        ConfigError: such a number.
    """
    if type(n_layers) is not int or not 1 <= n_layers <= 32:
        raise ConfigError(f"{source}: n_layers must lie in 1 to 32, got {n_layers}")
