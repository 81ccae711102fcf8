"""Tournament marking of whole vocabularies on an accelerator, in place.

Each layer needs the mass of the tokens with g = 1 under what the layers before have made of the
distribution: a sum over the row a layer. But tokens with the same bits in several layers get the
same factor in all of them, so that the masses of the 2^k patterns of k layers are enough to play
these layers: a pass over the row for k = 5 layers, not for each. What a pass needs of the layers
before is one factor a pattern, from a table; no distribution is kept.

float32 throughout, where `watermark.schemes.tournament` has float64: the probabilities differ by
some 1e-5 of themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from watermark.kernels.triton_prf import philox_blocks, table_width

__all__ = ["LAYERS_A_PASS", "TournamentTiling", "play_tournament"]

LAYERS_A_PASS = 5
_LOG2_E = tl.constexpr(1.4426950408889634)
_LN_2 = tl.constexpr(0.6931471805599453)


class TournamentTiling(NamedTuple):
    """How a row is shared among programs.

    Attributes:
        block: tokens that a program takes at once, a power of two.
        n_blocks: blocks of a part, one after the other by one program.
        n_warps: warps of a program.
    """

    block: int = 512
    n_blocks: int = 16
    n_warps: int = 4


@triton.jit(do_not_specialize=["n_parts", "span"])
def _tops(
    logits,
    row_stride,
    rows,
    tops,
    n_tokens,
    n_parts,
    span,
    HAS_ROWS: tl.constexpr,
    STEP: tl.constexpr,
):
    i, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = tl.load(rows + i) if HAS_ROWS else i
    top = tl.full([STEP], float("-inf"), tl.float32)
    for start in range(part * span, (part + 1) * span, STEP):
        ids = start + tl.arange(0, STEP)
        here = tl.load(logits + row * row_stride + ids, mask=ids < n_tokens, other=float("-inf"))
        top = tl.maximum(top, here.to(tl.float32))
    tl.store(tops + i * n_parts + part, tl.max(top, axis=0))


@triton.jit
def _factor(word, tables, DONE: tl.constexpr):
    """Sum the binary logarithms of the factors of the passes that are done."""
    total = tl.zeros(word.shape, tl.float32)
    for g in tl.static_range(DONE):
        # The last pass may have fewer layers: its patterns begin with the bits that it has.
        bits = ((word << (5 * g)) >> 27).to(tl.int32)
        total += tl.load(tables + 32 * g + bits)
    return total


@triton.jit(do_not_specialize=["n_parts", "n_blocks", "n_passes"])
def _masses(
    logits,
    row_stride,
    rows,
    hashes,
    streams,
    tops,
    tables,
    masses,
    n_tokens,
    n_parts,
    n_blocks,
    n_passes,
    HAS_ROWS: tl.constexpr,
    DONE: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = tl.load(rows + i) if HAS_ROWS else i
    base = logits + row * row_stride
    first, second = tl.load(hashes + 2 * i), tl.load(hashes + 2 * i + 1)
    stream = tl.load(streams + i)
    all_parts = tl.arange(0, PARTS)
    found = tl.load(tops + i * n_parts + all_parts, mask=all_parts < n_parts, other=float("-inf"))
    top = tl.max(found, axis=0)
    table = tables + i * (32 * n_passes)
    WIDTH: tl.constexpr = BLOCK // 4
    # Eight patterns of three layers by four of two: a multiplication adds to each.
    upper = tl.arange(0, 8)[:, None]
    lower = tl.arange(0, 4)[:, None]
    mass = tl.zeros([8, 4, WIDTH], tl.float32)
    for n in range(n_blocks):
        start = (part * n_blocks + n) * BLOCK
        blocks = start // 4 + tl.arange(0, WIDTH)
        words = philox_blocks(first, second, stream, blocks)
        for lane in tl.static_range(4):
            ids = blocks * 4 + lane
            logit = tl.load(base + ids, mask=ids < n_tokens, other=float("-inf")).to(tl.float32)
            word = words[lane]
            weight = tl.exp2((logit - top) * _LOG2_E + _factor(word, table, DONE))
            bits = ((word << (5 * DONE)) >> 27).to(tl.int32)
            a = tl.where((bits >> 2)[None, :] == upper, weight[None, :], 0.0)
            b = tl.where((bits & 3)[None, :] == lower, 1.0, 0.0)
            mass += a[:, None, :] * b[None, :, :]
    total = tl.reshape(tl.sum(mass, axis=2), [32])
    tl.store(masses + (i * n_parts + part) * 32 + tl.arange(0, 32), total)


@triton.jit(do_not_specialize=["n_parts", "n_passes"])
def _layers(
    masses,
    tops,
    tables,
    n_parts,
    n_passes,
    DONE: tl.constexpr,
    PARTS: tl.constexpr,
    LAYERS: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    pattern = tl.arange(0, 32)
    mass = tl.zeros([32], tl.float64)
    for start in range(0, n_parts, 64):
        parts = start + tl.arange(0, 64)[:, None]
        at = (i * n_parts + parts) * 32 + pattern[None, :]
        some = tl.load(masses + at, mask=parts < n_parts, other=0.0)
        mass += tl.sum(some.to(tl.float64), axis=0)
    total = tl.sum(mass, axis=0)
    mass = mass / total
    factor = tl.full([32], 1.0, tl.float64)
    for layer in tl.static_range(LAYERS):
        g = ((pattern >> (4 - layer)) & 1).to(tl.float64)
        step = 1.0 + g - tl.minimum(tl.sum(g * mass, axis=0), 1.0)
        factor *= step
        mass *= step
    table = tl.log2(factor.to(tl.float32))
    if DONE == 0:
        # The first table also carries the distribution's own normalisation.
        part = tl.arange(0, PARTS)
        found = tl.load(tops + i * n_parts + part, mask=part < n_parts, other=float("-inf"))
        table -= tl.log2(total.to(tl.float32))
        # Nobody needs more than the largest of them from here on.
        tl.store(tops + i * n_parts, tl.max(found, axis=0))
    tl.store(tables + i * (32 * n_passes) + 32 * DONE + pattern, table)


@triton.jit(do_not_specialize=["n_parts"])
def _mark(
    logits,
    row_stride,
    rows,
    hashes,
    streams,
    tops,
    tables,
    n_tokens,
    n_parts,
    HAS_ROWS: tl.constexpr,
    PASSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i) if HAS_ROWS else i
    base = logits + row * row_stride
    first, second = tl.load(hashes + 2 * i), tl.load(hashes + 2 * i + 1)
    blocks = tl.program_id(1) * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    words = philox_blocks(first, second, tl.load(streams + i), blocks)
    table, top = tables + i * (32 * PASSES), tl.load(tops + i * n_parts)
    for lane in tl.static_range(4):
        ids = blocks * 4 + lane
        logit = tl.load(base + ids, mask=ids < n_tokens, other=0.0)
        marked = (logit.to(tl.float32) - top) + _factor(words[lane], table, PASSES) * _LN_2
        tl.store(base + ids, marked.to(logit.dtype), mask=ids < n_tokens)


def play_tournament(
    hashes: Tensor,
    streams: Tensor,
    logits: Tensor,
    n_layers: int,
    rows: Tensor | None = None,
    *,
    tiling: TournamentTiling | None = None,
) -> Tensor:
    """Replace logits by the logarithms of the tournament's probabilities, in place.

    Args:
        hashes: int64, shape (B, 2), of the rows' contexts.
        streams: int64, shape (B,), which word stream each row takes.
        logits: float32, bfloat16 or float16, shape (N, V), no gaps within a row; no NaN, no +inf
            and something finite in each row that is meant. V below 2^31.
        n_layers: m, 1 to 32.
        rows: int64, shape (B,), distinct rows of `logits`; None is all, in order.
        tiling: how the work is shared; None chooses.

    Returns:
        `logits`.
    """
    n, n_tokens = len(hashes), logits.shape[1]
    if not n:
        return logits
    tiling = _tiling(n, n_tokens) if tiling is None else tiling
    span = tiling.block * tiling.n_blocks
    n_parts, n_passes = triton.cdiv(n_tokens, span), triton.cdiv(n_layers, LAYERS_A_PASS)
    parts = table_width(n_parts)
    tops = logits.new_empty((n, n_parts), dtype=torch.float32)
    masses = logits.new_empty((n, n_parts, 32), dtype=torch.float32)
    tables = logits.new_empty((n, n_passes, 32), dtype=torch.float32)
    row = (logits, logits.stride(0), streams if rows is None else rows)
    has = {"HAS_ROWS": rows is not None}
    _tops[(n, n_parts)](*row, tops, n_tokens, n_parts, span, **has, STEP=1024)
    for done in range(n_passes):
        _masses[(n, n_parts)](
            *row, hashes, streams, tops, tables, masses, n_tokens, n_parts,
            tiling.n_blocks, n_passes, **has, DONE=done, PARTS=parts, BLOCK=tiling.block,
            num_warps=tiling.n_warps,
        )  # fmt: skip
        _layers[(n,)](
            masses, tops, tables, n_parts, n_passes, DONE=done, PARTS=parts,
            LAYERS=min(LAYERS_A_PASS, n_layers - LAYERS_A_PASS * done),
        )  # fmt: skip
    _mark[(n, triton.cdiv(n_tokens, 2048))](
        *row, hashes, streams, tops, tables, n_tokens, n_parts, **has, PASSES=n_passes, BLOCK=2048
    )
    return logits


def _tiling(n_rows: int, n_tokens: int) -> TournamentTiling:
    """Choose what was fastest for 1, 32 and 256 rows (`benchmarks/gpu_step.py`)."""
    n_blocks = n_rows * triton.cdiv(n_tokens, 512) // 512
    return TournamentTiling(n_blocks=min(max(n_blocks, 4), 16))
