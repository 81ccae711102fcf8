"""How cost grows: with tokens, keys, vocabulary, context width and tournament layers.

Processor seconds of one thread, medians of rounds in which all sizes take turns, so that a busy
machine slows all of them alike. The slope of each series is that of its upper half on logarithmic
axes: 1 is proportional, 0 is free, and between them a fixed part has not vanished yet.

    python -m benchmarks.cost_growth
    python -m benchmarks.plots cost_tokens cost_keys cost_vocabulary cost_width cost_layers
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final, NamedTuple

import click
import numba
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import write_result
from detect.attribution import attribute
from detect.scanning.batches import score_batch
from detect.scanning.plans import ScanPlan
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import select_pairs
from detect.tails.nulls import tail
from watermark.config import WatermarkConfig, preset
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.schemes.tournament import Tournament

_VOCABULARY: Final = 49_152
_DOCUMENT, _TEXT, _BATCH = 1_000, 300, 16
_KEY: Final = SecretKey(bytes(range(32)))
_WIDE: Final = 65_536

Work = Callable[[], object]


class Growth(NamedTuple):
    """What grows, its sizes, and what is done at each: name of a series -> work by size."""

    grows: str
    sizes: tuple[int, ...]
    series: dict[str, Callable[[int], Work]]


def _texts(n_tokens: int, seed: int) -> list[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    length = min(_DOCUMENT, n_tokens)
    return [rng.integers(2, _VOCABULARY, length) for _ in range(n_tokens // length)]


def _scan(config: WatermarkConfig, n_tokens: int, seed: int) -> Work:
    plan = ScanPlan(config, config.source.key_of(_KEY))
    texts = _texts(n_tokens, seed)

    def work() -> None:
        units, n = 0, 0
        for start in range(0, len(texts), 1_000):
            batch = score_batch(texts[start : start + 1_000], plan, [0, 1], _VOCABULARY)
            units += int(batch.sums.sum())
            n += int(batch.n_scored.sum())
        tail(plan.scorer.law, units * plan.step, n)

    return work


def _search(name: str, n_keys: int, seed: int) -> Work:
    config = preset(name)
    rng = np.random.default_rng(seed)
    selection = select_pairs(
        rng.integers(2, _VOCABULARY, _TEXT), config.context_width, drop_repeated_contexts=True
    )
    keys = rng.integers(0, 1 << 64, (n_keys, 2), np.uint64)
    scorer = choose_scorer(None, config.scheme, "direct")
    return lambda: attribute(selection, scorer, keys, alpha=1e-6)


def _step(config: WatermarkConfig, vocabulary: int, seed: int) -> Work:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(_BATCH, vocabulary, generator=generator)
    ids = torch.randint(2, min(vocabulary, _VOCABULARY), (_BATCH, 24), generator=generator)
    marker = Marker(config, [_KEY] * _BATCH)
    return lambda: marker(ids, logits)


def _presets(*names: str) -> dict[str, WatermarkConfig]:
    return {name: preset(name) for name in names}


def growths(seed: int) -> list[Growth]:
    """List what is measured."""
    named = _presets("default", "gumbel", "red-green", "tournament")

    def wide(name: str, width: int) -> WatermarkConfig:
        return WatermarkConfig(named[name].scheme, context_width=width)

    def layered(n_layers: int) -> WatermarkConfig:
        return WatermarkConfig(Tournament(n_layers=n_layers), context_width=2)

    def scans(name: str) -> Callable[[int], Work]:
        return lambda n: _scan(named[name], n, seed)

    def steps(name: str) -> Callable[[int], Work]:
        return lambda vocabulary: _step(named[name], vocabulary, seed)

    return [
        Growth(
            "tokens",
            (10_000, 100_000, 1_000_000, 10_000_000),
            {f"scan ids, {name}": scans(name) for name in named},
        ),
        Growth(
            "keys",
            (100, 1_000, 10_000, 100_000),
            {
                f"search, {_TEXT} tokens, {name}": lambda n, name=name: _search(name, n, seed)
                for name in ("default", "gumbel", "red-green")
            },
        ),
        Growth(
            "vocabulary",
            (8_192, 16_384, 32_768, 65_536, 131_072, 262_144),
            {f"mark {_BATCH} rows, {name}": steps(name) for name in named},
        ),
        Growth(
            "width",
            (1, 2, 4, 8, 16),
            {
                "scan 1,000,000 ids, default": lambda h: _scan(wide("default", h), 1_000_000, seed),
                f"mark {_BATCH} rows, red-green": lambda h: _step(
                    wide("red-green", h), _WIDE, seed
                ),
            },
        ),
        Growth(
            "layers",
            (1, 2, 4, 8, 16, 30),
            {
                "scan 1,000,000 ids": lambda n: _scan(layered(n), 1_000_000, seed),
                f"mark {_BATCH} rows": lambda n: _step(layered(n), _WIDE, seed),
            },
        ),
    ]


def slope(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """Fit the exponent of the upper half of the sizes."""
    half = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])


def measure(growth: Growth, repeats: int) -> dict[str, Any]:
    """Time every series at every size."""
    found: dict[str, Any] = {"sizes": list(growth.sizes), "series": {}}
    for name, make in growth.series.items():
        works = [make(size) for size in growth.sizes]
        for work in works[:1] + works:  # compiled, and warm
            work()
        rounds = [[_seconds(work) for work in works] for _ in range(repeats)]
        seconds = [median(column) for column in zip(*rounds, strict=True)]
        found["series"][name] = {"seconds": seconds, "slope": slope(growth.sizes, seconds)}
        click.echo(f"{growth.grows}: {name}: {found['series'][name]}")
    return found


def _seconds(work: Work) -> float:
    """Time one run; what is too short for the clock is repeated."""
    n = 1
    while True:
        started = time.process_time()
        for _ in range(n):
            work()
        taken = time.process_time() - started
        if taken > 0.02:
            return taken / n
        n *= 4


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(repeats: int, seed: int) -> None:
    """Measure all growths."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    load = os.getloadavg()[0]
    measured: dict[str, Any] = {g.grows: measure(g, repeats) for g in growths(seed)}
    measured["load_average_before_and_after"] = [load, os.getloadavg()[0]]
    click.echo(f"wrote {write_result('cost_growth', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
