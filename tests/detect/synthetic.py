"""Synthetic marked text and toy readers, made by the real marking code on random logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detect.suspect.exchanges import Positions, ReadingText
from watermark.config import WatermarkConfig
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.prf import Prf


def marked_ids(
    config: WatermarkConfig, key: SecretKey | None, n: int, *, vocabulary: int, seed: int
) -> NDArray[np.int64]:
    """Draw n tokens from random logits, marked under a key or not."""
    generator = torch.Generator().manual_seed(seed)
    marker = Marker(config, key) if key is not None else None
    response = torch.empty((1, 0), dtype=torch.int64)
    for _ in range(n):
        logits = 1.5 * torch.randn(1, vocabulary, generator=generator)
        if marker is not None:
            logits = marker(response, logits, generator)
        token = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)
        response = torch.cat([response, token], dim=1)
    return response[0].numpy()


class ToyReader:
    """A reader whose logits depend on the last two tokens, tilted by a key's words or not."""

    def __init__(
        self, config: WatermarkConfig, *, seed: int, key: SecretKey | None = None, tilt: float = 0.0
    ) -> None:
        self._config, self._seed, self._key, self._tilt = config, seed, key, tilt

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        for index, text in enumerate(texts):
            rows = [self._row(text.token_ids[:t]) for t in range(len(text.token_ids))]
            yield Positions(index, torch.stack(rows).softmax(dim=1))

    def _row(self, prefix: Sequence[int], vocabulary: int = 60) -> torch.Tensor:
        context = tuple(prefix[-2:])
        rng = np.random.default_rng([self._seed, len(context), *context])
        logits = rng.normal(size=vocabulary)
        if self._key is not None and len(context) == 2:
            prf = Prf.from_key(self._key)
            hashes = prf.context_hashes(np.array([context]))
            tokens = np.arange(vocabulary)[None]
            words = np.stack(
                [prf.words(hashes, tokens, s)[0] for s in range(self._config.scheme.n_streams)]
            )
            law = self._config.scheme.law
            scores = (self._config.scheme.score(words) - law.mean) / law.variance**0.5
            logits = logits + self._tilt * scores
        return torch.from_numpy(logits).float()
