"""Words a second of one core over 25,000 keys, beside the path that keeps the words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np

from benchmarks.marked_texts import marked_texts
from benchmarks.tracing.searching import N_TEXTS, N_TOKENS, Ids
from detect.decoys import decoy_keys, decoy_statistics
from detect.key_sums import key_units, whole
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import select_pairs
from watermark.config import preset
from watermark.word_sources import Pairs


def _pairs(texts: Sequence[Ids], width: int) -> Pairs:
    chosen = [select_pairs(ids, width, drop_repeated_contexts=True) for ids in texts]
    return Pairs(
        np.concatenate([s.contexts for s in chosen]), np.concatenate([s.tokens for s in chosen])
    )


def _rate(run: Callable[[], object], n_words: int) -> float:
    started = time.process_time()
    run()
    return n_words / (time.process_time() - started)


def measure_speed(n_keys: int, n_runs: int, seed: int) -> dict[str, Any]:
    texts = [t.token_ids for t in marked_texts("default", n_texts=N_TEXTS, n_tokens=N_TOKENS)]
    keys = decoy_keys(n_keys, seed)
    found: dict[str, Any] = {}
    for name, n_texts in (
        ("default", 1), ("tracer", 1), ("gumbel", 1), ("unigram", 1), ("tournament", 1),
        ("default", 60), ("tracer", 60),
    ):  # fmt: skip
        config = preset(name)
        scorer = choose_scorer(None, config.scheme, "direct")
        pairs = _pairs([t[:300] for t in texts[:n_texts]], config.context_width)
        grouped = whole(pairs)
        # A word that several texts need is made once, and counted once.
        n_words = n_keys * len(grouped.tokens) * scorer.n_streams
        old = Pairs(pairs.contexts[:300], pairs.tokens[:300])
        # Enough words for its compiled path too.
        few = keys[: 2_000_000 // (len(old.tokens) * scorer.n_streams)]
        n_old = len(few) * len(old.tokens) * scorer.n_streams

        def fused(grouped: Any = grouped, scorer: Any = scorer) -> object:
            return key_units(scorer, keys, grouped)

        def kept(old: Any = old, scorer: Any = scorer, few: Any = few) -> object:
            return decoy_statistics(scorer, few, *old)

        fused(), kept()
        rows = np.array([(_rate(fused, n_words), _rate(kept, n_old)) for _ in range(n_runs)])
        case = f"{name}, {n_texts} text{'' if n_texts == 1 else 's'} of 300 tokens"
        found[case] = {
            "n_keys": n_keys,
            "n_pairs": len(grouped.tokens),
            "n_contexts": len(grouped.contexts),
            "n_streams": scorer.n_streams,
            "words_per_second": float(np.median(rows[:, 0])),
            "words_per_second_best": float(rows[:, 0].max()),
            "words_per_second_before": float(np.median(rows[:, 1])),
            "ratio": float(np.median(rows[:, 0] / rows[:, 1])),
        }
        click.echo(f"{case}: {found[case]}")
    return {"n_runs": n_runs, "cases": found}
