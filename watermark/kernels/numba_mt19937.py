"""`watermark.kernels.mt19937` compiled by numba, on all cores."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

__all__ = ["draws_at", "first_entries", "green_bits", "ranks"]

_N, _M = 624, 397
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_MATRIX, _ZERO, _ONE = np.uint32(0x9908B0DF), np.uint32(0), np.uint32(1)
_B, _C = np.uint32(0x9D2C5680), np.uint32(0xEFC60000)
_7, _11, _15, _18, _30 = (np.uint32(b) for b in (7, 11, 15, 18, 30))
# With more tokens asked of one list than this, shuffling beats following each of them.
_FOLLOW = 40
# Lists that one thread works through with the same scratch memory.
_CHUNK = 64


@njit(cache=True)
def _start(state, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    state[0] = seed
    for i in range(1, _N):
        before = np.uint64(state[i - 1] ^ (state[i - 1] >> _30))
        state[i] = np.uint32(np.uint64(1812433253) * before + np.uint64(i))


@njit(cache=True)
def _twist(state):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    # Three loops, so that each reads at one distance and can be vectorised.
    for k in range(_N - _M):
        y = (state[k] & _UPPER) | (state[k + 1] & _LOWER)
        state[k] = state[k + _M] ^ (y >> _ONE) ^ (_MATRIX if y & _ONE else _ZERO)
    for k in range(_N - _M, _N - 1):
        y = (state[k] & _UPPER) | (state[k + 1] & _LOWER)
        state[k] = state[k + _M - _N] ^ (y >> _ONE) ^ (_MATRIX if y & _ONE else _ZERO)
    y = (state[_N - 1] & _UPPER) | (state[0] & _LOWER)
    state[_N - 1] = state[_M - 1] ^ (y >> _ONE) ^ (_MATRIX if y & _ONE else _ZERO)


@njit(inline="always")
def _temper(y):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    y = np.uint32(y ^ (y >> _11))
    y = np.uint32(y ^ ((y << _7) & _B))
    y = np.uint32(y ^ ((y << _15) & _C))
    return np.uint32(y ^ (y >> _18))


@njit(cache=True)
def _swaps(seed, size, inverse, state, swap):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Fill swap[i] = i + draw mod (size - i), the partner of place i, for all of `swap`."""
    _start(state, seed)
    for start in range(0, len(swap), _N):
        _twist(state)
        block, inverses = swap[start : start + _N], inverse[start : start + _N]
        for k in range(len(block)):
            # A remainder by floats: the quotient is off by one at most, and all is exact.
            draw, left = np.float64(_temper(state[k])), np.float64(size - start - k)
            rest = draw - np.float64(np.int64(draw * inverses[k])) * left
            rest = rest + left if rest < 0.0 else rest
            rest = rest - left if rest >= left else rest
            block[k] = np.int32(start + k + np.int32(rest))


