"""What the tests of both SynthID sources share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from watermark.config import WatermarkConfig
from watermark.keys import EngineKey
from watermark.schemes.tournament import Tournament
from watermark.word_sources import WordSource

VECTORS = Path(__file__).parents[2] / "vectors"


def rows_of(name: str) -> list[dict[str, Any]]:
    """Read a file of frozen vectors."""
    rows: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())["rows"]
    return rows


def deployment(source: WordSource, context_width: int = 4) -> WatermarkConfig:
    """A config with all layers of the source."""
    return WatermarkConfig(Tournament(source.n_key_integers), context_width, source=source)


def fresh_key(source: WordSource, seed: int) -> EngineKey:
    """A key of the system."""
    return EngineKey(source.fresh_keys(1, seed)[0].tolist())


def bits_of(words: NDArray[np.uint32], n_layers: int) -> NDArray[np.int64]:
    """Read g-values from words: int64, shape (n, m)."""
    shifts = 31 - np.arange(n_layers, dtype=np.uint32)
    return ((words[:, None] >> shifts) & 1).astype(np.int64)


def g_values(
    source: WordSource, key: EngineKey, token_ids: NDArray[np.int64], ngram_len: int
) -> NDArray[np.int64]:
    """Our g-values of every window of a text: int64, shape (windows, m)."""
    windows = np.lib.stride_tricks.sliding_window_view(token_ids, ngram_len)
    under = source.under(key)
    hashes = under.context_hashes(np.ascontiguousarray(windows[:, :-1]))
    return bits_of(under.words(hashes, windows[:, -1]), source.n_key_integers)


def marked_pairs(
    source: WordSource, key: EngineKey, n: int, *, rounds: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Random contexts, each with the best of several random tokens; scores under the key."""
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, 49_152, (n, 4))
    tokens = rng.integers(0, 49_152, (n, rounds))
    scheme, under = Tournament(source.n_key_integers), source.under(key)
    words = under.words(under.context_hashes(contexts), tokens)
    scores = scheme.score(words.reshape(1, -1)).reshape(n, rounds)
    best = scores.argmax(axis=1)
    each = np.arange(n)
    return contexts, tokens[each, best], scores[each, best]
