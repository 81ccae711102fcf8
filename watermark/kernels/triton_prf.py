"""`heirmark-1` in Triton: the functions that kernels for accelerators share, and the words alone.

Everything here is launched without a look at its results, so that nothing waits for the
accelerator and a CUDA graph can hold it. On a processor Triton's interpreter runs the same code
(`TRITON_INTERPRET=1` before the first import).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = [
    "context_hashes",
    "philox_blocks",
    "sip_round",
    "table_width",
    "words",
]

_ROWS = 32
_COLUMNS = 512


@triton.jit
def sip_round(v0, v1, v2, v3):
    """Do one round of SipHash on uint64 tensors."""
    v0 = v0 + v1
    v1 = ((v1 << 13) | (v1 >> 51)) ^ v0
    v0 = (v0 << 32) | (v0 >> 32)
    v2 = v2 + v3
    v3 = ((v3 << 16) | (v3 >> 48)) ^ v2
    v0 = v0 + v3
    v3 = ((v3 << 21) | (v3 >> 43)) ^ v0
    v2 = v2 + v1
    v1 = ((v1 << 17) | (v1 >> 47)) ^ v2
    v2 = (v2 << 32) | (v2 >> 32)
    return v0, v1, v2, v3


@triton.jit
def philox_blocks(first, second, stream, blocks):
    """Compute the words of four tokens at a time.

    Args:
        first: int64, first half of the context's hash.
        second: int64, second half.
        stream: int64, the word stream.
        blocks: int32 or uint32, token ids divided by four.

    Returns:
        Four uint32 tensors, the words of the tokens 4 j, 4 j + 1, 4 j + 2 and 4 j + 3.
    """
    bits = second.to(tl.uint64, bitcast=True)
    return tl.philox(
        first,
        blocks.to(tl.uint32),
        stream.to(tl.uint32),
        bits.to(tl.uint32),
        (bits >> 32).to(tl.uint32),
    )


@triton.jit
def _context_hashes(
    keys,
    key_stride,
    contexts,
    context_stride,
    out,
    n_rows,
    H: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = row < n_rows
    at = row.to(tl.int64)
    k0 = tl.load(keys + at * key_stride, mask=here, other=0).to(tl.uint64, bitcast=True)
    k1 = tl.load(keys + at * key_stride + 1, mask=here, other=0).to(tl.uint64, bitcast=True)
    v0 = k0 ^ 0x736F6D6570736575
    v1 = k1 ^ (0x646F72616E646F6D ^ 0xEE)
    v2 = k0 ^ 0x6C7967656E657261
    v3 = k1 ^ 0x7465646279746573
    for b in tl.static_range(H // 2 + 1):
        block = tl.zeros([ROWS], tl.uint64)
        if 2 * b < H:
            block = tl.load(contexts + at * context_stride + 2 * b, mask=here, other=0)
            block = block.to(tl.uint64, bitcast=True)
        if 2 * b + 1 < H:
            upper = tl.load(contexts + at * context_stride + 2 * b + 1, mask=here, other=0)
            block |= upper.to(tl.uint64, bitcast=True) << 32
        if b == H // 2:
            length = tl.full([ROWS], 4 * H % 256, tl.uint64)
            block |= length << 56
        v3 ^= block
        for _ in tl.static_range(2):
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        v0 ^= block
    v2 ^= 0xEE
    for _ in tl.static_range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= 0xDD
    for _ in tl.static_range(4):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    second = v0 ^ v1 ^ v2 ^ v3
    tl.store(out + 2 * at, first.to(tl.int64, bitcast=True), mask=here)
    tl.store(out + 2 * at + 1, second.to(tl.int64, bitcast=True), mask=here)


@triton.jit
def _words(hashes, streams, token_ids, id_stride, out, n_tokens, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    here = column < n_tokens
    ids = tl.load(token_ids + row * id_stride + column, mask=here, other=0)
    c0, c1, c2, c3 = philox_blocks(
        tl.load(hashes + 2 * row), tl.load(hashes + 2 * row + 1), tl.load(streams + row), ids >> 2
    )
    lane = ids & 3
    word = tl.where(lane < 2, tl.where(lane == 0, c0, c1), tl.where(lane == 2, c2, c3))
    tl.store(out + row * n_tokens + column, word.to(tl.int64), mask=here)


def context_hashes(keys: Tensor, contexts: Tensor) -> Tensor:
    """Hash every context with SipHash-2-4-128, each under its own key, in one launch.

    Args:
        keys: int64, shape (B, 2), bits of the key words.
        contexts: int64, shape (B, h), token ids in [0, 2^32).

    Returns:
        int64, shape (B, 2): the bits of the two uint64 halves.
    """
    n, h = contexts.shape
    keys = keys if keys.stride(1) == 1 else keys.contiguous()
    contexts = contexts if h == 0 or contexts.stride(1) == 1 else contexts.contiguous()
    out = torch.empty((n, 2), dtype=torch.int64, device=contexts.device)
    if n:
        grid = (triton.cdiv(n, _ROWS),)
        _context_hashes[grid](
            keys, keys.stride(0), contexts, contexts.stride(0), out, n, H=h, ROWS=_ROWS, num_warps=1
        )
    return out


def words(hashes: Tensor, token_ids: Tensor, streams: Tensor) -> Tensor:
    """Compute the word of every (context, token) pair; see `torch_prf.words`."""
    n, k = token_ids.shape
    token_ids = token_ids if token_ids.stride(1) == 1 else token_ids.contiguous()
    out = torch.empty((n, k), dtype=torch.int64, device=token_ids.device)
    if out.numel():
        _words[(n, triton.cdiv(k, _COLUMNS))](
            hashes, streams, token_ids, token_ids.stride(0), out, k, COLUMNS=_COLUMNS
        )
    return out


def table_width(n_parts: int) -> int:
    """Round up to 64, 256, 1024 ...: widths are compiled in, so that few must be enough."""
    width = 64
    while width < n_parts:
        width *= 4
    return width
