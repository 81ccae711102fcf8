"""vLLM's watermark PRF compiled by numba (`watermark.interop.vllm`): long texts, many keys."""

from __future__ import annotations

import numpy as np
from numba import njit, prange, uint64
from numpy.typing import NDArray

from watermark.kernels.numba_prf import _lane, _philox

__all__ = ["context_hashes", "words_for_keys"]

_MASK32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_CONTEXT_DOMAIN, _TOKEN_DOMAIN = np.uint64(0x574D4358), np.uint64(0x574D544B)


@njit(inline="always")
def _slot(context, at, place):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if at < context.shape[0]:
        return uint64(context[at]) & _MASK32
    return _MASK32 - uint64(place)


@njit(inline="always")
def _prepare(key, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    h = context.shape[0]
    s0, s1, s2, s3 = _CONTEXT_DOMAIN, uint64(h), uint64(0), uint64(0)
    for offset in range(0, h, 4):
        c0 = s0 ^ _slot(context, offset, 0)
        c1 = s1 ^ _slot(context, offset + 1, 1)
        c2 = s2 ^ _slot(context, offset + 2, 2)
        c3 = s3 ^ _slot(context, offset + 3, 3)
        s0, s1, s2, s3 = _philox(key ^ uint64(offset), c2 | (c3 << _32), c0, c1)
    return key ^ s3 ^ (_TOKEN_DOMAIN << _32), s1 | (s2 << _32), s0


@njit(cache=True)
def _context_hashes(keys, contexts, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(contexts.shape[0]):
        for s in range(keys.shape[0]):
            first, second, counter = _prepare(keys[s], contexts[i])
            out[i, 3 * s], out[i, 3 * s + 1], out[i, 3 * s + 2] = first, second, counter


@njit(cache=True, parallel=True)
def _words_for_keys(keys, contexts, pair_context, token_ids, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for m in prange(keys.shape[0]):
        hashes = np.empty((contexts.shape[0], 3), np.uint64)
        for s in range(keys.shape[1]):
            for c in range(contexts.shape[0]):
                hashes[c, 0], hashes[c, 1], hashes[c, 2] = _prepare(keys[m, s], contexts[c])
            for i in range(token_ids.shape[0]):
                c = pair_context[i]
                token = token_ids[i]
                block = _philox(hashes[c, 0], hashes[c, 1], uint64(token >> 2), hashes[c, 2])
                out[m, s, i] = np.uint32(_lane(block, token & 3))


def context_hashes(keys: NDArray[np.uint64], contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Absorb every context under the key of each stream.

    Args:
        keys: uint64, shape (S,).
        contexts: int64, shape (n, h).

    Returns:
        uint64, shape (n, 3 S).
    """
    out = np.empty((len(contexts), 3 * len(keys)), np.uint64)
    _context_hashes(keys, np.ascontiguousarray(contexts), out)
    return out


def words_for_keys(
    keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    pair_context: NDArray[np.int64],
    token_ids: NDArray[np.int64],
) -> NDArray[np.uint32]:
    """Compute the words of the same pairs under many keys.

    Args:
        keys: uint64, shape (M, S), the key of each stream.
        contexts: int64, shape (C, h), the distinct contexts.
        pair_context: int64, shape (n,), row of `contexts` that each pair has.
        token_ids: int64, shape (n,).

    Returns:
        uint32, shape (M, S, n).
    """
    out = np.empty((*keys.shape, len(token_ids)), np.uint32)
    _words_for_keys(
        np.ascontiguousarray(keys),
        np.ascontiguousarray(contexts),
        np.ascontiguousarray(pair_context),
        np.ascontiguousarray(token_ids),
        out,
    )
    return out
