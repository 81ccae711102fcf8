"""Batches of logits on an accelerator, for the checks and the times of `benchmarks.gpu_step`."""

from __future__ import annotations

import torch
from torch import Tensor

from watermark.kernels import torch_prf, triton_prf
from watermark.schemes.red_green import RedGreen

__all__ = ["DEVICE", "LAYERS", "OTHER", "RED_GREEN", "WIDE", "Step"]

DEVICE = "cuda"
WIDE, OTHER = 151_936, 128_256
LAYERS = 30
RED_GREEN = RedGreen(0.25, 2.0)
_CUT = 12.0


class Step:
    """A batch: its logits and what its marks depend on."""

    def __init__(self, n: int, vocabulary: int, dtype: torch.dtype, seed: int, h: int = 2) -> None:
        g = torch.Generator(DEVICE).manual_seed(seed)
        self.logits = (torch.randn((n, vocabulary), generator=g, device=DEVICE) * 3).to(dtype)
        self.keys = torch.randint(-(2**62), 2**62, (n, 2), generator=g, device=DEVICE)
        self.contexts = torch.randint(0, vocabulary, (n, h), generator=g, device=DEVICE)
        self.streams = torch.randint(0, 2, (n,), generator=g, device=DEVICE)

    def hashes(self) -> Tensor:
        """Hash the contexts, as every step must."""
        return triton_prf.context_hashes(self.keys, self.contexts)

    def torch_words(self, logits: Tensor) -> Tensor:
        """Compute the words of the whole vocabulary by tensor operations."""
        hashes = torch_prf.context_hashes(self.keys[:, 0], self.keys[:, 1], self.contexts)
        ids = torch.arange(logits.shape[1], device=DEVICE).expand_as(logits)
        return torch_prf.words(hashes, ids, self.streams)

    def least(self) -> Tensor:
        """Return a cut-off that leaves what is likely."""
        return self.logits.float().amax(dim=1) - _CUT
