"""A green list of an exact size: so many of the equally likely cells of a word are green.

Hugging Face's KGW takes the first floor(gamma V) entries of a permutation of the vocabulary, SBW a
number of the 2^31 values of a draw. As for `RedGreen`, green tokens get delta; the null here is
the exact share, and a word is green by the cell that it falls in.
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

__all__ = ["GreenList", "cell_words"]


@final
@dataclass(frozen=True)
class GreenList(Scheme):
    """Green marking with a list of exact size.

    Attributes:
        n_green: green cells, 0 < n_green < n_cells.
        n_cells: equally likely cells, at most 2^31: for a permutation the vocabulary's size.
        delta: logit bias of green tokens, > 0.
    """

    name: ClassVar[str] = "green-list"
    unbiased: ClassVar[bool] = False
    always_samples: ClassVar[bool] = False
    min_context_width: ClassVar[int] = 0

    n_green: int = 1
    n_cells: int = 4
    delta: float = 2.0

    def __post_init__(self) -> None:
        if type(self.n_green) is not int or type(self.n_cells) is not int:
            raise ConfigError("green-list: n_green and n_cells must be integers")
        if not 0 < self.n_green < self.n_cells <= 1 << 31:
            raise ConfigError(
                "green-list: expected 0 < n_green < n_cells <= 2^31, got "
                f"{self.n_green} and {self.n_cells}"
            )
        if not (self.delta > 0 and math.isfinite(self.delta)):
            raise ConfigError(f"green-list: delta must be finite and > 0, got {self.delta}")

    @property
    def first_red(self) -> int:
        """The least word of the first red cell."""
        return -(-(self.n_green << 32) // self.n_cells)

    def embed(self, logits: Tensor, words: Tensor) -> Tensor:
        """Add delta to green logits; see `Scheme.embed`."""
        return logits + self.delta * (words < self.first_red).to(logits.dtype)

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return 1 for green and 0 for red; see `Scheme.score`."""
        green: NDArray[np.bool_] = words[0].astype(np.uint64) < np.uint64(self.first_red)
        return green.astype(np.float64)

    @property
    def law(self) -> Bernoulli:
        """Bernoulli with the list's share, rounded up to a multiple of 2^-32.

        A list has exactly n_green of n_cells; words that are drawn whole, as our own are, fall
        below `first_red` a little more often.

        Tokens of one context share a list without replacement, so that their number of green
        ones is hypergeometric: itself a sum of independent Bernoulli variables (Vatutin and
        Mikhailov 1982). The whole count is then one as well, and the binomial tail of the same
        mean bounds it from one above that mean on (Hoeffding 1956, theorem 5). A sum with weights
        of both signs can have a variance larger by a factor of at most 1 + 1 / (n_cells - 1).
        """
        return Bernoulli(self.first_red / 2**32)


def cell_words(cells: NDArray[np.int64], n_cells: int) -> NDArray[np.uint32]:
    """Place cells among 32-bit words: the least word of each.

    Args:
        cells: int64, any shape, in [0, n_cells).
        n_cells: at most 2^31.

    Returns:
        uint32, the same shape.
    """
    first: NDArray[np.int64] = -(-(cells << 32) // n_cells)
    return first.astype(np.uint32)