@njit(cache=True)
def _follow(swap, token):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Return the place among the first len(swap) where a token ends, or -1."""
    place, start = np.int32(token), np.int64(0)
    while True:
        # Until its own turn comes, only a swap with its place moves it, and for good.
        part = swap[start : np.int64(place) + 1]
        hits = np.int32(0)
        for i in range(len(part)):
            hits += np.int32(part[i] == place)
        if hits:
            for i in range(len(part)):
                if part[i] == place:
                    return start + i
        if place >= len(swap):
            return -1
        start, place = np.int64(place) + 1, swap[place]


@njit(cache=True, parallel=True)
def _ranks(starts, seeds, tokens, size, n_first, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_lists = len(starts) - 1
    inverse = np.empty(n_first)
    for i in range(n_first):
        inverse[i] = 1.0 / (size - i)
    for chunk in prange((n_lists + _CHUNK - 1) // _CHUNK):
        state, swap = np.empty(_N, np.uint32), np.empty(n_first, np.int32)
        order, rank = np.empty(0, np.int32), np.empty(0, np.int32)
        for one in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, n_lists)):
            first, end = starts[one], starts[one + 1]
            _swaps(seeds[first], size, inverse, state, swap)
            if end - first <= _FOLLOW:
                for n in range(first, end):
                    out[n] = _follow(swap, tokens[n])
                continue
            if not len(order):
                order, rank = np.arange(size).astype(np.int32), np.full(size, -1, np.int32)
            for i in range(n_first):
                order[i], order[swap[i]] = order[swap[i]], order[i]
            for i in range(n_first):
                rank[order[i]] = i
            for n in range(first, end):
                out[n] = rank[tokens[n]]
            for i in range(n_first):
                rank[order[i]] = -1
            for i in range(n_first):
                order[i], order[swap[i]] = i, swap[i]


@njit(cache=True, parallel=True)
def _green_bits(seeds, size, n_first, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    inverse = np.empty(n_first)
    for i in range(n_first):
        inverse[i] = 1.0 / (size - i)
    for chunk in prange((len(seeds) + _CHUNK - 1) // _CHUNK):
        state, swap = np.empty(_N, np.uint32), np.empty(n_first, np.int32)
        order = np.arange(size).astype(np.int32)
        for one in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, len(seeds))):
            _swaps(seeds[one], size, inverse, state, swap)
            bits = out[one]
            bits[:] = 0
            for i in range(n_first):
                token = order[swap[i]]
                order[swap[i]] = order[i]
                bits[token >> 3] |= np.uint8(1) << np.uint8(token & 7)
            # A place is written by the swap with it and never by its own turn.
            for i in range(n_first):
                order[swap[i]] = swap[i]


@njit(cache=True, parallel=True)
def _draws_at(starts, seeds, places, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_lists = len(starts) - 1
    for chunk in prange((n_lists + _CHUNK - 1) // _CHUNK):
        state = np.empty(_N, np.uint32)
        for one in range(chunk * _CHUNK, min((chunk + 1) * _CHUNK, n_lists)):
            _start(state, seeds[starts[one]])
            twists = 0
            for n in range(starts[one], starts[one + 1]):
                while twists * _N <= places[n]:
                    _twist(state)
                    twists += 1
                out[n] = _temper(state[places[n] - (twists - 1) * _N])


@njit(cache=True)
def _first_entries(seed, size, n_first):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    inverse, swap = np.empty(n_first), np.empty(n_first, np.int32)
    for i in range(n_first):
        inverse[i] = 1.0 / (size - i)
    _swaps(seed, size, inverse, np.empty(_N, np.uint32), swap)
    order = np.empty(size, np.int32)
    for i in range(size):
        order[i] = np.int32(i)
    for i in range(n_first):
        order[i], order[swap[i]] = order[swap[i]], order[i]
    return order[:n_first].astype(np.int64)


def _lists(seeds: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return where runs of equal seeds start, and the end."""
    new = np.flatnonzero(np.diff(seeds)) + 1
    return np.concatenate([[0], new, [len(seeds)]]).astype(np.int64)


def ranks(
    seeds: NDArray[np.uint32], tokens: NDArray[np.int64], size: int, n_first: int
) -> NDArray[np.int64]:
    """See `watermark.kernels.mt19937.ranks`; here equal seeds must follow one another."""
    out = np.empty(len(seeds), np.int64)
    _ranks(_lists(seeds), seeds, tokens, size, n_first, out)
    return out


def green_bits(seeds: NDArray[np.uint32], size: int, n_first: int, out: NDArray[np.uint8]) -> None:
    """Write which tokens are among the first entries of permutations, a bit each.

    Args:
        seeds: uint32, shape (n,), one a permutation.
        size: of the vocabulary.
        n_first: green tokens.
        out: uint8, shape (n, ceil(size / 8)), overwritten; token t is bit t % 8 of byte t // 8.
    """
    _green_bits(seeds, size, n_first, out)


def draws_at(seeds: NDArray[np.uint32], places: NDArray[np.int64]) -> NDArray[np.uint32]:
    """See `watermark.kernels.mt19937.draws_at`; places of equal seeds must ascend."""
    out = np.empty(len(seeds), np.uint32)
    _draws_at(_lists(seeds), seeds, places, out)
    return out


def first_entries(seed: int, size: int, n_first: int) -> NDArray[np.int64]:
    """See `watermark.kernels.mt19937.first_entries`."""
    return _first_entries(np.uint32(seed), size, n_first)  # type: ignore[no-any-return]
