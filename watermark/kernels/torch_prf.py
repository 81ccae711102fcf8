"""`heirmark-1` in torch, for logits that live on an accelerator.

torch has no uint64 arithmetic, but int64 addition, multiplication, xor and left shift have the
same bits; only right shifts need their sign bits masked away.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["context_hashes", "signed", "words"]

_MASK32 = 0xFFFFFFFF


def signed(x: int) -> int:
    """Return the int64 with the bits of a 64-bit unsigned integer."""
    return x - (1 << 64) if x >= 1 << 63 else x


def _shr(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _rotl(x: Tensor, bits: int) -> Tensor:
    return (x << bits) | _shr(x, 64 - bits)


def _sip_rounds(v: list[Tensor], n_rounds: int) -> None:
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


def _message_blocks(contexts: Tensor) -> list[Tensor]:
    n, h = contexts.shape
    blocks = [contexts[:, i] | (contexts[:, i + 1] << 32) for i in range(0, h - 1, 2)]
    tail = contexts[:, h - 1] if h % 2 else contexts.new_zeros(n)
    return [*blocks, tail | signed((4 * h % 256) << 56)]


def context_hashes(k0: Tensor, k1: Tensor, contexts: Tensor) -> Tensor:
    """Hash every context with SipHash-2-4-128, each under its own key.

    Args:
        k0: int64, shape (B,), bits of the first key word of each row.
        k1: int64, shape (B,), bits of the second.
        contexts: int64, shape (B, h), token ids in [0, 2^32).

    Returns:
        int64, shape (B, 2): the bits of the two uint64 halves.
    """
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ (0x646F72616E646F6D ^ 0xEE),
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    for block in _message_blocks(contexts):
        v[3] = v[3] ^ block
        _sip_rounds(v, 2)
        v[0] = v[0] ^ block
    v[2] = v[2] ^ 0xEE
    _sip_rounds(v, 4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] = v[1] ^ 0xDD
    _sip_rounds(v, 4)
    return torch.stack([first, v[0] ^ v[1] ^ v[2] ^ v[3]], dim=1)


def words(hashes: Tensor, token_ids: Tensor, streams: Tensor) -> Tensor:
    """Compute the word of every (context, token) pair with Philox4x32-10.

    Args:
        hashes: int64, shape (B, 2), from `context_hashes`.
        token_ids: int64, shape (B, K), ids in [0, 2^32).
        streams: int64, shape (B,), which word stream each row takes.

    Returns:
        int64, shape (B, K), values in [0, 2^32).
    """
    first, second = hashes[:, :1], hashes[:, 1:]
    c0 = token_ids >> 2
    c1 = streams[:, None].expand_as(token_ids)
    c2 = (second & _MASK32).expand_as(token_ids)
    c3 = _shr(second, 32).expand_as(token_ids)
    k0, k1 = first & _MASK32, _shr(first, 32)
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = _shr(p1, 32) ^ c1 ^ k0, p1 & _MASK32, _shr(p0, 32) ^ c3 ^ k1, p0 & _MASK32
        k0, k1 = (k0 + 0x9E3779B9) & _MASK32, (k1 + 0xBB67AE85) & _MASK32
    return torch.stack([c0, c1, c2, c3]).gather(0, (token_ids & 3).unsqueeze(0)).squeeze(0)
