"""Which compiled kernel marks rows of logits, if one does: numba on a processor, Triton on CUDA.

A kernel reads a row as few times as its scheme allows and writes it in place: nothing of the
logits' size is stored beside them, and no row waits for another's key. Whatever has no kernel
(other engines' words, other dtypes on a processor, few logits, an accelerator without Triton) is
marked by tensor operations in `watermark.marking`.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from watermark.config import WatermarkConfig
from watermark.prf import NativePrf
from watermark.schemes.green_list import GreenList
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

__all__ = ["find_winners", "finds_winners", "mark_rows", "marks_rows"]

# Half a small vocabulary. Fewer logits are marked before numba has been imported (0.5 s).
_COMPILE_FROM = 16_384
_ACCELERATED = (torch.float32, torch.bfloat16, torch.float16)


def finds_winners(config: WatermarkConfig, logits: Tensor) -> bool:
    """True if `find_winners` serves this deployment and these logits."""
    return config.scheme.takes_gumbel_winner and _serves(config, logits)


def marks_rows(config: WatermarkConfig, logits: Tensor) -> bool:
    """True if `mark_rows` serves this deployment and these logits."""
    return isinstance(config.scheme, RedGreen | GreenList | Tournament) and _serves(config, logits)


def find_winners(
    keys: Tensor,
    contexts: Tensor,
    streams: Tensor,
    logits: Tensor,
    rows: Tensor | None = None,
    least: Tensor | None = None,
    *,
    forces: bool = False,
) -> Tensor:
    """Find the tokens that `force_gumbel_winner` would leave, without their noise.

    Args:
        keys: int64, shape (B, 2), bits of the rows' keys.
        contexts: int64, shape (B, h), oldest first.
        streams: int64, shape (B,).
        logits: shape (N, V), see `finds_winners`.
        rows: int64, shape (B,), which rows are meant; None is all.
        least: shape (B,): smaller logits are forbidden; None forbids none.
        forces: whether each row is left with its winner alone, at 0, in place.

    Returns:
        int64, shape (B,), where the logits live; -1 where a row has no largest finite logit.
    """
    logits = logits if forces else _without_gaps(logits)
    if logits.device.type != "cpu":
        from watermark.kernels import triton_prf, triton_winners

        # Triton launches on the current device, whichever the tensors are on.
        with torch.cuda.device(logits.device):
            hashes = triton_prf.context_hashes(keys.to(logits.device), contexts.to(logits.device))
            streams = streams.to(logits.device)
            return triton_winners.gumbel_winners(
                hashes, streams, logits, rows, least, forces=forces
            )
    from watermark.kernels import numba_winners

    n = len(streams)
    found = numba_winners.gumbel_winners(
        _hashes(keys, contexts),
        _unsigned(streams),
        logits.detach().numpy(),
        np.arange(n) if rows is None else rows.numpy(),
        np.full(n, -np.inf, np.float32) if least is None else least.float().numpy(),
        forces=forces,
    )
    return torch.from_numpy(found)


def mark_rows(
    config: WatermarkConfig,
    keys: Tensor,
    contexts: Tensor,
    streams: Tensor,
    logits: Tensor,
    rows: Tensor | None = None,
    scales: Tensor | None = None,
) -> Tensor:
    """Mark rows in place.

    Args:
        config: a deployment that `marks_rows` serves.
        keys: int64, shape (B, 2), bits of the rows' keys.
        contexts: int64, shape (B, h), oldest first.
        streams: int64, shape (B,).
        logits: shape (N, V), no gaps within a row; for a tournament no NaN, no +inf and something
            finite in each row that is meant.
        rows: int64, shape (B,), distinct rows; None is all.
        scales: float32, shape (B,), factors of a tilting scheme's delta, 0 leaves a row as it is;
            None is 1.

    Returns:
        `logits`.
    """
    if logits.device.type != "cpu":
        with torch.cuda.device(logits.device):
            return _mark_on_cuda(config, keys, contexts, streams, logits, rows, scales)
    from watermark.kernels import numba_tilt, numba_tournament

    hashes, index = _hashes(keys, contexts), np.arange(len(streams))
    index = index if rows is None else rows.numpy()
    scheme = config.scheme
    if isinstance(scheme, Tournament):
        numba_tournament.play_tournament(
            hashes, _unsigned(streams), logits.detach().numpy(), index, scheme.n_layers
        )
        return logits
    assert isinstance(scheme, RedGreen | GreenList)
    biases = np.full(len(streams), scheme.delta, np.float32)
    if scales is not None:
        biases *= scales.numpy()
    numba_tilt.tilt_green(
        hashes, _unsigned(streams), logits.detach().numpy(), index, biases, scheme.first_red
    )
    return logits


def _mark_on_cuda(
    config: WatermarkConfig,
    keys: Tensor,
    contexts: Tensor,
    streams: Tensor,
    logits: Tensor,
    rows: Tensor | None,
    scales: Tensor | None,
) -> Tensor:
    from watermark.kernels import triton_prf, triton_tilt, triton_tournament

    scheme = config.scheme
    hashes = triton_prf.context_hashes(keys.to(logits.device), contexts.to(logits.device))
    streams = streams.to(logits.device)
    if isinstance(scheme, Tournament):
        return triton_tournament.play_tournament(hashes, streams, logits, scheme.n_layers, rows)
    assert isinstance(scheme, RedGreen | GreenList)
    return triton_tilt.tilt_green(
        hashes, streams, logits, scheme.first_red, scheme.delta, rows, scales
    )


def _serves(config: WatermarkConfig, logits: Tensor) -> bool:
    if not isinstance(config.source, NativePrf):
        return False
    if logits.device.type == "cpu":
        return logits.dtype == torch.float32 and logits.numel() >= _COMPILE_FROM
    return logits.device.type == "cuda" and logits.dtype in _ACCELERATED and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _without_gaps(logits: Tensor) -> Tensor:
    return logits if logits.stride(1) == 1 else logits.contiguous()


def _hashes(keys: Tensor, contexts: Tensor) -> NDArray[np.uint64]:
    from watermark.kernels import numpy_prf

    bits = _unsigned(keys)
    return numpy_prf.context_hashes(bits[:, 0], bits[:, 1], contexts.numpy())


def _unsigned(bits: Tensor) -> NDArray[np.uint64]:
    return bits.numpy().view(np.uint64)
