"""Likelihood ratios of texts in which somebody wrote passages, under very many keys, by numba.

The words and cells are those of `numba_keys`; what is done with them depends on their order, and
is done in float64 by additions and multiplications alone, one after another: the bits are those of
numpy, on any number of threads.

numba's cache looks at this file only, and what is inlined comes from `numba_keys` and `numba_prf`
too: whoever changes those touches this one, or removes `__pycache__`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange, uint32
from numpy.typing import NDArray

from watermark.kernels.numba_keys import (
    _8U,
    _LANES,
    _begin,
    _fill_cells,
    _hash,
    _one_stream,
    _two_streams,
)

__all__ = ["passage_weights"]


@njit
def _rescale(outside, inside, exponents):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Take powers of two out of both weights: exact."""
    for j in range(_LANES):
        exponent = math.frexp(outside[j] + inside[j])[1]
        outside[j] = math.ldexp(outside[j], -exponent)
        inside[j] = math.ldexp(inside[j], -exponent)
        exponents[j] += exponent


@njit(cache=True, parallel=True)
def _passage_weights(keys, contexts, tokens, ratios, is_dual, chain, each, weights, exponents):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    start, enter, leave = chain
    for g in prange(keys.shape[0]):
        begun, state = np.empty((4, _LANES), np.uint64), np.empty((4, _LANES), np.uint64)
        first, second = np.empty(_LANES, np.uint64), np.empty(_LANES, np.uint64)
        words, others = np.empty(_LANES, np.uint32), np.empty(_LANES, np.uint32)
        reals = np.empty(_LANES, np.float32)
        outside, inside = np.empty(_LANES, np.float64), np.empty(_LANES, np.float64)
        outside[:], inside[:] = 1.0 - start, start
        _begin(keys[g, 0], keys[g, 1], begun)
        for i in range(contexts.shape[0]):
            _hash(begun, contexts[i], state, first, second)
            if is_dual:
                _two_streams(first, second, tokens[i], words, others)
                _fill_cells(words, words, reals)
                _fill_cells(others, others, reals)
                for j in range(_LANES):
                    words[j] = uint32(uint32(words[j] << _8U) + others[j])
            else:
                _one_stream(first, second, tokens[i], words)
                _fill_cells(words, words, reals)
            for j in range(_LANES):
                out, into = outside[j], inside[j]
                outside[j] = out * (1.0 - enter) + into * leave
                inside[j] = (out * enter + into * (1.0 - leave)) * ratios[np.int64(words[j])]
            if (i + 1) % each == 0:
                _rescale(outside, inside, exponents[g])
        for j in range(_LANES):
            weights[g, j] = outside[j] + inside[j]


def passage_weights(
    sip_keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    tokens: NDArray[np.int64],
    ratios: NDArray[np.float64],
    chain: tuple[float, float, float],
    each: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Weigh a text's pairs, in their order, under each of many keys.

    Args:
        sip_keys: uint64, shape (K, 2).
        contexts: int64, shape (n, h); ids in [0, 2^32).
        tokens: int64, shape (n,); ids in [0, 2^32).
        ratios: float64, shape (256,) by cell, or (65536,) by 256 times the first word's cell and
            the second's: likelihood ratios inside a passage. Cells as in `grouped_pairs.Lookup`.
        chain: probability to begin inside, to enter before a pair, and to leave.
        each: pairs after which powers of two are taken out.

    Returns:
        Weights w, float64, and exponents e, int64, each of shape (K,): the ratio is w 2^e.
    """
    n_blocks = -(-len(sip_keys) // _LANES)
    keys = np.zeros((n_blocks * _LANES, 2), np.uint64)
    keys[: len(sip_keys)] = sip_keys
    blocks = np.ascontiguousarray(keys.reshape(n_blocks, _LANES, 2).transpose(0, 2, 1))
    weights, exponents = np.empty(blocks[:, 0].shape), np.zeros(blocks[:, 0].shape, np.int64)
    _passage_weights(
        blocks,
        np.ascontiguousarray(contexts),
        np.ascontiguousarray(tokens),
        ratios,
        len(ratios) > 256,
        # Plain numbers: what is cached on disk must not name a class of another module.
        tuple(map(float, chain)),
        each,
        weights,
        exponents,
    )
    n = len(sip_keys)
    return weights.reshape(-1)[:n], exponents.reshape(-1)[:n]
