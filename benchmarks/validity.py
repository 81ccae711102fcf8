"""Are p-values right? False positives on real unmarked text: 10^7 (text, fresh key) pairs a test.

Texts: prose, code, mathematics, and heavy repetition (lists, templates, one line again and again).
Each is tested under thousands of keys that were never used, by every preset's own score and by the
other scores, weighted sums included. H0 holds by construction, so that the share of p-values at or
below alpha must not exceed alpha. Weighted sums without an exact tail are tested by their
value (inverted, or a saddlepoint) and by their Chernoff ceiling.
"""

from __future__ import annotations

import gzip
import json
import math
from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from scipy.stats import binomtest

from benchmarks.record import write_result
from detect.decoys import decoy_keys
from detect.scoring.alternatives import TYPICAL, minimax
from detect.scoring.reference_scores import levels_of, reference_tables
from detect.scoring.score_tables import Scorer, score_table
from detect.scoring.scores import Selection, select_pairs
from detect.tails.convolution import convolution_log_tails
from detect.tails.nulls import log_tails
from detect.tails.weighted import weighted_tail
from watermark.config import PRESETS, WatermarkConfig
from watermark.contexts import group_rows
from watermark.kernels.numba_prf import words_for_keys
from watermark.tokens import load_tokenizer

LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
DATA = Path(__file__).parents[2] / "shared" / "data"


class Sample(NamedTuple):
    """One text: its scored pairs and what is known of them before any word is looked at."""

    selection: Selection
    log_probs: np.ndarray


class Counted(NamedTuple):
    """How many p-values of one text are at or below each level."""

    hits: np.ndarray
    ceiling_hits: np.ndarray | None


Count = Callable[[Sample, np.ndarray, int], Counted]


