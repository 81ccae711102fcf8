"""`heirmark-1` vectorised in numpy: no compilation, right for short texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["context_hashes", "philox", "words"]

_U = np.uint64
_MASK32 = _U(0xFFFFFFFF)
_32 = _U(32)


def _rotl(x: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    return (x << _U(bits)) | (x >> _U(64 - bits))


def _sip_rounds(v: list[NDArray[np.uint64]], n_rounds: int) -> None:
    v0, v1, v2, v3 = v
    for _ in range(n_rounds):
        v0 = v0 + v1
        v1 = _rotl(v1, 13) ^ v0
        v0 = _rotl(v0, 32)
        v2 = v2 + v3
        v3 = _rotl(v3, 16) ^ v2
        v0 = v0 + v3
        v3 = _rotl(v3, 21) ^ v0
        v2 = v2 + v1
        v1 = _rotl(v1, 17) ^ v2
        v2 = _rotl(v2, 32)
    v[:] = [v0, v1, v2, v3]


def _message_blocks(contexts: NDArray[np.int64]) -> list[NDArray[np.uint64]]:
    """Pack (n, h) ids into SipHash's 64-bit blocks, the last one carrying the length."""
    n, h = contexts.shape
    ids = contexts.astype(np.uint64)
    blocks = [ids[:, i] | (ids[:, i + 1] << _32) for i in range(0, h - 1, 2)]
    tail = ids[:, h - 1] if h % 2 else np.zeros(n, np.uint64)
    return [*blocks, tail | _U((4 * h % 256) << 56)]


def context_hashes(
    k0: np.uint64 | NDArray[np.uint64],
    k1: np.uint64 | NDArray[np.uint64],
    contexts: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """Hash every context with SipHash-2-4-128.

    Args:
        k0: first 64 bits of the SipHash key; one for all, or uint64 of shape (n,), one a row.
        k1: last 64 bits of the SipHash key, likewise.
        contexts: int64, shape (n, h), token ids in [0, 2^32).

    Returns:
        uint64, shape (n, 2).
    """
    n = len(contexts)
    v: list[NDArray[np.uint64]] = [
        np.broadcast_to(_U(0x736F6D6570736575) ^ k0, (n,)),
        np.broadcast_to(_U(0x646F72616E646F6D ^ 0xEE) ^ k1, (n,)),
        np.broadcast_to(_U(0x6C7967656E657261) ^ k0, (n,)),
        np.broadcast_to(_U(0x7465646279746573) ^ k1, (n,)),
    ]
    for block in _message_blocks(contexts):
        v[3] = v[3] ^ block
        _sip_rounds(v, 2)
        v[0] = v[0] ^ block
    v[2] = v[2] ^ _U(0xEE)
    _sip_rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] = v[1] ^ _U(0xDD)
    _sip_rounds(v, 4)
    return np.stack([first, v[0] ^ v[1] ^ v[2] ^ v[3]], axis=1)


def words(
    hashes: NDArray[np.uint64], token_ids: NDArray[np.int64], streams: NDArray[np.uint64]
) -> NDArray[np.uint32]:
    """Compute the word of every (context, token) pair with Philox4x32-10.

    Args:
        hashes: uint64, shape (n, 2), from `context_hashes`.
        token_ids: int64, shape (n, K), ids in [0, 2^32): K candidates per context.
        streams: uint64, shape (n,), which word stream each row takes, below 2^32.

    Returns:
        uint32, shape (n, K).
    """
    shape = token_ids.shape
    c0 = token_ids.astype(np.uint64) >> _U(2)
    c1 = np.broadcast_to(streams[:, None], shape)
    c2 = np.broadcast_to(hashes[:, 1:] & _MASK32, shape)
    c3 = np.broadcast_to(hashes[:, 1:] >> _32, shape)
    k0, k1 = hashes[:, :1] & _MASK32, hashes[:, :1] >> _32
    c0, c1, c2, c3 = philox(c0, c1, c2, c3, k0, k1)
    lanes = token_ids & 3
    chosen = np.where(lanes < 2, np.where(lanes == 0, c0, c1), np.where(lanes == 2, c2, c3))
    return chosen.astype(np.uint32)


def philox(
    c0: NDArray[np.uint64],
    c1: NDArray[np.uint64],
    c2: NDArray[np.uint64],
    c3: NDArray[np.uint64],
    k0: NDArray[np.uint64] | np.uint64,
    k1: NDArray[np.uint64] | np.uint64,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Encrypt counters with Philox4x32-10 (Salmon et al. 2011).

    Args:
        c0: uint64 below 2^32, first word of the counters; all six broadcast together.
        c1: second word.
        c2: third word.
        c3: last word.
        k0: first word of the keys.
        k1: second word.

    Returns:
        The four words, uint64 below 2^32.
    """
    for _ in range(10):
        p0, p1 = _U(0xD2511F53) * c0, _U(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _MASK32, (p0 >> _32) ^ c3 ^ k1, p0 & _MASK32
        k0, k1 = (k0 + _U(0x9E3779B9)) & _MASK32, (k1 + _U(0xBB67AE85)) & _MASK32
    return c0, c1, c2, c3
