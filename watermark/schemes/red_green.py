"""Red-green (KGW, Kirchenbauer et al. 2023): add delta to the logits of keyed green tokens.

Each token is green on its own with probability gamma, so that the count of green tokens among
distinct pairs is exactly binomial. With context width 0 it is Unigram (Zhao et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.schemes.base import Scheme
from watermark.schemes.laws import Bernoulli

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RedGreen"]


@final
@dataclass(frozen=True)
class RedGreen(Scheme):
    """Red-green marking.

    Attributes:
        gamma: green fraction under the null, in (0, 1).
        delta: logit bias of green tokens, > 0.
    """

    name: ClassVar[str] = "red-green"
    unbiased: ClassVar[bool] = False
    always_samples: ClassVar[bool] = False
    min_context_width: ClassVar[int] = 0

    gamma: float = 0.5
    delta: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.first_red < 1 << 32:
            raise ConfigError(f"red-green: gamma must lie in (0, 1), got {self.gamma}")
        if not (self.delta > 0 and math.isfinite(self.delta)):
            raise ConfigError(f"red-green: delta must be finite and > 0, got {self.delta}")

    @property
    def first_red(self) -> int:
        """Words below it are green: the integer decides, so that no float comparison does."""
        return round(self.gamma * 2**32) if 0 < self.gamma < 1 else 0

    def embed(self, logits: Tensor, words: Tensor) -> Tensor:
        """Add delta to green logits; see `Scheme.embed`."""
        return logits + self.delta * (words < self.first_red).to(logits.dtype)

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return 1 for green and 0 for red; see `Scheme.score`."""
        green: NDArray[np.bool_] = words[0] < self.first_red
        return green.astype(np.float64)

    @property
    def law(self) -> Bernoulli:
        """Bernoulli with the exact green probability of 32-bit words."""
        return Bernoulli(self.first_red / 2**32)
