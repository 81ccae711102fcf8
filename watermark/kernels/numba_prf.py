"""`heirmark-1` compiled by numba, on all cores: whole vocabularies, corpora, many keys."""

from __future__ import annotations

import numpy as np
from numba import njit, prange, uint64
from numpy.typing import NDArray

__all__ = ["context_hashes", "words", "words_for_keys"]

_MASK32 = np.uint64(0xFFFFFFFF)
_BITS = tuple(np.uint64(b) for b in (13, 16, 17, 21, 32))
_13, _16, _17, _21, _32 = _BITS
_64 = np.uint64(64)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_I0, _I1 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D ^ 0xEE)
_I2, _I3 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_EE, _DD = np.uint64(0xEE), np.uint64(0xDD)
_TWO, _FOUR, _56, _255 = np.uint64(2), np.uint64(4), np.uint64(56), np.uint64(255)


@njit(inline="always")
def _rotl(x, bits):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return (x << bits) | (x >> (_64 - bits))


@njit(inline="always")
def _sip_round(v0, v1, v2, v3):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    v0 = v0 + v1
    v1 = _rotl(v1, _13) ^ v0
    v0 = _rotl(v0, _32)
    v2 = v2 + v3
    v3 = _rotl(v3, _16) ^ v2
    v0 = v0 + v3
    v3 = _rotl(v3, _21) ^ v0
    v2 = v2 + v1
    v1 = _rotl(v1, _17) ^ v2
    v2 = _rotl(v2, _32)
    return v0, v1, v2, v3


@njit(inline="always")
def _hash_one(k0, k1, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    h = context.shape[0]
    v0, v1, v2, v3 = _I0 ^ k0, _I1 ^ k1, _I2 ^ k0, _I3 ^ k1
    for b in range(h // 2 + 1):
        block = uint64(0)
        if 2 * b < h:
            block = uint64(context[2 * b])
        if 2 * b + 1 < h:
            block |= uint64(context[2 * b + 1]) << _32
        if b == h // 2:
            block |= ((uint64(h) * _FOUR) & _255) << _56
        v3 ^= block
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= block
    v2 ^= _EE
    for _ in range(4):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _DD
    for _ in range(4):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3


@njit(inline="always")
def _philox(first, second, block, stream):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    c0, c1, c2, c3 = block, stream, second & _MASK32, second >> _32
    k0, k1 = first & _MASK32, first >> _32
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0 = (p1 >> _32) ^ c1 ^ k0
        c2 = (p0 >> _32) ^ c3 ^ k1
        c1 = p1 & _MASK32
        c3 = p0 & _MASK32
        k0 = (k0 + _W0) & _MASK32
        k1 = (k1 + _W1) & _MASK32
    return c0, c1, c2, c3


@njit(inline="always")
def _lane(block, lane):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if lane == 0:
        return block[0]
    if lane == 1:
        return block[1]
    if lane == 2:
        return block[2]
    return block[3]


@njit(cache=True)
def _context_hashes(k0, k1, contexts, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(contexts.shape[0]):
        out[i, 0], out[i, 1] = _hash_one(k0, k1, contexts[i])


@njit(cache=True, parallel=True)
def _words(hashes, token_ids, streams, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in prange(token_ids.shape[0]):
        previous = np.int64(-1)
        block = (uint64(0), uint64(0), uint64(0), uint64(0))
        for j in range(token_ids.shape[1]):
            token = token_ids[i, j]
            # Ascending candidates share a Philox call in groups of four.
            if token >> 2 != previous:
                previous = token >> 2
                block = _philox(hashes[i, 0], hashes[i, 1], uint64(previous), streams[i])
            out[i, j] = np.uint32(_lane(block, token & 3))


@njit(cache=True, parallel=True)
def _words_for_keys(keys, contexts, pair_context, token_ids, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for m in prange(keys.shape[0]):
        hashes = np.empty((contexts.shape[0], 2), np.uint64)
        for c in range(contexts.shape[0]):
            hashes[c, 0], hashes[c, 1] = _hash_one(keys[m, 0], keys[m, 1], contexts[c])
        for s in range(out.shape[1]):
            for i in range(token_ids.shape[0]):
                c = pair_context[i]
                token = token_ids[i]
                block = _philox(hashes[c, 0], hashes[c, 1], uint64(token >> 2), uint64(s))
                out[m, s, i] = np.uint32(_lane(block, token & 3))


def context_hashes(k0: np.uint64, k1: np.uint64, contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash every context; see `watermark.kernels.numpy_prf.context_hashes`."""
    out = np.empty((len(contexts), 2), np.uint64)
    _context_hashes(k0, k1, np.ascontiguousarray(contexts), out)
    return out


def words(
    hashes: NDArray[np.uint64], token_ids: NDArray[np.int64], streams: NDArray[np.uint64]
) -> NDArray[np.uint32]:
    """Compute words, row by row on all cores; see `watermark.kernels.numpy_prf.words`."""
    out = np.empty(token_ids.shape, np.uint32)
    _words(hashes, token_ids, np.ascontiguousarray(streams), out)
    return out


def words_for_keys(
    sip_keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    pair_context: NDArray[np.int64],
    token_ids: NDArray[np.int64],
    n_streams: int,
) -> NDArray[np.uint32]:
    """Compute the words of the same pairs under many keys; see `watermark.prf.words_for_keys`."""
    out = np.empty((len(sip_keys), n_streams, len(token_ids)), np.uint32)
    _words_for_keys(
        np.ascontiguousarray(sip_keys),
        np.ascontiguousarray(contexts),
        np.ascontiguousarray(pair_context),
        np.ascontiguousarray(token_ids),
        out,
    )
    return out
