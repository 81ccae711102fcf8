"""Does the interval for the marked share of a corpus cover it, and how wide is it?

Documents are runs of scored tokens of texts of the real model: marked ones under the key that
marked each text, unmarked ones under fresh keys. Each simulation draws corpus and reference with
replacement from the same pools, so that the pool is the population; the truth is the share of
scored tokens in the documents drawn from the marked pool. Beside the interval stand two that were
not chosen: tokens as units, and the corpus's own variance between documents.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import click
import numpy as np
from scipy.special import stdtrit
from scipy.stats import binomtest

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.fraction.interval import (
    FractionInterval,
    Units,
    estimate_fraction,
    measure_strength,
)
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import SCORES
from detect.scoring.scores import score_pairs, select_pairs
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.prf import Prf

CONFIG = preset("default")
LEVEL = 0.95
SHARES = (0.0, 0.01, 0.05, 0.2, 1.0)
LENGTHS = (60, 400)
SHORT = (60, 120)
N_CUTS, N_KEYS = 3, 20

Interval = Callable[[Units, Units, float], FractionInterval]


class Pools(NamedTuple):
    """Documents to draw from, and the null variance of their scores."""

    marked: Units
    unmarked: Units
    null_variance: float


class Setting(NamedTuple):
    """Sizes of one family of simulations, in documents, and what its reference is drawn from."""

    n_corpus: int
    n_reference: int
    reference: Units


def _documents(
    texts: list[MarkedText], scorer: Scorer, seed: int, lengths: tuple[int, int], fresh_keys: int
) -> Units:
    """Score whole texts, under their own key or fresh ones, and cut documents from the scores.

    Cut before, a document would take as first met what its text had repeated, unmarked.
    """
    rng, rows = np.random.default_rng(seed), []
    for text in texts:
        selection = select_pairs(text.token_ids, CONFIG.context_width, drop_repeated_contexts=True)
        keys = [SecretKey(rng.bytes(32)) for _ in range(fresh_keys)] or [text.key]
        for key in keys:
            scores = score_pairs(selection, CONFIG, Prf.from_key(key), scorer) - scorer.law.mean
            for _ in range(N_CUTS):
                n = int(rng.integers(*lengths).clip(max=len(scores)))
                start = int(rng.integers(0, len(scores) - n + 1))
                cut = scores[start : start + n]
                rows.append((n, cut.sum(), cut @ cut))
    table = np.array(rows).reshape(-1, 3)
    return Units(table[:, 0].astype(np.int64), table[:, 1], table[:, 2])


def _centred(pool: Units) -> Units:
    """Take the pool's own mean off: the null mean is known, a finite pool's is a sample."""
    mean = pool.sums.sum() / pool.n_scored.sum()
    return Units(pool.n_scored, pool.sums - mean * pool.n_scored, pool.squares)


def _draw(pool: Units, n: int, rng: np.random.Generator) -> Units:
    rows = rng.integers(0, len(pool.n_scored), n)
    return Units(pool.n_scored[rows], pool.sums[rows], pool.squares[rows])


def _chosen(corpus: Units, reference: Units, null_variance: float) -> FractionInterval:
    strength = measure_strength(reference)
    return estimate_fraction(corpus, strength, null_variance=null_variance, level=LEVEL)


def _tokens_as_units(corpus: Units, reference: Units, null_variance: float) -> FractionInterval:
    strength = measure_strength(reference)
    error = strength.token_variance / reference.n_scored.sum()
    strength = replace(strength, document_variance=0.0, error_variance=float(error))
    return estimate_fraction(corpus, strength, null_variance=null_variance, level=LEVEL)


def _own_variance(corpus: Units, reference: Units, null_variance: float) -> FractionInterval:
    """Fieller's interval with both variances from residuals, as for a sample of documents."""
    (y, v_y), (m, v_m) = (_ratio(units) for units in (corpus, reference))
    t2 = float(stdtrit(len(reference.n_scored) - 1, (1 + LEVEL) / 2)) ** 2
    a, b, c = m * m - t2 * v_m, m * y, y * y - t2 * v_y
    root = np.sqrt(b * b - a * c)
    return FractionInterval(y / m, (b - root) / a, (b + root) / a, LEVEL)


def _ratio(units: Units) -> tuple[float, float]:
    total = units.n_scored.sum()
    mean = units.sums.sum() / total
    return mean, float(((units.sums - mean * units.n_scored) ** 2).sum() / total**2)


def _simulate(
    setting: Setting, pools: Pools, share: float, n_runs: int, seed: int, interval: Interval
) -> dict[str, Any]:
    rng, rows = np.random.default_rng(seed), []
    n_marked = round(share * setting.n_corpus)
    for _ in range(n_runs):
        marked = _draw(pools.marked, n_marked, rng)
        unmarked = _draw(pools.unmarked, setting.n_corpus - n_marked, rng)
        pairs = zip(_fields(marked), _fields(unmarked), strict=True)
        corpus = Units(*(np.append(x, y) for x, y in pairs))
        found = interval(
            corpus, _draw(setting.reference, setting.n_reference, rng), pools.null_variance
        )
        rows.append((*found[:3], marked.n_scored.sum() / corpus.n_scored.sum()))
    return _summary(share, np.array(rows))


