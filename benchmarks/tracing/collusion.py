"""Documents of 1 to 10 accounts in turn, some tokens replaced: who is named, and who could be."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.tracing.mixed_documents import known_log10_p, mix
from benchmarks.tracing.searching import (
    ALPHA,
    N_TEXTS,
    N_TOKENS,
    account_integers,
    served_to,
    traced,
)
from detect.decoys import decoy_keys
from detect.scoring.scores import select_pairs
from detect.tracing.texts.passage_draws import log_p_values
from detect.tracing.texts.passages import log_ratios, passage_table
from watermark.config import preset
from watermark.word_sources import Pairs

# Writers, tokens in turn, share replaced, tokens of a piece.
_CASES: tuple[tuple[int, int, float, int | None], ...] = (
    (1, 300, 0.0, None),
    (1, 300, 0.2, None),
    (1, 300, 0.3, None),
    (2, 50, 0.0, None),
    (2, 50, 0.2, None),
    (3, 50, 0.0, None),
    (3, 50, 0.2, None),
    (5, 50, 0.0, None),
    (5, 50, 0.2, None),
    (5, 20, 0.2, None),
    (5, 100, 0.2, None),
    (5, 100, 0.2, 100),
    (10, 50, 0.0, None),
    (10, 50, 0.2, None),
)
_NULL_KEYS = 1_000_000
_KEYS_AT_ONCE = 50_000


def measure_collusion(name: str, n_keys: int, n_documents: int, seed: int) -> dict[str, Any]:
    integers, found = account_integers(n_keys, seed), {}
    texts = marked_texts(name, n_texts=N_TEXTS, n_tokens=N_TOKENS, seed=0)
    for case in _CASES:
        n_writers, turn, edited, piece = case
        searched = f"pieces of {piece}" if piece else "whole"
        title = f"{n_writers} accounts, {turn} tokens in turn, {searched}, {edited:.0%} replaced"
        rng = np.random.default_rng([seed, n_writers, turn, round(100 * edited)])
        found[title] = _case(texts, name, case, n_documents, integers, rng)
        click.echo(f"{title}: {found[title]}")
    return {
        "preset": name,
        "n_keys": n_keys,
        "alpha": ALPHA,
        "cases": found,
        "passages_under_fresh_keys": _null(texts, name, seed),
    }


def _case(
    texts: list[MarkedText],
    name: str,
    case: tuple[int, int, float, int | None],
    n_documents: int,
    integers: NDArray[np.uint64],
    rng: np.random.Generator,
) -> dict[str, Any]:
    n_writers, turn, edited, piece = case
    threshold = math.log10(ALPHA / len(integers))
    named: dict[str, list[int]] = defaultdict(list)
    known: dict[str, list[float]] = defaultdict(list)
    innocents, seconds = 0, []
    for _ in range(n_documents):
        document = mix(texts, n_writers, turn, edited, rng)
        family = served_to(integers, dict(enumerate(document.writers)))
        spent = []
        for how in ("sums alone", "with passages"):
            started = time.process_time()
            result = traced(
                family, [document.token_ids], name, piece, with_passages=how == "with passages"
            )
            spent.append(time.process_time() - started)
            numbers = {int(row.account.name) for row in result.named}
            guilty = len(numbers & set(range(n_writers)))
            named[how].append(guilty)
            innocents += len(numbers) - guilty
        seconds.append(spent[1] / spent[0])
        for row in known_log10_p(document, name, edited):
            for what, value in row.items():
                known[what].append(value)
    counts = {what: known.pop(what) for what in ("marked_pairs", "pairs_in_turn")}
    return {
        "documents": n_documents,
        "tokens": n_writers * N_TOKENS,
        **{f"mean_{what}": round(float(np.mean(n)), 1) for what, n in counts.items()},
        "guilty_named": {how: sum(n) / (n_writers * n_documents) for how, n in named.items()},
        "all_guilty_named": {
            how: sum(k == n_writers for k in n) / n_documents for how, n in named.items()
        },
        "innocents_named": innocents,
        "guilty_named_knowing": {
            what: float(np.mean(np.array(logs) <= threshold)) for what, logs in known.items()
        },
        "median_log10_p_knowing": {
            what: round(float(np.median(logs)), 1) for what, logs in known.items()
        },
        "processor_time_ratio": round(float(np.median(seconds)), 2),
    }


def _null(texts: list[MarkedText], name: str, seed: int) -> dict[str, Any]:
    """How often passages of keys that nobody was served reach a ratio, and the p-value of that."""
    config = preset(name)
    document = mix(texts, 2, 50, 0.2, np.random.default_rng(seed))
    chosen = select_pairs(document.token_ids, config.context_width, drop_repeated_contexts=True)
    table = passage_table(config.scheme)
    assert table is not None
    pairs = Pairs(chosen.contexts, chosen.tokens)
    levels = [1.0, 10.0, 1e2, 1e3, 1e4, 1e5]
    ps = np.exp(log_p_values(table, np.log(levels), chosen.n_scored))
    counts, total = np.zeros(len(levels), np.int64), 0.0
    for first in range(0, _NULL_KEYS, _KEYS_AT_ONCE):
        logs = log_ratios(table, decoy_keys(_KEYS_AT_ONCE, seed + 1 + first), pairs)
        counts += [(logs >= math.log(x)).sum() for x in levels]
        total += float(np.exp(logs).sum())
    return {
        "n_keys": _NULL_KEYS,
        "n_scored": chosen.n_scored,
        "mean_ratio": total / _NULL_KEYS,
        "at_least": {f"{x:g}": int(n) for x, n in zip(levels, counts, strict=True)},
        "at_most_by_draws": {
            f"{x:g}": round(_NULL_KEYS * float(p), 1) for x, p in zip(levels, ps, strict=True)
        },
        "at_most_by_markov": {f"{x:g}": _NULL_KEYS / x for x in levels},
    }
