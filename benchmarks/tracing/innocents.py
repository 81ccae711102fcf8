"""Unmarked text: searches by `trace_text` itself, and single keys to levels as deep as names."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, poisson

from benchmarks.tracing.searching import ALPHA, DATA, Ids, account_names, own_tokenizer, traced
from detect.key_sums import key_units, whole
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import select_pairs
from detect.scoring.units import score_step
from detect.tails.nulls import log_tails
from detect.tracing.texts.families import KeyFamily
from watermark.config import preset
from watermark.word_sources import Pairs


def _unmarked(length: int) -> list[Ids]:
    """Cut real text that nobody marked into pieces."""
    path = DATA / "wikitext2_test.txt"
    if not path.is_file():
        raise click.ClickException("shared/data/wikitext2_test.txt is missing: null is SKIPPED")
    ids = own_tokenizer().encode(path.read_text(encoding="utf-8"))
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]


def _null_part(part: int, n_keys: int, n: int, minutes: float, length: int, seed: int) -> Any:
    """Search with `trace_text` itself: best adjusted log10 p, accounts named and documents."""
    pieces, rows, end = _unmarked(length), [], time.monotonic() + 60 * minutes
    for i in range(n):
        if time.monotonic() > end:
            break
        rng = np.random.default_rng([seed, part, i])
        # Fresh keys make the searches independent, although pieces come again.
        family = KeyFamily(account_names(n_keys), rng.integers(0, 1 << 64, (n_keys, 2), np.uint64))
        n_documents = 1 + i % 2
        chosen = [pieces[j] for j in rng.choice(len(pieces), n_documents, replace=False)]
        result = traced(family, chosen, "gumbel")
        n_named = len(result.named) + sum(bool(row.named) for row in result.documents)
        rows.append((result.tail.log10_p, n_named, n_documents))
    return np.array(rows)


def measure_null(
    n_keys: int, n_searches: int, minutes: float, length: int, seed: int
) -> dict[str, Any]:
    _unmarked(length)
    n_parts = os.cpu_count() or 1
    each = -(-n_searches // n_parts)
    with ProcessPoolExecutor(n_parts, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(_null_part, part, n_keys, each, minutes, length, seed)
            for part in range(n_parts)
        ]
        rows = np.concatenate([future.result() for future in running])
    return {
        "searches": len(rows),
        "n_keys": n_keys,
        "preset": "gumbel",
        "text": "WikiText-2, test",
        "pieces": len(_unmarked(length)),
        "tokens": length,
        "alpha": ALPHA,
        "accounts_and_documents_named": int(rows[:, 1].sum()),
        "searches_that_name_somebody_at_most_95": 1 - 0.05 ** (1 / len(rows)),
        "smallest_log10_p_adjusted": float(rows[:, 0].min()),
        "cases": {
            f"{n} document{'s and their pool' if n > 1 else ''}": {
                "searches": int((rows[:, 2] == n).sum()),
                "levels": [
                    _level(rows[rows[:, 2] == n, 0], alpha, n_keys, int(n))
                    for alpha in (0.1, 0.01, 0.001)
                ],
            }
            for n in (1, 2)
        },
    }


def measure_deep(minutes: float, length: int, seed: int) -> dict[str, Any]:
    """Count keys whose p-value of a pool of two pieces reaches levels as deep as a name needs."""
    config = preset("gumbel")
    scorer = choose_scorer(None, config.scheme, "direct")
    pieces, step, hits, n_keys = _unmarked(length), score_step(scorer), np.zeros(5, np.int64), 0
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        rng = np.random.default_rng([seed, 5, n_keys])
        chosen = [pieces[j] for j in rng.choice(len(pieces), 2, replace=False)]
        selected = [
            select_pairs(ids, config.context_width, drop_repeated_contexts=True) for ids in chosen
        ]
        rows = np.unique(
            np.concatenate([np.column_stack([s.contexts, s.tokens]) for s in selected]), axis=0
        )
        pool = whole(Pairs(np.ascontiguousarray(rows[:, :-1]), rows[:, -1]))
        keys = rng.integers(0, 1 << 64, (2_000_000, 2), np.uint64)
        sums, counts = np.unique(key_units(scorer, keys, pool)[0], return_counts=True)
        logs = log_tails(scorer.law, sums * step, np.full(len(sums), len(rows))) / np.log(10)
        hits += [int(counts[logs <= -depth].sum()) for depth in range(3, 8)]
        n_keys += len(keys)
    return {
        "n_keys": n_keys,
        "tokens": length,
        "levels": [
            {
                "p": 10.0**-depth,
                "hits": int(n),
                "expected": n_keys * 10.0**-depth,
                "p_more_than_expected": float(poisson.sf(n - 1, n_keys * 10.0**-depth)),
            }
            for depth, n in zip(range(3, 8), hits, strict=True)
        ],
    }


def _level(
    adjusted: NDArray[np.float64], alpha: float, n_keys: int, n_documents: int
) -> dict[str, Any]:
    """Compare the searches with a best adjusted p of at most alpha with what is expected.

    Of a document alone that is known. Of two and their pool, which have much in common, it lies
    between what the pool reaches by itself and what independent tests would.
    """
    hits, n = int((adjusted <= np.log10(alpha)).sum()), len(adjusted)
    pool, documents = (alpha, 0.0) if n_documents == 1 else (alpha / 2, alpha / 2)
    low = -np.expm1(n_keys * np.log1p(-pool / n_keys))
    high = 1 - (1 - low) * np.exp(-documents)
    return {
        "alpha": alpha,
        "share": hits / n,
        "expected": [float(low), float(high)],
        "p_more_than_alpha": float(binomtest(hits, n, alpha, alternative="greater").pvalue),
        "p_more_than_expected": float(binomtest(hits, n, high, alternative="greater").pvalue),
        "p_less_than_expected": float(binomtest(hits, n, low, alternative="less").pvalue),
    }
