"""Marking the candidates that an engine has left of its vocabulary, one request at a time."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from watermark.config import WatermarkConfig
from watermark.kernels.torch_entropy import has_entropy
from watermark.keys import Key
from watermark.marking import MarkedStep
from watermark.prf import NativePrf
from watermark.serving.requests import MetContexts, Tally
from watermark.serving.rows import warm_up

__all__ = ["CandidateMarker", "CandidateRow"]


@final
class CandidateRow(NamedTuple):
    """One response under way.

    Attributes:
        key: int64, shape (1, k), the bits of its key's integers.
        coin_seed: its coins', in [0, 2^63).
        met: its contexts.
    """

    key: Tensor
    coin_seed: int
    met: MetContexts

    def __repr__(self) -> str:
        return "CandidateRow(key hidden)"


@final
class CandidateMarker:
    """Marks candidates in any order.

    Args:
        config: the deployment.
        vocabulary: V; a whole vocabulary in its order is marked by a kernel, where there is one.

    Raises:
        ConfigError: the config's borders are not in the vocabulary.
    """

    def __init__(self, config: WatermarkConfig, vocabulary: int) -> None:
        self._config, self._vocabulary = config, vocabulary
        self._has_kernel = config.scheme.takes_gumbel_winner and isinstance(
            config.source, NativePrf
        )
        self.tally = Tally()
        config.check_vocabulary(vocabulary)
        if self._has_kernel:
            warm_up(config, vocabulary)

    def start(self, key: Key, coin_seed: int) -> CandidateRow:
        """Begin a response.

        Args:
            key: marks it.
            coin_seed: in [0, 2^63); the same gives the same coins.

        Returns:
            The row.
        """
        bits = torch.from_numpy(self._config.source.key_of(key).view(np.int64))[None]
        return CandidateRow(bits, coin_seed, MetContexts(self._config))

    def mark(
        self,
        row: CandidateRow,
        response: list[int],
        token_ids: NDArray[np.int64],
        logits: NDArray[np.float32],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Mark one step.

        Args:
            row: from `start`.
            response: the tokens so far, without the prompt.
            token_ids: int64, shape (K,), the candidates, distinct.
            logits: float32, shape (K,), theirs, temperature and truncation done.

        Returns:
            Places of the candidates that are left, int64, and their logits, float32, both of
            shape (K',); None where nothing is to be done: no context of its own, what the config
            leaves unmarked, or logits without a largest number, which must not stop a server.
        """
        if not row.met.is_new(response):
            return None
        if not len(logits) or not np.isfinite(logits.max()):
            self.tally.add("bad logits", "logits without a largest number stay unmarked")
            return None
        given = torch.from_numpy(logits)[None]
        if self._config.min_entropy and not has_entropy(given, self._config.min_entropy):
            return None
        h = self._config.context_width
        coin = torch.tensor([_coin(row.coin_seed, len(response))], dtype=torch.float64)
        step = MarkedStep(
            self._config,
            row.key,
            torch.tensor([response[len(response) - h :]], dtype=torch.int64),
            self._config.scheme.route(coin),
        )
        if self._has_kernel and self._is_whole(token_ids):
            winner = _winner(step, given)
            return winner, logits[winner]
        words = step.words(torch.from_numpy(token_ids)[None])
        marked = self._config.scheme.embed(given, words)[0].numpy()
        places = np.flatnonzero(marked > -np.inf)
        return places, marked[places]

    def _is_whole(self, token_ids: NDArray[np.int64]) -> bool:
        n = self._vocabulary
        return len(token_ids) == n and bool((token_ids == np.arange(n)).all())


def _coin(seed: int, position: int) -> float:
    """Flip a coin in [0, 1), the same again for the same seed and position; no secret.

    `Rows.coins` serves batches: for one row its many small operations would cost as much as
    everything else here.
    """
    name = seed.to_bytes(8) + position.to_bytes(8)
    return int.from_bytes(blake2b(name, digest_size=4, person=b"heirmark coin").digest()) / 2**32


def _winner(step: MarkedStep, logits: Tensor) -> NDArray[np.int64]:
    """Find the winner of one row by one thread: the others would only spin, and cost more."""
    from numba import get_num_threads, set_num_threads

    n_threads = get_num_threads()
    set_num_threads(1)
    try:
        found: NDArray[np.int64] = step.winners(logits).numpy()
    finally:
        set_num_threads(n_threads)
    return found
