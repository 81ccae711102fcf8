"""False positives on real unmarked text: 10^6 (text, fresh key) pairs for every preset.

Texts: prose, code, and the same with heavy repetition (lines repeated, lists, templates). Each text
is tested under many keys that were never used. H0 holds by construction, so that the share of
p-values at or below alpha must not exceed alpha; for laws on a lattice the attainable level is
computed from the null itself and compared too.
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import binomtest

from benchmarks.record import write_result
from detect.decoys import decoy_keys
from detect.nulls import log_tails
from detect.scores import Selection, select_pairs
from watermark.config import PRESETS, WatermarkConfig
from watermark.contexts import group_rows
from watermark.kernels.numba_prf import words_for_keys
from watermark.tokens import load_tokenizer

LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
DATA = Path(__file__).parents[2] / "shared" / "data"


def _texts(n: int, length: int) -> list[np.ndarray]:
    """Token ids of n texts: a third prose, a third code, a third with heavy repetition."""
    tokenizer = load_tokenizer("smollm2")
    prose = tokenizer.encode((DATA / "wikitext2_test.txt").read_text(encoding="utf-8"))
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    code = tokenizer.encode("\n".join(r["prompt"] + r["canonical_solution"] for r in rows))
    third = n // 3
    starts = np.linspace(0, len(prose) - length - 1, third).astype(int)
    plain = [prose[s : s + length] for s in starts]
    starts = np.linspace(0, len(code) - length - 1, third).astype(int)
    coded = [code[s : s + length] for s in starts]
    # One line of 12 tokens again and again, with a word of its own in each round.
    lines = [
        np.concatenate([np.append(p[:12], prose[i * 7 + j]) for j in range(length // 13)])
        for i, p in enumerate(plain)
    ]
    return [*plain, *coded, *lines]


def _statistics(config: WatermarkConfig, selection: Selection, keys: np.ndarray) -> np.ndarray:
    first, group = group_rows(selection.contexts)
    contexts = np.ascontiguousarray(selection.contexts[first])
    words = words_for_keys(keys, contexts, group, selection.tokens, config.scheme.n_streams)
    flat = words.transpose(1, 0, 2).reshape(config.scheme.n_streams, -1)
    return config.scheme.score(flat).reshape(len(keys), -1).sum(axis=1)


def _count(config: WatermarkConfig, texts: list[np.ndarray], n_keys: int, seed: int) -> Any:
    log_p = []
    for i, ids in enumerate(texts):
        selection = select_pairs(ids, config.context_width, drop_repeated_contexts=True)
        sums = _statistics(config, selection, decoy_keys(n_keys, seed * 100_003 + i))
        log_p.append((sums, np.full(n_keys, selection.n_scored)))
    statistics, n_scored = (np.concatenate(x) for x in zip(*log_p, strict=True))
    tails = log_tails(config.scheme.law, statistics, n_scored)
    return {
        "pairs": len(tails),
        "mean_scored": float(n_scored.mean()),
        "levels": [_level(tails, alpha) for alpha in LEVELS],
    }


def _level(tails: np.ndarray, alpha: float) -> dict[str, Any]:
    hits, n = int((tails <= math.log(alpha)).sum()), len(tails)
    interval = binomtest(hits, n).proportion_ci(0.999)
    return {
        "alpha": alpha,
        "hits": hits,
        "rate": hits / n,
        "low_999": interval.low,
        "high_999": interval.high,
        "not_above_nominal": bool(interval.low <= alpha),
    }


@click.command()
@click.option("--texts", "n_texts", default=1200, show_default=True)
@click.option("--keys", "n_keys", default=834, show_default=True, help="Fresh keys a text.")
@click.option("--length", default=130, show_default=True, help="Tokens a text.")
@click.option("--seed", default=0, show_default=True)
def main(n_texts: int, n_keys: int, length: int, seed: int) -> None:
    """Count false positives."""
    if not DATA.exists():
        raise click.ClickException(
            f"the texts are read from {DATA.name}/, which is not here: skipped"
        )
    texts = _texts(n_texts, length)
    measured: dict[str, Any] = {"n_texts": len(texts), "keys_per_text": n_keys, "length": length}
    for name, config in PRESETS.items():
        measured[name] = _count(config, texts, n_keys, seed)
        rates = ", ".join(f"{x['alpha']:g}: {x['rate']:.3g}" for x in measured[name]["levels"])
        click.echo(f"{name} ({measured[name]['pairs']} pairs): {rates}")
    click.echo(f"wrote {write_result('false_positives', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
