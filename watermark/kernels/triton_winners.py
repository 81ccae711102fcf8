"""The Gumbel-max winner of whole vocabularies in one pass over the logits, on an accelerator.

The winner of l + G, G = -log(-log u), is the token that `watermark.schemes.gumbel` defines in
float64. Here every token's value is first found in float32 with a known error; each part of a row
keeps its best and its second best. Where a part's second best is within the error of the row's
best, once in some ten thousand rows, the part is searched again in float64; the bests themselves
are always compared in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from watermark.kernels.triton_prf import philox_blocks, table_width

__all__ = ["Tiling", "gumbel_winners", "rough_values"]


class Tiling(NamedTuple):
    """How a row is shared among programs.

    Attributes:
        block: tokens that a program takes at once, a power of two.
        n_blocks: blocks of a part, one after the other by one program.
        n_warps: warps of a program.
        strided: whether the four tokens of a Philox call are loaded by four strided loads.
    """

    block: int = 1024
    n_blocks: int = 8
    n_warps: int = 4
    strided: bool = False


@triton.jit
def _log2(x, FAST: tl.constexpr):
    # The accelerator's own instruction: 2^-22 where it matters. The interpreter has none.
    return libdevice.fast_log2f(x) if FAST else tl.log2(x)


@triton.jit
def rough_value(logit, word, FAST: tl.constexpr):
    """Compute (l + G) log2(e), less a constant, in float32: to 5e-5 plus rounding of the sum."""
    is_low = word < 0x80000000
    x = tl.where(is_low, word, word ^ 0xFFFFFFFF).to(tl.float32) * 2.3283064365386963e-10
    x += 1.1641532182693481e-10
    # -log2 of u; near u = 1 its series in 1 - u, where the difference would cancel.
    rate = -_log2(tl.where(is_low, x, 1.0 - x), FAST)
    series = x * (1.4426950408889634 + x * (0.7213475204444817 + x * 0.4808983469629878))
    rate = tl.where(word >= 0xF8000000, series, rate)
    return logit * 1.4426950408889634 - _log2(rate, FAST)


@triton.jit
def _rough_values(logits, words, out, n, FAST: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    word = tl.load(words + at, mask=at < n, other=1).to(tl.uint32)
    tl.store(out + at, rough_value(tl.load(logits + at, mask=at < n), word, FAST), mask=at < n)


def rough_values(logits: Tensor, words: Tensor) -> Tensor:
    """Compute l log2(e) - log2(-log2 u) as the search does, so that its error can be measured.

    Args:
        logits: float32, shape (n,).
        words: int64, shape (n,).

    Returns:
        float32, shape (n,).
    """
    out = torch.empty_like(logits)
    grid = (triton.cdiv(len(out), 256),)
    _rough_values[grid](logits, words, out, len(out), FAST=logits.is_cuda, BLOCK=256)
    return out


@triton.jit
def exact_value(logit, word):
    """Compute l + G in float64, as the scheme defines it."""
    uniform = (word.to(tl.float64) + 0.5) / 4294967296.0
    return logit.to(tl.float64) - tl.log(-tl.log(uniform))


@triton.jit
def _lane(c0, c1, c2, c3, ids):
    lane = ids & 3
    return tl.where(lane < 2, tl.where(lane == 0, c0, c1), tl.where(lane == 2, c2, c3))


@triton.jit
def _keep(best, second, token, value, ids):
    second = tl.maximum(second, tl.minimum(best, value))
    token = tl.where(value > best, ids, token)
    # A NaN stays: its row is bad.
    best = tl.maximum(best, value, propagate_nan=tl.PropagateNan.ALL)
    return best, second, token


@triton.jit(do_not_specialize=["n_parts", "n_blocks"])
def _parts(
    logits,
    row_stride,
    rows,
    hashes,
    streams,
    least,
    values,
    tokens,
    n_tokens,
    n_parts,
    n_blocks,
    HAS_ROWS: tl.constexpr,
    HAS_LEAST: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDED: tl.constexpr,
    FAST: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    row = tl.load(rows + i) if HAS_ROWS else i
    base = logits + row * row_stride
    first, second_half = tl.load(hashes + 2 * i), tl.load(hashes + 2 * i + 1)
    stream = tl.load(streams + i)
    floor = tl.load(least + i).to(tl.float32) if HAS_LEAST else 0.0
    WIDTH: tl.constexpr = BLOCK // 4 if STRIDED else BLOCK
    best = tl.full([WIDTH], float("-inf"), tl.float32)
    second = tl.full([WIDTH], float("-inf"), tl.float32)
    token = tl.full([WIDTH], -1, tl.int32)
    for n in range(n_blocks):
        start = (part * n_blocks + n) * BLOCK
        blocks = start // 4 + tl.arange(0, BLOCK // 4)
        if STRIDED:
            words = philox_blocks(first, second_half, stream, blocks)
            for lane in tl.static_range(4):
                ids = blocks * 4 + lane
                logit = tl.load(base + ids, mask=ids < n_tokens, other=float("-inf")).to(tl.float32)
                value = rough_value(logit, words[lane], FAST)
                if HAS_LEAST:
                    value = tl.where(logit < floor, float("-inf"), value)
                best, second, token = _keep(best, second, token, value, ids)
        else:
            ids = start + tl.arange(0, BLOCK)
            logit = tl.load(base + ids, mask=ids < n_tokens, other=float("-inf")).to(tl.float32)
            c0, c1, c2, c3 = philox_blocks(first, second_half, stream, blocks)
            word = tl.join(tl.join(c0, c2), tl.join(c1, c3)).reshape([BLOCK])
            value = rough_value(logit, word, FAST)
            if HAS_LEAST:
                value = tl.where(logit < floor, float("-inf"), value)
            best, second, token = _keep(best, second, token, value, ids)
    top = tl.max(best, axis=0)
    is_top = best == top
    winner = tl.max(tl.where(is_top, token, -1), axis=0)
    others = tl.where(is_top & (token == winner), second, tl.maximum(best, second))
    bad = tl.max(((best != best) | (best == float("inf"))).to(tl.int32), axis=0)
    at = i * n_parts + part
    tl.store(values + 2 * at, tl.where(bad == 0, top, float("inf")))
    tl.store(values + 2 * at + 1, tl.max(others, axis=0))
    tl.store(tokens + at, winner)


@triton.jit(do_not_specialize=["n_parts", "span"])
def _winners(
    logits,
    row_stride,
    rows,
    hashes,
    streams,
    least,
    values,
    tokens,
    out,
    n_tokens,
    n_parts,
    span,
    HAS_ROWS: tl.constexpr,
    HAS_LEAST: tl.constexpr,
    STEP: tl.constexpr,
    PARTS: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i) if HAS_ROWS else i
    base = logits + row * row_stride
    first, second_half = tl.load(hashes + 2 * i), tl.load(hashes + 2 * i + 1)
    stream = tl.load(streams + i)
    part = tl.arange(0, PARTS)
    at = i * n_parts + part
    best = tl.load(values + 2 * at, mask=part < n_parts, other=float("-inf"))
    ids = tl.load(tokens + at, mask=part < n_parts, other=-1)
    top = tl.max(best, axis=0)
    good = tl.abs(top) < float("inf")
    # The errors of two rough values; the logits may be larger than the values by 32. Nothing
    # in a bad row reaches NaN.
    limit = top - (1e-4 + 4e-7 * (tl.abs(top) + 32.0))
    close = (best >= limit) & (ids >= 0) & (best < float("inf"))
    c0, c1, c2, c3 = philox_blocks(first, second_half, stream, ids >> 2)
    logit = tl.load(base + ids, mask=close, other=0.0).to(tl.float32)
    value = exact_value(logit, _lane(c0, c1, c2, c3, ids))
    value = tl.where(close, value, float("-inf"))
    exact = tl.max(value, axis=0)
    winner = tl.min(tl.where(value == exact, ids, 0x7FFFFFFF), axis=0)
    floor = tl.load(least + i).to(tl.float32) if HAS_LEAST else 0.0
    seconds = tl.load(values + 2 * at + 1, mask=part < n_parts, other=float("-inf"))
    if tl.max(seconds, axis=0) >= limit:
        for p in range(n_parts):
            second = tl.load(values + 2 * (i * n_parts + p) + 1)
            if (second >= limit) & (second > float("-inf")):
                # A step may reach into the next part: its tokens are as good.
                for start in range(p * span, (p + 1) * span, STEP):
                    token = start + tl.arange(0, STEP)
                    x = tl.load(base + token, mask=token < n_tokens, other=float("-inf"))
                    x = x.to(tl.float32)
                    d0, d1, d2, d3 = philox_blocks(first, second_half, stream, token >> 2)
                    v = exact_value(x, _lane(d0, d1, d2, d3, token))
                    if HAS_LEAST:
                        v = tl.where(x < floor, float("-inf"), v)
                    here = tl.max(v, axis=0)
                    it = tl.min(tl.where(v == here, token, 0x7FFFFFFF), axis=0)
                    wins = (here > exact) | ((here == exact) & (it < winner))
                    winner = tl.where(wins, it, winner)
                    exact = tl.where(wins, here, exact)
    tl.store(out + i, tl.where(good, winner, -1).to(tl.int64))


@triton.jit
def _force(
    logits, row_stride, rows, winners, n_tokens, HAS_ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i) if HAS_ROWS else i
    winner = tl.load(winners + i)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    forced = tl.where(ids == winner, 0.0, float("-inf")).to(logits.dtype.element_ty)
    tl.store(logits + row * row_stride + ids, forced, mask=(ids < n_tokens) & (winner >= 0))


def gumbel_winners(
    hashes: Tensor,
    streams: Tensor,
    logits: Tensor,
    rows: Tensor | None = None,
    least: Tensor | None = None,
    *,
    forces: bool = False,
    tiling: Tiling | None = None,
) -> Tensor:
    """Find the keyed winner of rows.

    Args:
        hashes: int64, shape (B, 2), of the rows' contexts.
        streams: int64, shape (B,), which word stream each row takes.
        logits: float32, bfloat16 or float16, shape (N, V), no gaps within a row; -inf for
            forbidden tokens. V below 2^31.
        rows: int64, shape (B,), distinct rows of `logits`; None is all, in order.
        least: shape (B,): logits below it are forbidden as well; None forbids none.
        forces: whether each row is left with its winner alone, at 0, in place.
        tiling: how the work is shared; None chooses.

    Returns:
        int64, shape (B,), token ids, never forbidden ones; -1 where a row holds +inf or NaN or
        nothing but -inf, and is left as it is.
    """
    n, n_tokens = len(hashes), logits.shape[1]
    if tiling is None:
        tiling = _tiling(n, n_tokens)
    span = tiling.block * tiling.n_blocks
    n_parts = triton.cdiv(n_tokens, span)
    out = torch.empty(n, dtype=torch.int64, device=logits.device)
    if not n:
        return out
    values = torch.empty((n, n_parts, 2), dtype=torch.float32, device=logits.device)
    tokens = torch.empty((n, n_parts), dtype=torch.int32, device=logits.device)
    has = {"HAS_ROWS": rows is not None, "HAS_LEAST": least is not None}
    rows = streams if rows is None else rows
    least = streams if least is None else least
    _parts[(n, n_parts)](
        logits, logits.stride(0), rows, hashes, streams, least, values, tokens, n_tokens, n_parts,
        tiling.n_blocks, **has, BLOCK=tiling.block, STRIDED=tiling.strided, FAST=logits.is_cuda,
        num_warps=tiling.n_warps,
    )  # fmt: skip
    _winners[(n,)](
        logits, logits.stride(0), rows, hashes, streams, least, values, tokens, out, n_tokens,
        n_parts, span, **has, STEP=1024, PARTS=table_width(n_parts),
        num_warps=4,
    )  # fmt: skip
    if forces:
        block = 4096
        _force[(n, triton.cdiv(n_tokens, block))](
            logits, logits.stride(0), rows, out, n_tokens, HAS_ROWS=has["HAS_ROWS"], BLOCK=block
        )
    return out


def _tiling(n_rows: int, n_tokens: int) -> Tiling:
    """Choose what was fastest for 1, 32 and 256 rows (`benchmarks/gpu_step.py`)."""
    n_blocks = n_rows * triton.cdiv(n_tokens, 512) // 1024
    return Tiling(2048, 1, 8) if n_blocks < 2 else Tiling(512, min(n_blocks, 16))
