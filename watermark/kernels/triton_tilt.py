"""Red-green marking of whole vocabularies on an accelerator: words and tilt in one pass, in place.

Logits are read once and written once, which is all that it costs: what is compared with a plain
copy of them.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from watermark.kernels.triton_prf import philox_blocks

__all__ = ["TiltTiling", "tilt_green"]


class TiltTiling(NamedTuple):
    """How a row is shared among programs.

    Attributes:
        block: tokens of a program, a power of two.
        n_warps: warps of a program.
        strided: whether the four tokens of a Philox call are loaded by four strided loads.
    """

    block: int = 1024
    n_warps: int = 4
    strided: bool = False


@triton.jit
def _tilt(
    logits,
    row_stride,
    rows,
    hashes,
    streams,
    scales,
    delta,
    threshold,
    n_tokens,
    HAS_ROWS: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDED: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + i) if HAS_ROWS else i
    base = logits + row * row_stride
    first, second, stream = (
        tl.load(hashes + 2 * i),
        tl.load(hashes + 2 * i + 1),
        tl.load(streams + i),
    )
    bias = delta * tl.load(scales + i).to(tl.float32) if HAS_SCALES else delta
    limit = threshold.to(tl.uint32)
    start = tl.program_id(1) * BLOCK
    blocks = start // 4 + tl.arange(0, BLOCK // 4)
    if STRIDED:
        words = philox_blocks(first, second, stream, blocks)
        for lane in tl.static_range(4):
            ids = blocks * 4 + lane
            logit = tl.load(base + ids, mask=ids < n_tokens, other=0.0)
            tilted = tl.where(words[lane] < limit, logit.to(tl.float32) + bias, logit)
            tl.store(base + ids, tilted.to(logit.dtype), mask=ids < n_tokens)
    else:
        ids = start + tl.arange(0, BLOCK)
        logit = tl.load(base + ids, mask=ids < n_tokens, other=0.0)
        c0, c1, c2, c3 = philox_blocks(first, second, stream, blocks)
        word = tl.join(tl.join(c0, c2), tl.join(c1, c3)).reshape([BLOCK])
        tilted = tl.where(word < limit, logit.to(tl.float32) + bias, logit)
        tl.store(base + ids, tilted.to(logit.dtype), mask=ids < n_tokens)


def tilt_green(
    hashes: Tensor,
    streams: Tensor,
    logits: Tensor,
    threshold: int,
    delta: float,
    rows: Tensor | None = None,
    scales: Tensor | None = None,
    *,
    tiling: TiltTiling | None = None,
) -> Tensor:
    """Add delta to the logits whose words are below a threshold, in place.

    Args:
        hashes: int64, shape (B, 2), of the rows' contexts.
        streams: int64, shape (B,), which word stream each row takes.
        logits: float32, bfloat16 or float16, shape (N, V), no gaps within a row. V below 2^31.
        threshold: in (0, 2^32).
        delta: logit bias.
        rows: int64, shape (B,), distinct rows of `logits`; None is all, in order.
        scales: shape (B,): a row's bias is delta times its own; None is 1.
        tiling: how the work is shared; None chooses.

    Returns:
        `logits`. -inf, +inf and NaN stay what they are.
    """
    n, n_tokens = len(hashes), logits.shape[1]
    if not n:
        return logits
    tiling = TiltTiling() if tiling is None else tiling
    _tilt[(n, triton.cdiv(n_tokens, tiling.block))](
        logits, logits.stride(0), streams if rows is None else rows, hashes, streams,
        streams if scales is None else scales, float(delta), threshold, n_tokens,
        HAS_ROWS=rows is not None, HAS_SCALES=scales is not None, BLOCK=tiling.block,
        STRIDED=tiling.strided, num_warps=tiling.n_warps,
    )  # fmt: skip
    return logits
