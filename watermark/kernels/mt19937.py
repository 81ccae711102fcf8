"""What torch draws from a seeded CPU generator, without torch: for marks that are defined by it.

`Generator.manual_seed(s)` starts MT19937 (Matsumoto and Nishimura 1998) by the low 32 bits of s.
`randperm(n)` is a forward Fisher-Yates shuffle: place i is swapped with place
i + (draw mod (n - i)), so that its first entries are known after as many steps. `rand(n)` takes
the low 24 bits of each draw. Everything here agrees with torch bit by bit (tested). Numpy serves
short inputs and numba long ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "cells",
    "draws_at",
    "first_entries",
    "key_blocks",
    "low_bits",
    "plus_modulo",
    "ranks",
    "times_modulo",
]

_MASK32: Final = np.uint64(0xFFFFFFFF)
_32: Final = np.uint64(32)
_MODULUS: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
# From this many lists on, importing numba (0.5 s) pays.
_COMPILE_FROM: Final = 64
_BLOCK: Final = 1 << 18


def plus_modulo(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Add modulo 2^64 - 1; where the result is 0, 2^64 - 1 may stand for it."""
    total = a + b
    carried: NDArray[np.uint64] = total + (total < a)
    return carried


def times_modulo(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Multiply modulo 2^64 - 1; where the result is 0, 2^64 - 1 may stand for it."""
    high_a, low_a, high_b, low_b = a >> _32, a & _MASK32, b >> _32, b & _MASK32
    # 2^64 is 1, so that a factor 2^32 rotates by half a word.
    middle = plus_modulo(_half_turn(high_a * low_b), _half_turn(low_a * high_b))
    return plus_modulo(plus_modulo(high_a * high_b, low_a * low_b), middle)


def _half_turn(a: NDArray[np.uint64]) -> NDArray[np.uint64]:
    turned: NDArray[np.uint64] = (a << _32) | (a >> _32)
    return turned


def low_bits(seeds: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return what counts of seeds modulo 2^64 - 1: the low 32 bits, 2^64 - 1 standing for 0."""
    return np.where(seeds == _MODULUS, np.uint64(0), seeds).astype(np.uint32)


def first_entries(seed: int, size: int, n_first: int) -> NDArray[np.int64]:
    """Compute the first entries of `torch.randperm(size)`.

    Args:
        seed: low 32 bits of the generator's seed.
        size: at most 2^31 - 1.
        n_first: how many, at most size.

    Returns:
        int64, shape (n_first,).
    """
    left = size - np.arange(n_first, dtype=np.uint32)
    swaps = np.arange(n_first) + _draws(seed, n_first) % left
    # Only places that were swapped are remembered.
    moved: dict[int, int] = {}
    entries = np.empty(n_first, np.int64)
    for place, partner in enumerate(swaps.tolist()):
        entries[place] = moved.get(partner, partner)
        moved[partner] = moved.get(place, place)
    return entries


def _draws(seed: int, n: int) -> NDArray[np.uint32]:
    """Return the first n 32-bit outputs."""
    # Numpy keeps the seeding of 1998 in its legacy generator only.
    generator = np.random.RandomState(seed)
    return generator.randint(0, 1 << 32, n, np.uint32)


def ranks(
    seeds: NDArray[np.uint32], tokens: NDArray[np.int64], size: int, n_first: int
) -> NDArray[np.int64]:
    """Tell where tokens stand in permutations of a vocabulary.

    Args:
        seeds: uint32, shape (n,), low 32 bits of the seed of each token's permutation.
        tokens: int64, shape (n,), in [0, size).
        size: of the vocabulary, at most 2^31 - 1.
        n_first: places that matter, at most size.

    Returns:
        int64, shape (n,): the place in `randperm(size)`, or -1 if it is n_first or later.
    """
    order = np.argsort(seeds, kind="stable")
    ordered, asked = seeds[order], tokens[order]
    new = np.flatnonzero(np.diff(ordered)) + 1
    found = np.empty(len(seeds), np.int64)
    if len(new) >= _COMPILE_FROM:
        from watermark.kernels import numba_mt19937

        found[order] = numba_mt19937.ranks(ordered, asked, size, n_first)
        return found
    for one in np.split(order, new) if len(order) else ():
        rank = np.full(size, -1)
        rank[first_entries(int(seeds[one[0]]), size, n_first)] = np.arange(n_first)
        found[one] = rank[tokens[one]]
    return found


def cells(
    seeds: NDArray[np.uint32], tokens: NDArray[np.int64], size: int, n_green: int
) -> NDArray[np.int64]:
    """Give tokens cells of a green list: the place in the permutation if that is green.

    The shuffle is stopped when the green list is complete. Red tokens are spread over the red
    cells by a fixed mix of seed and token: which red cell says nothing.

    Args:
        seeds: uint32, shape (n,), low 32 bits of the seed of each token's permutation.
        tokens: int64, shape (n,), in [0, size).
        size: of the vocabulary.
        n_green: green cells.

    Returns:
        int64, shape (n,), in [0, size); below n_green exactly if the token is green.
    """
    rank = ranks(seeds, tokens, size, n_green)
    mixed = (seeds.astype(np.uint64) << _32) | tokens.astype(np.uint64)
    for _ in range(2):
        mixed = (mixed ^ (mixed >> _32)) * np.uint64(0x9E3779B97F4A7C15)
    red = n_green + ((mixed >> _32) % np.uint64(size - n_green)).astype(np.int64)
    return np.where(rank < 0, red, rank)


def key_blocks(n_keys: int, n_pairs: int) -> Iterator[slice]:
    """Cut many keys into blocks whose words need little memory (some 20 MB), one key at least."""
    size = max(_BLOCK // max(n_pairs, 1), 1)
    return (slice(start, start + size) for start in range(0, n_keys, size))


def draws_at(seeds: NDArray[np.uint32], places: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return single outputs of generators.

    Args:
        seeds: uint32, shape (n,), low 32 bits of the seeds.
        places: int64, shape (n,): output number 0, 1, ... of the generator.

    Returns:
        uint32, shape (n,).
    """
    order = np.lexsort((places, seeds))
    ordered, asked = seeds[order], places[order]
    new = np.flatnonzero(np.diff(ordered)) + 1
    found = np.empty(len(seeds), np.uint32)
    if len(new) >= _COMPILE_FROM:
        from watermark.kernels import numba_mt19937

        found[order] = numba_mt19937.draws_at(ordered, asked)
        return found
    for one in np.split(order, new) if len(order) else ():
        found[one] = _draws(int(seeds[one[0]]), int(places[one[-1]]) + 1)[places[one]]
    return found
