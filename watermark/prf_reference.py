"""The PRF `heirmark-1` in plain Python integers: slow, readable, and the definition.

    hash = SipHash-2-4-128(sip_key, the h context ids as little-endian uint32)
    word = Philox4x32-10(counter = (token >> 2, stream, hash2), key = hash1)[token & 3]

SipHash: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), with the 128-bit output
of the authors' reference. Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
(SC 2011). The fast twins in `watermark.kernels` must give the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["ContextHash", "philox4x32", "prf_word", "siphash128"]

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
_PHILOX_M0, _PHILOX_M1 = 0xD2511F53, 0xCD9E8D57
_PHILOX_W0, _PHILOX_W1 = 0x9E3779B9, 0xBB67AE85


class ContextHash(NamedTuple):
    """The 128 bits of a hashed context: `first` keys Philox, `second` sits in its counter."""

    first: int
    second: int


def _rotl(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _MASK64


def _sip_round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK64
    v1 = _rotl(v1, 13) ^ v0
    v0 = _rotl(v0, 32)
    v2 = (v2 + v3) & _MASK64
    v3 = _rotl(v3, 16) ^ v2
    v0 = (v0 + v3) & _MASK64
    v3 = _rotl(v3, 21) ^ v0
    v2 = (v2 + v1) & _MASK64
    v1 = _rotl(v1, 17) ^ v2
    v2 = _rotl(v2, 32)
    return v0, v1, v2, v3


def siphash128(k0: int, k1: int, message: bytes) -> ContextHash:
    """Hash a message with SipHash-2-4-128.

    Args:
        k0: first 64 bits of the key (little-endian bytes 0 to 7).
        k1: last 64 bits of the key.
        message: any bytes.

    Returns:
        The two 64-bit halves, in output order.
    """
    v = (
        0x736F6D6570736575 ^ k0,
        0x646F72616E646F6D ^ k1 ^ 0xEE,
        0x6C7967656E657261 ^ k0,
        0x7465646279746573 ^ k1,
    )
    whole = len(message) - len(message) % 8
    blocks = [int.from_bytes(message[i : i + 8], "little") for i in range(0, whole, 8)]
    last = int.from_bytes(message[whole:], "little") | (len(message) & 0xFF) << 56
    for block in [*blocks, last]:
        v0, v1, v2, v3 = v
        v = _sip_round(*_sip_round(v0, v1, v2, v3 ^ block))
        v = (v[0] ^ block, *v[1:])
    first, v = _squeeze((v[0], v[1], v[2] ^ 0xEE, v[3]))
    second, v = _squeeze((v[0], v[1] ^ 0xDD, v[2], v[3]))
    return ContextHash(first, second)


def _squeeze(v: tuple[int, int, int, int]) -> tuple[int, tuple[int, int, int, int]]:
    for _ in range(4):
        v = _sip_round(*v)
    return v[0] ^ v[1] ^ v[2] ^ v[3], v


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Run the ten rounds of Philox4x32.

    Args:
        counter: four 32-bit words.
        key: two 32-bit words.

    Returns:
        Four 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _PHILOX_M0 * c0, _PHILOX_M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK32
        k0, k1 = (k0 + _PHILOX_W0) & _MASK32, (k1 + _PHILOX_W1) & _MASK32
    return c0, c1, c2, c3


def prf_word(k0: int, k1: int, context: Sequence[int], token: int, stream: int = 0) -> int:
    """Compute one word of `heirmark-1`.

    Args:
        k0: first 64 bits of the SipHash key.
        k1: last 64 bits of the SipHash key.
        context: the h previous token ids, oldest first, each in [0, 2^32).
        token: the candidate token id, in [0, 2^32).
        stream: which of the independent word streams, in [0, 2^32).

    Returns:
        An integer in [0, 2^32), uniform for whoever does not know the key.
    """
    hashed = siphash128(k0, k1, b"".join(c.to_bytes(4, "little") for c in context))
    counter = (token >> 2, stream, hashed.second & _MASK32, hashed.second >> 32)
    return philox4x32(counter, (hashed.first & _MASK32, hashed.first >> 32))[token & 3]
