"""Looking after every token, and after every answer: how often do innocents cross 1/alpha?

A run is a stream of four answers of the real model, tested under a fresh key that they do not
depend on; its evidence is looked at all the way. H0 holds by construction, so that the share of
runs whose e-process ever reaches 1/alpha must not exceed alpha. Beside it: what the exact
fixed-sample p-value gives if one looks at it as often. With --uniform no model is needed: the
words are drawn uniform.
"""

from __future__ import annotations

import math
from typing import Any

import click
import numpy as np
from scipy.stats import binomtest

from benchmarks.record import write_result
from detect.decoys import decoy_keys
from detect.scoring.scores import select_pairs
from detect.sequential.calibrators import Known, default_calibrator
from detect.tails.nulls import log_tails
from watermark.config import PRESETS, WatermarkConfig
from watermark.contexts import first_occurrences, group_rows
from watermark.kernels.numba_prf import words_for_keys
from watermark.schemes import Scheme

LEVELS = (0.1, 0.05, 0.01, 1e-3)
_ANSWERS, _KEYS_AT_ONCE = 4, 50


def _streams(n: int, length: int) -> list[list[np.ndarray]]:
    """Token ids of n streams of answers; every text serves in several streams."""
    from benchmarks.marked_texts import marked_texts

    texts = [t.token_ids[:length] for t in marked_texts(None)]
    order = np.random.default_rng(0).permutation(len(texts))
    return [[texts[order[(i * 3 + j) % len(texts)]] for j in range(_ANSWERS)] for i in range(n)]


class _Stream:
    """The distinct pairs of one stream, and where its answers end."""

    def __init__(self, config: WatermarkConfig, answers: list[np.ndarray]) -> None:
        parts = [
            select_pairs(ids, config.context_width, drop_repeated_contexts=False) for ids in answers
        ]
        pairs = np.concatenate([np.column_stack([s.contexts, s.tokens]) for s in parts])
        owner = np.repeat(np.arange(len(parts)), [s.n_scored for s in parts])
        new = first_occurrences(pairs)
        self.contexts, self.tokens = pairs[new, :-1], pairs[new, -1]
        self.ends = np.unique(np.searchsorted(owner[new], np.arange(len(parts)), "right") - 1)
        self.ends = self.ends[self.ends >= 0]

    def words(self, keys: np.ndarray, n_streams: int) -> np.ndarray:
        """uint32, shape (keys, n_streams, pairs)."""
        first, group = group_rows(self.contexts)
        contexts = np.ascontiguousarray(self.contexts[first])
        return words_for_keys(keys, contexts, group, self.tokens, n_streams)


class _UniformStream:
    """Words that are uniform by a random generator, where there is no model."""

    def __init__(self, length: int) -> None:
        self.n = length * _ANSWERS
        self.ends = np.arange(1, _ANSWERS + 1) * length - 1

    def words(self, keys: np.ndarray, n_streams: int) -> np.ndarray:
        rng = np.random.default_rng(keys.ravel().tolist())
        return rng.integers(0, 1 << 32, (len(keys), n_streams, self.n), np.uint32, False)


def _critical(scheme: Scheme, n: int, alpha: float) -> np.ndarray:
    """The least statistic of 1 .. n words with a fixed-sample p-value at most alpha."""
    law, counts = scheme.law, np.arange(1, n + 1)
    low = counts * law.mean
    high = low + 40 * math.sqrt(law.variance) * np.sqrt(counts)
    for _ in range(26):
        middle = (low + high) / 2
        above = log_tails(law, middle, counts) <= math.log(alpha)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return high


def _crossings(
    scheme: Scheme, words: np.ndarray, ends: np.ndarray, critical: np.ndarray
) -> np.ndarray:
    """Count runs that cross: bool, shape (2 tests, 2 ways to look, levels, runs)."""
    runs, streams, n = words.shape
    flat = words.transpose(1, 0, 2).reshape(streams, -1)
    calibrator = default_calibrator(scheme)
    totals = calibrator.summaries(flat, Known()).reshape(runs, n, -1).cumsum(axis=1)
    log_e = calibrator.log_e(totals, np.broadcast_to(np.arange(1, n + 1), (runs, n)))
    sums = scheme.score(flat).reshape(runs, n).cumsum(axis=1)
    looks = []
    for seen in (slice(None), ends):
        by_e = log_e[:, seen].max(axis=1) >= -np.log(LEVELS)[:, None]
        # Sums in another order differ by rounding: a hair's breadth for the rival.
        by_p = (sums[:, seen] >= critical[:, None, :n][..., seen] - 1e-9).any(axis=2)
        looks.append((by_e, by_p))
    return np.array(looks).swapaxes(0, 1)


def _rate(hits: int, n: int, alpha: float) -> dict[str, Any]:
    interval = binomtest(hits, n).proportion_ci(0.999)
    return {
        "alpha": alpha,
        "hits": hits,
        "rate": hits / n,
        "low_999": interval.low,
        "high_999": interval.high,
        "not_above_nominal": bool(interval.low <= alpha),
    }


def _measure(config: WatermarkConfig, streams: list[Any], n_keys: int, seed: int) -> Any:
    scheme = config.scheme
    ready = [s if isinstance(s, _UniformStream) else _Stream(config, s) for s in streams]
    longest = max(int(s.ends[-1]) + 1 for s in ready)
    critical = np.stack([_critical(scheme, longest, alpha) for alpha in LEVELS])
    hits, runs = np.zeros((2, 2, len(LEVELS)), int), 0
    for i, stream in enumerate(ready):
        keys = decoy_keys(n_keys, seed * 100_003 + i)
        for start in range(0, n_keys, _KEYS_AT_ONCE):
            words = stream.words(keys[start : start + _KEYS_AT_ONCE], scheme.n_streams)
            hits += _crossings(scheme, words, stream.ends, critical).sum(axis=3)
            runs += len(words)
    names = ("e_process", "fixed_sample_p"), ("every_token", "every_answer")
    return {
        "runs": runs,
        "mean_scored": float(np.mean([s.ends[-1] + 1 for s in ready])),
        **{
            test: {
                look: [_rate(int(hits[i, j, k]), runs, a) for k, a in enumerate(LEVELS)]
                for j, look in enumerate(names[1])
            }
            for i, test in enumerate(names[0])
        },
    }


@click.command()
@click.option("--streams", "n_streams", default=200, show_default=True)
@click.option("--keys", "n_keys", default=500, show_default=True, help="Fresh keys a stream.")
@click.option("--length", default=100, show_default=True, help="Tokens an answer.")
@click.option("--uniform", is_flag=True, help="Uniform words in place of real text.")
@click.option("--preset", "names", multiple=True, help="Only these presets.")
@click.option("--seed", default=0, show_default=True)
def main(
    n_streams: int, n_keys: int, length: int, uniform: bool, names: tuple[str, ...], seed: int
) -> None:
    """Count crossings under the null."""
    streams: list[Any] = [_UniformStream(length)] * n_streams
    if not uniform:
        streams = _streams(n_streams, length)
    measured: dict[str, Any] = {
        "words": "uniform" if uniform else "text of smollm2 that is independent of the tested keys"
    }
    for name in names or PRESETS:
        found = measured[name] = _measure(PRESETS[name], streams, n_keys, seed)
        for test in ("e_process", "fixed_sample_p"):
            rates = ", ".join(
                f"{x['alpha']:g}: {x['rate']:.3g}" for x in found[test]["every_token"]
            )
            click.echo(f"{name} ({found['runs']} runs) {test}, every token: {rates}")
    click.echo(f"wrote {write_result('optional_stopping', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