def texts(n: int, length: int) -> dict[str, list[np.ndarray]]:
    """Cut n texts of the given length in tokens, an equal share of each kind."""
    tokenizer = load_tokenizer("smollm2")
    prose = tokenizer.encode((DATA / "wikitext2_test.txt").read_text(encoding="utf-8"))
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    code = tokenizer.encode("\n".join(r["prompt"] + r["canonical_solution"] for r in rows))
    lines = (DATA / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()
    maths = tokenizer.encode("\n".join(json.loads(line)["answer"] for line in lines[:800]))
    each = n // 6
    plain = _cut(prose, each, length)
    return {
        "prose": plain,
        "code": _cut(code, each, length),
        "mathematics": _cut(maths, each, length),
        "one line repeated": [_repeated(p, 12, length) for p in plain],
        "list": [_listed(p, prose, length) for p in plain],
        "template": [_template(p, prose, length) for p in plain],
    }


def _cut(ids: np.ndarray, n: int, length: int) -> list[np.ndarray]:
    starts = np.linspace(0, len(ids) - length - 1, n).astype(int)
    return [ids[s : s + length] for s in starts]


def _repeated(line: np.ndarray, width: int, length: int) -> np.ndarray:
    return np.tile(line[:width], length // width + 1)[:length]


def _listed(line: np.ndarray, prose: np.ndarray, length: int) -> np.ndarray:
    """The same four tokens before each of many short entries."""
    entries = prose[int(line[0]) : int(line[0]) + length].reshape(-1)
    rows = [np.append(line[:4], entries[i : i + 3]) for i in range(0, length, 3)]
    return np.concatenate(rows)[:length]


def _template(line: np.ndarray, prose: np.ndarray, length: int) -> np.ndarray:
    """A form of twelve tokens with one word of its own in each copy."""
    words = prose[int(line[1]) :]
    rows = [np.append(line[:12], words[i]) for i in range(length // 13 + 1)]
    return np.concatenate(rows)[:length]


def _sample(ids: np.ndarray, config: WatermarkConfig, frequencies: np.ndarray) -> Sample:
    selection = select_pairs(ids, config.context_width, drop_repeated_contexts=True)
    # A reference model that any stranger has: how frequent a token is in all the texts.
    return Sample(selection, np.log(frequencies[selection.tokens]))


def _by_law(scorer: Scorer) -> Count:
    def count(sample: Sample, words: np.ndarray, n_keys: int) -> Counted:
        sums = scorer.score(words).reshape(n_keys, -1).sum(axis=1)
        n = np.full(n_keys, len(sample.selection.tokens))
        return Counted(_hits(log_tails(scorer.law, sums, n)), None)

    return count


def _by_reference(config: WatermarkConfig) -> Count:
    tables = reference_tables(config.scheme)

    def count(sample: Sample, words: np.ndarray, n_keys: int) -> Counted:
        levels = levels_of(sample.log_probs)
        sums = tables.units(words, np.tile(levels, n_keys)).reshape(n_keys, -1).sum(axis=1)
        return Counted(_hits(convolution_log_tails(tables.parts(levels), sums)), None)

    return count


def _by_weights(config: WatermarkConfig, *, whole: bool) -> Count:
    """Weights by the root of the token's surprise; whole ones keep a lattice."""
    law = config.scheme.law

    def count(sample: Sample, words: np.ndarray, n_keys: int) -> Counted:
        weights = np.sqrt(-sample.log_probs)
        weights = np.maximum(np.rint(weights), 1.0) if whole else weights
        centred = config.scheme.score(words).reshape(n_keys, -1) - law.mean
        sums = np.sort(centred @ weights)
        tail_of = cache(lambda i: weighted_tail(law, weights, float(sums[i])))
        return Counted(
            _count_hits(n_keys, lambda i: tail_of(i).log10_p),
            _count_hits(n_keys, lambda i: tail_of(i).log10_p_ceiling),
        )

    return count


def _count_hits(n: int, log10_p: Callable[[int], float]) -> np.ndarray:
    """Count, of n sums in ascending order, those whose p is at most each level, by bisection."""
    hits, low = [], 0
    for alpha in LEVELS:
        # p falls with the sum: what is above a smaller level begins no earlier.
        low += bisect_left(range(low, n), True, key=lambda i: log10_p(i) <= math.log10(alpha))
        hits.append(n - low)
    return np.array(hits)


def _hits(log_p: np.ndarray) -> np.ndarray:
    return np.array([(log_p <= math.log(alpha)).sum() for alpha in LEVELS])


def _tests(config: WatermarkConfig) -> dict[str, Count]:
    own: dict[str, Count] = {
        "own score": _by_law(config.scheme),
        "weighted": _by_weights(config, whole=False),
        "whole weights": _by_weights(config, whole=True),
    }
    if config.scheme.name not in ("gumbel", "dual-gumbel"):
        return own
    made = {
        "minimax 0.01": score_table(config.scheme, minimax(0.01), marked_share=0.999),
        "typical": score_table(config.scheme, TYPICAL, marked_share=0.95),
        "typical, share 0.05": score_table(config.scheme, TYPICAL, marked_share=0.05),
    }
    return {
        **own,
        **{name: _by_law(table) for name, table in made.items()},
        "with a reference model": _by_reference(config),
    }


def _measure(
    config: WatermarkConfig, kinds: dict[str, list[np.ndarray]], n_keys: int, seed: int
) -> dict[str, Any]:
    tests = _tests(config)
    ids = np.concatenate([t for kind in kinds.values() for t in kind])
    frequencies = np.bincount(ids, minlength=int(ids.max()) + 1) / len(ids)
    hits = {(t, k): np.zeros((2, len(LEVELS)), np.int64) for t in tests for k in kinds}
    pairs = {kind: len(rows) * n_keys for kind, rows in kinds.items()}
    number = 0
    for kind, rows in kinds.items():
        for row in rows:
            sample = _sample(row, config, frequencies)
            keys = decoy_keys(n_keys, seed * 1_000_003 + number)
            number += 1
            first, group = group_rows(sample.selection.contexts)
            contexts = np.ascontiguousarray(sample.selection.contexts[first])
            n_streams = config.scheme.n_streams
            words = words_for_keys(keys, contexts, group, sample.selection.tokens, n_streams)
            flat = np.ascontiguousarray(words.transpose(1, 0, 2)).reshape(n_streams, -1)
            for name, count in tests.items():
                found = count(sample, flat, n_keys)
                hits[name, kind][0] += found.hits
                if found.ceiling_hits is not None:
                    hits[name, kind][1] += found.ceiling_hits
    return {name: _summary(name, hits, pairs) for name in tests}


def _summary(
    name: str, hits: dict[tuple[str, str], np.ndarray], pairs: dict[str, int]
) -> dict[str, Any]:
    total = sum(hits[name, kind] for kind in pairs)
    n = sum(pairs.values())
    rows = []
    for i, alpha in enumerate(LEVELS):
        interval = binomtest(int(total[0, i]), n).proportion_ci(0.999)
        rows.append(
            {
                "alpha": alpha,
                "hits": int(total[0, i]),
                "rate": int(total[0, i]) / n,
                "low_999": interval.low,
                "high_999": interval.high,
                "not_above_nominal": bool(interval.low <= alpha),
                **({"ceiling_rate": int(total[1, i]) / n} if "weight" in name else {}),
                "rate_by_kind": {k: int(hits[name, k][0, i]) / m for k, m in pairs.items()},
            }
        )
    return {"pairs": n, "levels": rows}


@click.command()
@click.option("--preset", "names", multiple=True, type=click.Choice(list(PRESETS)))
@click.option("--texts", "n_texts", default=2400, show_default=True)
@click.option("--keys", "n_keys", default=4170, show_default=True, help="Fresh keys a text.")
@click.option("--length", default=96, show_default=True, help="Tokens a text.")
@click.option("--seed", default=0, show_default=True)
def main(names: tuple[str, ...], n_texts: int, n_keys: int, length: int, seed: int) -> None:
    """Count false positives."""
    if not DATA.exists():
        raise click.ClickException(
            f"the texts are read from {DATA.name}/, which is not here: skipped"
        )
    kinds = texts(n_texts, length)
    for name in names or tuple(PRESETS):
        found = _measure(PRESETS[name], kinds, n_keys, seed)
        for test, result in found.items():
            rates = ", ".join(f"{x['alpha']:g}: {x['rate']:.3g}" for x in result["levels"])
            click.echo(f"{name}, {test} ({result['pairs']} pairs): {rates}")
        measured = {
            "keys_per_text": n_keys,
            "length": length,
            "tests": found,
            "never_above_nominal": all(
                level["not_above_nominal"]
                for result in found.values()
                for level in result["levels"]
            ),
        }
        path = write_result("validity", seed=seed, measured=measured, case=name)
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
