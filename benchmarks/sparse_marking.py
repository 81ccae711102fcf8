"""A few marked documents among 10,000: pooled sum, smallest p-value, or higher criticism?

Size: higher criticism on uniform p-values and on those of binomial documents, whose law is
discrete. Power: documents are runs of scored tokens of texts of the real model; k of them are
marked under their text's key, wholly or (as after editing) in some of their tokens, and all else is
scored under fresh keys. All p-values are exact, all tests at level 1e-3; "any" is the three tests
together, at a third of the level each.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import click
import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.higher_criticism import find_peak, log_crossing
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import log_tails
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.prf import Prf

CONFIG = preset("default")
N_DOCUMENTS, N_KEYS = 10_000, 10
LEVEL = 1e-3
# Scored tokens of a document, and how many of them are marked.
CASES = ((10, 10), (20, 20), (100, 100), (100, 20), (200, 20))
MARKED = (1, 3, 10, 20, 50, 100, 200, 500)
SIZE_DOCUMENTS, SIZE_TOKENS = 500, 20
SIZE_LEVELS = (0.05, 0.01, 1e-3)


class Pool(NamedTuple):
    """Documents of one length: statistics, and exact log10 p-values."""

    statistics: np.ndarray
    log10_p: np.ndarray


class Limits(NamedTuple):
    """Values that the statistics must reach."""

    pooled: float
    log10_smallest: float
    higher_criticism: float


def _critical_peak(alpha: float, n: int) -> float:
    """The smallest limit that keeps the level; counts below 1/n make atoms, which it steps over."""
    limit = brentq(lambda x: log_crossing(x, n) - math.log(alpha), 0.1, 10 / alpha**0.5)
    return float(limit) * (1 + 1e-9)


def _critical_sum(alpha: float, n: int, scorer: Scorer) -> float:
    """The smallest attainable sum of n scores with p <= alpha, to 1e-3 of a score."""
    low = n * scorer.law.mean
    high = low + 10 * math.sqrt(n * scorer.law.variance)
    while high - low > 1e-3:
        middle = (low + high) / 2
        reached = log_tails(scorer.law, np.array([middle]), np.array([n]))[0] <= math.log(alpha)
        low, high = (low, middle) if reached else (middle, high)
    return high


def _size(n_runs: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    limits = {alpha: _critical_peak(alpha, SIZE_DOCUMENTS) for alpha in SIZE_LEVELS}
    green = np.arange(SIZE_TOKENS + 1)
    discrete = binom.logsf(green - 1, SIZE_TOKENS, 0.5) / math.log(10)
    peaks = {"uniform": np.empty(n_runs), "binomial": np.empty(n_runs)}
    for i in range(n_runs):
        peaks["uniform"][i] = find_peak(np.log10(1 - rng.random(SIZE_DOCUMENTS))).statistic
        drawn = rng.binomial(SIZE_TOKENS, 0.5, SIZE_DOCUMENTS)
        peaks["binomial"][i] = find_peak(np.minimum(discrete[drawn], 0)).statistic
    return {
        "n_runs": n_runs,
        "n_documents": SIZE_DOCUMENTS,
        **{name: [_rate(found, a, x) for a, x in limits.items()] for name, found in peaks.items()},
    }


def _rate(peaks: np.ndarray, alpha: float, limit: float) -> dict[str, float]:
    hits, n = int((peaks >= limit).sum()), len(peaks)
    band = binomtest(hits, n).proportion_ci(0.99)
    return {
        "alpha": alpha,
        "attainable": math.exp(log_crossing(limit * (1 + 1e-9), SIZE_DOCUMENTS)),
        "rate": hits / n,
        "low_99": band.low,
        "high_99": band.high,
    }


def _seconds() -> dict[str, float]:
    taken = {}
    for n in (1000, 10_000, 100_000):
        started = time.perf_counter()
        log_crossing(6.0, n)
        taken[f"{n} documents"] = round(time.perf_counter() - started, 3)
    return taken


def _scores(texts: list[MarkedText], scorer: Scorer, n_keys: int, seed: int) -> list[np.ndarray]:
    """Scores of whole texts: under their own keys, or each under fresh ones."""
    rng, found = np.random.default_rng(seed), []
    for text in texts:
        selection = select_pairs(text.token_ids, CONFIG.context_width, drop_repeated_contexts=True)
        for key in [SecretKey(rng.bytes(32)) for _ in range(n_keys)] or [text.key]:
            found.append(score_pairs(selection, CONFIG, Prf.from_key(key), scorer))
    return found


def _runs(scores: list[np.ndarray], length: int) -> np.ndarray:
    """Sums of runs of some scored tokens, one after the other, of every text."""
    cut = [s[: len(s) // length * length].reshape(-1, length).sum(axis=1) for s in scores]
    return np.concatenate(cut)


def _pool(statistics: np.ndarray, length: int, scorer: Scorer) -> Pool:
    tails = log_tails(scorer.law, statistics, np.full(len(statistics), length))
    return Pool(statistics, np.minimum(tails / math.log(10), 0))


def _pools(
    own: list[np.ndarray], fresh: list[np.ndarray], case: tuple[int, int], scorer: Scorer, seed: int
) -> tuple[Pool, Pool]:
    """Marked documents, whose other tokens are scored under fresh keys, and unmarked ones."""
    (length, n_marked), rng = case, np.random.default_rng(seed)
    marked = _runs(own, n_marked)
    if length > n_marked:
        marked = marked + rng.choice(_runs(fresh, length - n_marked), len(marked))
    return _pool(marked, length, scorer), _pool(_runs(fresh, length), length, scorer)


def _limits(alpha: float, n_tokens: int, scorer: Scorer) -> Limits:
    return Limits(
        _critical_sum(alpha, n_tokens, scorer),
        math.log10(alpha / N_DOCUMENTS),
        _critical_peak(alpha, N_DOCUMENTS),
    )


def _detections(
    marked: Pool, unmarked: Pool, n_marked: int, limits: list[Limits], rng: np.random.Generator
) -> list[bool]:
    hot = rng.integers(0, len(marked.log10_p), n_marked)
    cold = rng.integers(0, len(unmarked.log10_p), N_DOCUMENTS - n_marked)
    total = float(marked.statistics[hot].sum() + unmarked.statistics[cold].sum())
    log10_p = np.append(marked.log10_p[hot], unmarked.log10_p[cold])
    peak, smallest = find_peak(log10_p).statistic, float(log10_p.min())
    alone, together = (
        [total >= x.pooled, smallest <= x.log10_smallest, peak >= x.higher_criticism]
        for x in limits
    )
    return [*alone, any(together)]


def _power(
    pools: tuple[Pool, Pool], case: tuple[int, int], scorer: Scorer, n_runs: int, seed: int
) -> list[dict[str, Any]]:
    limits = [_limits(alpha, N_DOCUMENTS * case[0], scorer) for alpha in (LEVEL, LEVEL / 3)]
    rows = []
    for n_marked in (0, *MARKED):
        rng = np.random.default_rng([seed, *case, n_marked])
        runs = [_detections(*pools, n_marked, limits, rng) for _ in range(n_runs)]
        names = ("pooled", "smallest", "higher_criticism", "any")
        power = dict(zip(names, np.mean(runs, axis=0).tolist(), strict=True))
        rows.append(
            {"tokens": case[0], "marked_tokens": case[1], "n_marked_documents": n_marked, **power}
        )
        cells = ", ".join(f"{name} {value:.2f}" for name, value in power.items())
        click.echo(f"{case[1]} of {case[0]} tokens in {n_marked} documents: {cells}")
    return rows


@click.command()
@click.option("--runs", "n_runs", default=300, show_default=True, help="Runs a cell of the table.")
@click.option("--null-runs", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(n_runs: int, null_runs: int, seed: int) -> None:
    """Measure size and power."""
    started = time.perf_counter()
    measured: dict[str, Any] = {"null_seconds": _seconds(), "size": _size(null_runs, seed)}
    for name in ("uniform", "binomial"):
        rates = (f"{x['attainable']:.3g}: {x['rate']:.3g}" for x in measured["size"][name])
        click.echo(f"size, {name} p-values: {', '.join(rates)}")
    scorer = choose_scorer(None, CONFIG.scheme, "inherited")
    own = _scores(marked_texts("default"), scorer, 0, seed)
    fresh = _scores(marked_texts(None), scorer, N_KEYS, seed)
    power = []
    for case in CASES:
        pools = _pools(own, fresh, case, scorer, seed)
        power += _power(pools, case, scorer, n_runs, seed)
    measured |= {
        "level": LEVEL,
        "n_documents": N_DOCUMENTS,
        "runs_a_cell": n_runs,
        "power": power,
        "seconds": round(time.perf_counter() - started, 1),
    }
    click.echo(f"wrote {write_result('sparse_marking', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
