"""Dual-key Gumbel-max: a fresh coin picks, at each token, which of two keyed draws is taken.

One key makes every answer to a prompt the same. With probability alpha the draw of stream B is
taken instead of stream A's, which restores diversity at a price of a few per cent of the evidence
(TextSeal 2026; vLLM's dual-key mode). The detector need not know the coins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError
from watermark.schemes.base import Scheme
from watermark.schemes.gumbel import force_gumbel_winner, upper_tail
from watermark.schemes.laws import Exponential

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DualGumbel"]


@final
@dataclass(frozen=True)
class DualGumbel(Scheme):
    """Gumbel-max with two word streams.

    Attributes:
        alpha: probability of stream B, in (0, 1/2].
    """

    name: ClassVar[str] = "dual-gumbel"
    n_streams: ClassVar[int] = 2
    unbiased: ClassVar[bool] = True
    always_samples: ClassVar[bool] = True
    takes_gumbel_winner: ClassVar[bool] = True

    alpha: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 0.5:
            raise ConfigError(f"dual-gumbel: alpha must lie in (0, 0.5], got {self.alpha}")

    def route(self, coins: Tensor) -> Tensor:
        """Send a row to stream B where its coin is below alpha; see `Scheme.route`."""
        return (coins < self.alpha).long()

    def embed(self, logits: Tensor, words: Tensor) -> Tensor:
        """Leave only the keyed winner; see `Scheme.embed`."""
        return force_gumbel_winner(logits, words)

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Combine both streams into one score that is exactly exponential; see `Scheme.score`.

        With p = 1 - u of each stream, m = min(p_A / (1 - alpha), p_B / alpha) is the weighted
        Bonferroni minimum, smallest where either stream would have chosen the token. Its own
        distribution function under the null is F(m) = m - alpha (1 - alpha) m^2 on
        [0, 1 / (1 - alpha)], so that -ln F(m) has the law Exp(1): no moments are fitted.
        """
        m = np.minimum(upper_tail(words[0]) / (1 - self.alpha), upper_tail(words[1]) / self.alpha)
        return np.maximum(-np.log(m * (1 - self.alpha * (1 - self.alpha) * m)), 0.0)

    @property
    def law(self) -> Exponential:
        """Exponential with mean 1."""
        return Exponential()
