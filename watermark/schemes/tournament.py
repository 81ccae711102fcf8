"""Tournament sampling (SynthID-Text, Dathathri et al., Nature 634, 2024), two-way, m layers.

The bits of a word are the g-values of the layers. At each layer a token's probability becomes
p (1 + g - sum(g p)): what a knock-out between two independent draws, won by the larger g, does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.schemes.base import Scheme
from watermark.schemes.laws import LayeredBits

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Tournament"]

_MAX_LAYERS = 32


@final
@dataclass(frozen=True)
class Tournament(Scheme):
    """Tournament sampling.

    Attributes:
        n_layers: m, 1 to 32: each layer reads one bit of the word.
    """

    name: ClassVar[str] = "tournament"
    unbiased: ClassVar[bool] = True
    always_samples: ClassVar[bool] = True

    n_layers: int = 30

    def __post_init__(self) -> None:
        if type(self.n_layers) is not int or not 1 <= self.n_layers <= _MAX_LAYERS:
            raise ConfigError(
                f"tournament: n_layers must lie in 1 to {_MAX_LAYERS}, got {self.n_layers}"
            )

    def embed(self, logits: Tensor, words: Tensor) -> Tensor:
        """Play the tournament on the distribution; see `Scheme.embed`."""
        # float64, and a factor that rounding must not push below zero: m layers multiply errors.
        probability = logits.double().softmax(dim=1)
        for layer in range(self.n_layers):
            g = ((words >> (31 - layer)) & 1).double()
            mass = (g * probability).sum(dim=1, keepdim=True).clamp(max=1.0)
            probability = probability * (1 + g - mass)
        return probability.log().to(logits.dtype)

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Sum the bits, layer l (from 0) with weight m - l; see `Scheme.score`.

        Early layers meet the full entropy and carry more evidence. Integer weights keep the sum
        on a lattice, where its null distribution is exact.
        """
        upper, lower = _half_scores(self._weights)
        total: NDArray[np.float64] = upper[words[0] >> 16] + lower[words[0] & 0xFFFF]
        return total

    @property
    def _weights(self) -> tuple[int, ...]:
        return tuple(range(self.n_layers, 0, -1))

    @property
    def law(self) -> LayeredBits:
        """Weighted sum of fair independent bits."""
        return LayeredBits(self._weights)


@cache
def _half_scores(weights: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tabulate the weighted bits of a word's upper and lower half: two look-ups, not m shifts."""
    halves = np.arange(1 << 16)
    tables = [np.zeros(1 << 16), np.zeros(1 << 16)]
    for layer, weight in enumerate(weights):
        half, place = divmod(layer, 16)
        tables[half] += weight * ((halves >> (15 - place)) & 1)
    return tables[0], tables[1]