def _fields(units: Units) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return units.n_scored, units.sums, units.squares


def _summary(share: float, rows: np.ndarray) -> dict[str, Any]:
    estimate, low, high, truth = rows.T
    covered = int(((low <= truth) & (truth <= high)).sum())
    band = binomtest(covered, len(rows)).proportion_ci(0.99)
    return {
        "share": share,
        "coverage": covered / len(rows),
        "coverage_low_99": band.low,
        "coverage_high_99": band.high,
        "truth_below": float((truth < low).mean()),
        "truth_above": float((truth > high).mean()),
        "mean_error": float((estimate - truth).mean()),
        "median_width": float(np.median(high - low)),
    }


def _pools(texts: list[MarkedText], plain: list[MarkedText], score: str, seed: int) -> Pools:
    scorer = SCORES[score](CONFIG.scheme)
    return Pools(
        _documents(texts, scorer, seed, LENGTHS, 0),
        _centred(_documents(plain, scorer, seed + 1, LENGTHS, N_KEYS)),
        scorer.law.variance,
    )


def _shifts(texts: list[MarkedText], seed: int) -> dict[str, float]:
    """Apparent share of a corpus marked throughout, against references unlike it."""
    scorer = SCORES["weak"](CONFIG.scheme)

    def strength(chosen: list[MarkedText]) -> float:
        return measure_strength(_documents(chosen, scorer, seed, LENGTHS, 0)).mean

    order = np.argsort([text.log_probs.mean() for text in texts])
    half = len(texts) // 2
    surprising, likely = (strength([texts[i] for i in x]) for x in (order[:half], order[half:]))
    starts = [replace(text, token_ids=text.token_ids[: SHORT[1]]) for text in texts]
    return {
        "likelier_half_against_the_other": likely / surprising,
        "whole_texts_against_their_starts": strength(texts) / strength(starts),
    }


def _pooled(pools: Pools) -> dict[str, Any]:
    return {
        "n_marked": len(pools.marked.n_scored),
        "n_unmarked": len(pools.unmarked.n_scored),
        "marked": measure_strength(pools.marked).to_dict(),
        "unmarked_mean": float(pools.unmarked.sums.sum() / pools.unmarked.n_scored.sum()),
    }


def _table(
    name: str, setting: Setting, pools: Pools, n_runs: int, seed: int, interval: Interval = _chosen
) -> dict[str, Any]:
    rows = [_simulate(setting, pools, share, n_runs, seed, interval) for share in SHARES]
    cells = (f"{r['share']:.0%}: {r['coverage']:.3f} (width {r['median_width']:.4f})" for r in rows)
    click.echo(f"{name}: {', '.join(cells)}")
    return {"name": name, "n_runs": n_runs, "shares": rows}


@click.command()
@click.option("--runs", "n_runs", default=4000, show_default=True, help="Simulations a setting.")
@click.option("--seed", default=0, show_default=True)
def main(n_runs: int, seed: int) -> None:
    """Simulate corpora with known shares."""
    started = time.perf_counter()
    texts, plain = marked_texts("default"), marked_texts(None)
    pools = {score: _pools(texts, plain, score, seed) for score in ("weak", "typical", "own")}
    chosen, rest = pools["weak"], (n_runs, seed)
    short = _documents(texts, SCORES["weak"](CONFIG.scheme), seed, SHORT, 0)
    large = Setting(1000, 100, chosen.marked)
    tables = [
        _table("1000 documents, reference 100", large, chosen, *rest),
        _table("1000 documents, reference 20", large._replace(n_reference=20), chosen, *rest),
        _table("200 documents, reference 100", large._replace(n_corpus=200), chosen, *rest),
        _table("1000 documents, reference 100 short", Setting(1000, 100, short), chosen, *rest),
        _table("not chosen: tokens as units", large, chosen, *rest, _tokens_as_units),
        _table("not chosen: the corpus's variance", large, chosen, *rest, _own_variance),
    ]
    for name in ("typical", "own"):
        setting = Setting(1000, 100, pools[name].marked)
        tables.append(_table(f"score {name}", setting, pools[name], *rest))
    measured = {
        "level": LEVEL,
        "document_tokens": LENGTHS,
        "short_tokens": SHORT,
        "pools": _pooled(chosen),
        "tables": tables,
        "shifts": _shifts(texts, seed),
        "seconds": round(time.perf_counter() - started, 1),
    }
    click.echo(f"marked throughout, against a reference unlike it: {measured['shifts']}")
    click.echo(f"wrote {write_result('fraction', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
