"""Corpora of 50 accounts and unmarked text: are true shares inside their intervals?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.tracing.searching import ALPHA, N_TEXTS, N_TOKENS
from detect.fraction.interval import Units, measure_strength
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import tail
from detect.tracing.texts.families import Account
from detect.tracing.texts.shares import Reference, shares_of
from watermark.config import preset
from watermark.prf import Prf

_N_DOCUMENTS = 1500


def measure_shares(n_corpora: int, seed: int) -> dict[str, Any]:
    """Corpora of documents cut from scored texts; under all other keys they are unmarked.

    Reference and corpora are drawn from the same texts, so that these are the population.
    """
    config = preset("default")
    scorer = choose_scorer(None, config.scheme, "inherited")
    texts = marked_texts("default", n_texts=N_TEXTS, n_tokens=N_TOKENS)
    own = [_centred(text, scorer) for text in texts]
    rng, rows = np.random.default_rng(seed), []
    for _ in range(n_corpora):
        rows += _corpus(own, _reference(own, scorer, rng), rng)
    table = np.array(rows)
    named, is_rest = table[:, 4] > 0, table[:, 5] > 0
    return {
        "corpora": n_corpora,
        "accounts": 50,
        "documents": _N_DOCUMENTS,
        "level": 0.95,
        "all_accounts": _coverage(table[~is_rest]),
        "named_accounts": _coverage(table[~is_rest & named]),
        "rest": _coverage(table[is_rest]),
        "accounts_named": float(named[~is_rest].mean()),
    }


def _centred(text: MarkedText, scorer: Any) -> NDArray[np.float64]:
    selection = select_pairs(text.token_ids, 2, drop_repeated_contexts=True)
    scores = score_pairs(selection, preset("default"), Prf.from_key(text.key), scorer)
    return scores - scorer.law.mean


def _cut(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    n = min(int(rng.integers(60, 300)), len(scores))
    start = int(rng.integers(0, len(scores) - n + 1))
    return scores[start : start + n]


def _reference(pool: list[NDArray[np.float64]], scorer: Any, rng: np.random.Generator) -> Reference:
    cut = [_cut(pool[i], rng) for i in rng.integers(0, len(pool), 200)]
    sizes = np.array([len(c) for c in cut])
    units = Units(sizes, np.array([c.sum() for c in cut]), np.array([c @ c for c in cut]))
    return Reference(measure_strength(units), scorer)


def _corpus(
    pool: list[NDArray[np.float64]], reference: Reference, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """One corpus: a third unmarked, the rest of 50 accounts, some of which wrote far more."""
    weights = rng.dirichlet(np.ones(50))
    writers = rng.choice(51, _N_DOCUMENTS, p=np.append(weights * 2 / 3, 1 / 3))
    cut = [_cut(pool[i], rng) for i in rng.integers(0, len(pool), _N_DOCUMENTS)]
    document = np.repeat(np.arange(_N_DOCUMENTS), [len(c) for c in cut])
    marked, writer = np.concatenate(cut), np.repeat(writers, [len(c) for c in cut])
    law, scorer = reference.scorer.law, reference.scorer
    present = [a for a in range(50) if (writers == a).any()]

    def scored() -> Iterator[NDArray[np.float64]]:
        for account in present:
            words = rng.integers(0, 1 << 32, (scorer.n_streams, len(marked)), np.uint32)
            yield np.where(writer == account, marked, scorer.score(words) - law.mean)

    held = list(scored())
    shares = shares_of([Account(str(a), "") for a in present], held, document, reference)
    limit = np.log10(ALPHA / 25_000)
    rows: list[tuple[float, ...]] = []
    by_name = {share.account.name: share.interval for share in shares.accounts}
    for account, scores in zip(present, held, strict=True):
        statistic = float(scores.sum()) + len(scores) * law.mean
        named = tail(law, statistic, len(scores)).log10_p <= limit
        truth, interval = float((writer == account).mean()), by_name[str(account)]
        rows.append((truth, *interval[:3], float(named), 0.0))
    rows.append((float((writer == 50).mean()), *shares.rest[:3], 1.0, 1.0))
    return rows


def _coverage(rows: NDArray[np.float64]) -> dict[str, Any]:
    truth, estimate, low, high = rows.T[:4]
    covered = int(((low <= truth) & (truth <= high)).sum())
    band = binomtest(covered, len(rows)).proportion_ci(0.99)
    return {
        "n": len(rows),
        "coverage": covered / len(rows),
        "coverage_low_99": band.low,
        "coverage_high_99": band.high,
        "mean_truth": float(truth.mean()),
        "mean_error": float((estimate - truth).mean()),
        "median_width": float(np.median(high - low)),
    }
