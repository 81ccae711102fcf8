"""What a scheme is: two pure functions of words, `embed` and `score`, and the law of the score.

Adding a scheme is adding one file beside this one: the registry finds it, and the contract test
(`tests/watermark/test_schemes.py`) tests it on arrival.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from watermark.schemes.laws import ScoreLaw

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Scheme"]


class Scheme(ABC):
    """An embedding rule with its score. Concrete schemes are frozen dataclasses of parameters.

    Attributes:
        name: how configs and commands call it.
        n_streams: word streams per (context, token) pair that the score reads.
        unbiased: True if one marked token has the model's own distribution, over random keys.
        min_context_width: the smallest h that makes sense for it.
        always_samples: True if `embed` itself draws the token, wholly or nearly, so that greedy
            decoding and beam search would silently become sampling.
        takes_gumbel_winner: True if `embed` is `force_gumbel_winner`, whose winner a kernel finds
            without computing every token's noise.
    """

    name: ClassVar[str]
    n_streams: ClassVar[int] = 1
    unbiased: ClassVar[bool]
    always_samples: ClassVar[bool]
    takes_gumbel_winner: ClassVar[bool] = False
    min_context_width: ClassVar[int] = 1

    def route(self, coins: Tensor) -> Tensor:
        """Choose the stream whose words mark each row.

        Args:
            coins: float64, shape (B,), fresh uniform numbers in [0, 1).

        Returns:
            int64, shape (B,), streams; 0 for schemes with one stream.
        """
        return coins.new_zeros(coins.shape).long()

    @abstractmethod
    def embed(self, logits: Tensor, words: Tensor) -> Tensor:
        """Let words tilt logits.

        Args:
            logits: float32 or float64, shape (B, K), final logits of K candidates (temperature
                and truncation done); -inf for forbidden ones, at least one finite a row.
            words: int64, shape (B, K), words of the candidates in [0, 2^32).

        Returns:
            Logits of the same shape and dtype. What was -inf stays -inf.
        """

    @abstractmethod
    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score tokens by their words: high where marking would have chosen them.

        Args:
            words: uint32, shape (n_streams, n).

        Returns:
            float64, shape (n,), with law `law` if the words are uniform.
        """

    @property
    @abstractmethod
    def law(self) -> ScoreLaw:
        """The null law of one token's score."""

    @property
    def score_name(self) -> str:
        """How results call the scheme's own score."""
        return "own"

    def parameters(self) -> dict[str, Any]:
        """The scheme's parameters as plain JSON values."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]
