"""Marked fragments of the real model in long unmarked documents: are they found, and only they?

A document is a row of unmarked texts; fragments of one marked text replace part of it, searched
with that text's key. Under H0 the same kind of document (and real prose, where it is at hand) is
searched with fresh keys, by the default score and, with more keys, by the scheme's own.
"""

from __future__ import annotations

import math
import resource
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.decoys import decoy_keys
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from detect.segments.localisation import Segment, find_segments
from detect.segments.windows import Pairs, assess_windows, place_pairs
from watermark.config import WatermarkConfig, preset
from watermark.contexts import group_rows
from watermark.keys import SecretKey
from watermark.prf import Prf, words_for_keys
from watermark.tokens import load_tokenizer

DATA: Final = Path(__file__).parents[2] / "shared" / "data"
LENGTH: Final = 12_000
LEVELS: Final = (0.05, 1e-2, 1e-3)
FOUND_BELOW: Final = 1e-4
LOOSE: Final = 0.05
_KEYS_AT_ONCE: Final = 50
# One marked text is cut into three fragments of 300.
_LONG_TEXTS: Final = {"n_texts": 50, "n_tokens": 900, "seed": 1}
_CASES: Final = ((1, 100), (1, 200), (1, 400), (3, 300))
# The default score has tails by convolution: fewer keys in the same time.
_FEWER_KEYS: Final = {"own": 1, "default": 10}


class Planted(NamedTuple):
    """A document, and where it is marked."""

    token_ids: NDArray[np.int64]
    places: list[tuple[int, int]]


def _document(
    unmarked: list[MarkedText], length: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    order = rng.permutation(len(unmarked))[: length // len(unmarked[0].token_ids) + 1]
    return np.concatenate([unmarked[i].token_ids for i in order])[:length]


def _plant(
    document: NDArray[np.int64], fragments: list[NDArray[np.int64]], rng: np.random.Generator
) -> Planted:
    """Put fragments, in order, at random places that do not touch."""
    free = len(document) - sum(map(len, fragments))
    gaps = np.sort(rng.choice(free + 1, len(fragments), replace=False))
    token_ids, places, before = document.copy(), [], 0
    for gap, fragment in zip(gaps.tolist(), fragments, strict=True):
        start = gap + before
        token_ids[start : start + len(fragment)] = fragment
        places.append((start, start + len(fragment)))
        before += len(fragment)
    return Planted(token_ids, places)


def _pairs(
    token_ids: NDArray[np.int64], config: WatermarkConfig, key: SecretKey, scorer: Scorer
) -> Pairs:
    selection = select_pairs(token_ids, config.context_width, drop_repeated_contexts=False)
    scores = score_pairs(selection, config, Prf.from_key(key), scorer)
    return place_pairs(selection, scores, config.context_width)


def _by_first_occurrence(pairs: Pairs) -> Pairs:
    """The plainer rule, for comparison: a context counts where it is first in the document."""
    kept = pairs.previous < 0
    at = pairs.positions[kept]
    return Pairs(at, np.full(len(at), -1), at, pairs.scores[kept])


def _overlaps(segment: Segment, place: tuple[int, int]) -> bool:
    return segment.window_start < place[1] and place[0] < segment.window_end


def _search(planted: Planted, config: WatermarkConfig, key: SecretKey) -> dict[str, Any]:
    """Search one document; look at what is found near each place, and elsewhere."""
    scorer, n_tokens = choose_scorer(None, config.scheme, "direct"), len(planted.token_ids)
    law = scorer.law
    pairs = _pairs(planted.token_ids, config, key, scorer)
    table = assess_windows(pairs, n_tokens, law)
    segments = find_segments(pairs, table, law, alpha=FOUND_BELOW)
    mine = [[s for s in segments if _overlaps(s, place)] for place in planted.places]
    best = [min(found, key=lambda s: s.log10_corrected, default=None) for found in mine]
    edges = [
        abs(edge)
        for segment, place in zip(best, planted.places, strict=True)
        if segment is not None
        for edge in (segment.start - place[0], segment.end - place[1])
    ]
    loose = find_segments(pairs, table, law, alpha=LOOSE)
    own = _pairs(planted.token_ids, config, key, config.scheme)
    return {
        "found": sum(segment is not None for segment in best),
        "distinct": len({s.window_start for s in best if s is not None}),
        "edges": edges,
        "log10_p": [s.log10_corrected for s in best if s is not None],
        "n_segments": len(segments),
        "astray": any(not any(_overlaps(s, p) for p in planted.places) for s in loose),
        "whole": float(table.log10_p[-1]),
        "own": assess_windows(own, n_tokens, config.scheme.law).log10_global,
        "plain": assess_windows(
            _by_first_occurrence(own), n_tokens, config.scheme.law
        ).log10_global,
    }


def _power(
    marked: list[MarkedText],
    unmarked: list[MarkedText],
    config: WatermarkConfig,
    *,
    n_fragments: int,
    length: int,
    n_runs: int,
    seed: int,
) -> dict[str, Any]:
    rng, runs = np.random.default_rng([seed, n_fragments, length]), []
    for run in range(n_runs):
        number = run % len(marked)
        text = marked[number]
        # Text i without a mark was drawn under the key of text i with one (see `marked_texts`).
        others = unmarked[:number] + unmarked[number + 1 :]
        spare = len(text.token_ids) - n_fragments * length
        starts = np.sort(rng.integers(0, spare + 1, n_fragments)) + length * np.arange(n_fragments)
        fragments = [text.token_ids[s : s + length] for s in starts.tolist()]
        # Text i without a mark was drawn under the key of marked text i before that was replaced.
        others = [plain for i, plain in enumerate(unmarked) if i != run % len(marked)]
        planted = _plant(_document(others, LENGTH, rng), fragments, rng)
        runs.append(_search(planted, config, text.key))
    return _summary(runs, n_fragments)


def _summary(runs: list[dict[str, Any]], n_fragments: int) -> dict[str, Any]:
    edges = np.concatenate([run["edges"] for run in runs])
    log10_ps = np.concatenate([run["log10_p"] for run in runs])
    best = np.array([min(run["log10_p"], default=0.0) for run in runs])
    return {
        "runs": len(runs),
        "all_found": _share(sum(run["found"] == n_fragments for run in runs), len(runs)),
        "all_found_apart": _share(sum(run["distinct"] == n_fragments for run in runs), len(runs)),
        "fragments_found": _share(sum(r["found"] for r in runs), n_fragments * len(runs)),
        "exact_number_of_segments": _share(
            sum(run["n_segments"] == n_fragments for run in runs), len(runs)
        ),
        "edge_error_median_tokens": float(np.median(edges)) if len(edges) else None,
        "edge_error_90_percent_tokens": float(np.quantile(edges, 0.9)) if len(edges) else None,
        "median_log10_p": float(np.median(log10_ps)) if len(log10_ps) else None,
        "median_log10_p_best": float(np.median(best)),
        "median_log10_p_of_whole_document_test": float(np.median([r["whole"] for r in runs])),
        "own_score_median_log10_p_best": float(np.median([r["own"] for r in runs])),
        "own_score_median_log10_p_best_by_first_occurrence_in_document": float(
            np.median([r["plain"] for r in runs])
        ),
        f"window_without_marking_at_{LOOSE}": _share(sum(r["astray"] for r in runs), len(runs)),
    }


def _share(hits: int, n: int) -> dict[str, Any]:
    interval = binomtest(hits, n).proportion_ci(0.95, method="exact")
    return {"hits": hits, "of": n, "share": hits / n, "low": interval.low, "high": interval.high}


def _null_log10_ps(
    token_ids: NDArray[np.int64], config: WatermarkConfig, scorer: Scorer, n_keys: int, seed: int
) -> list[float]:
    """Corrected p of one document under fresh keys."""
    selection = select_pairs(token_ids, config.context_width, drop_repeated_contexts=False)
    pairs = place_pairs(selection, np.zeros(selection.n_scored), config.context_width)
    first, group = group_rows(selection.contexts)
    contexts, keys = selection.contexts[first], decoy_keys(n_keys, seed)
    out = []
    for start in range(0, n_keys, _KEYS_AT_ONCE):
        words = words_for_keys(
            keys[start : start + _KEYS_AT_ONCE],
            contexts,
            group,
            selection.tokens,
            scorer.n_streams,
        )
        for under_key in words:
            scored = replace(pairs, scores=scorer.score(under_key))
            table = assess_windows(scored, len(token_ids), scorer.law)
            out.append(table.log10_global)
    return out


def _false_positives(
    documents: list[NDArray[np.int64]],
    config: WatermarkConfig,
    scorer: Scorer,
    n_keys: int,
    seed: int,
) -> dict[str, Any]:
    log10_ps = np.concatenate(
        [
            _null_log10_ps(ids, config, scorer, n_keys, seed * 100_003 + i)
            for i, ids in enumerate(documents)
        ]
    )
    levels = []
    for alpha in LEVELS:
        hits = int((log10_ps <= math.log10(alpha)).sum())
        counted = _share(hits, len(log10_ps))
        levels.append({"alpha": alpha, **counted, "not_above_nominal": counted["low"] <= alpha})
    return {"documents": len(documents), "keys_a_document": n_keys, "levels": levels}


def _prose(n: int, seed: int) -> list[NDArray[np.int64]]:
    path = DATA / "wikitext2_test.txt"
    if not path.exists():
        return []
    ids = load_tokenizer("smollm2").encode(path.read_text(encoding="utf-8"))
    starts = np.random.default_rng(seed).integers(0, len(ids) - LENGTH, n)
    return [ids[s : s + LENGTH] for s in starts.tolist()]


def _seconds(token_ids: NDArray[np.int64], config: WatermarkConfig, key: SecretKey) -> Any:
    """Time a search from token ids to segments."""
    scorer = choose_scorer(None, config.scheme, "direct")
    marks = [time.perf_counter()]
    pairs = _pairs(token_ids, config, key, scorer)
    marks.append(time.perf_counter())
    table = assess_windows(pairs, len(token_ids), scorer.law)
    marks.append(time.perf_counter())
    segments = find_segments(pairs, table, scorer.law, alpha=FOUND_BELOW)
    marks.append(time.perf_counter())
    steps = np.diff(marks).round(4).tolist()
    return {
        "tokens": len(token_ids),
        "windows": len(table.start),
        "seconds_scores": steps[0],
        "seconds_windows": steps[1],
        "seconds_segments": steps[2],
        "seconds": round(marks[-1] - marks[0], 4),
        "segments": len(segments),
        "log10_p": table.log10_global,
        "peak_mib_of_the_process_so_far": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ),
    }


def _speed(marked: list[MarkedText], config: WatermarkConfig, seed: int) -> list[dict[str, Any]]:
    """One marked fragment of 400 in longer and longer documents of random words."""
    rng, measured = np.random.default_rng(seed), []
    for length in (LENGTH, LENGTH, 100_000, 1_000_000):
        # Frequencies fall as those of words do, so that contexts recur.
        background = np.minimum(rng.zipf(1.1, length) - 1, 49_151)
        planted = _plant(background, [marked[0].token_ids[:400]], rng)
        measured.append(_seconds(planted.token_ids, config, marked[0].key))
    # The first search loads what the others find loaded.
    return measured[1:]


def _null(
    unmarked: list[MarkedText], config: WatermarkConfig, n_documents: int, n_keys: int, seed: int
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    kinds = {"model": [_document(unmarked, LENGTH, rng) for _ in range(n_documents)]}
    if prose := _prose(max(n_documents // 4, 1), seed):
        kinds["prose"] = prose
    else:
        click.echo(f"real prose is read from {DATA.name}/, which is not here: skipped")
    measured: dict[str, Any] = {}
    for kind, (score, fewer) in product(kinds, _FEWER_KEYS.items()):
        scorer = choose_scorer(None if score == "default" else score, config.scheme, "direct")
        null = _false_positives(
            kinds[kind], config, scorer, n_keys // fewer, seed + len(measured) + 1
        )
        measured[f"{kind}, {score} score"] = null
        rates = ", ".join(f"{x['alpha']:g}: {x['share']:.3g}" for x in null["levels"])
        click.echo(f"false positives, {kind}, {score} score: {rates}")
    return measured


@click.command()
@click.option("--runs", "n_runs", default=200, show_default=True, help="Marked documents a case.")
@click.option("--documents", "n_documents", default=20, show_default=True, help="Under H0.")
@click.option("--keys", "n_keys", default=1000, show_default=True, help="Fresh keys a document.")
@click.option("--seed", default=0, show_default=True)
def main(n_runs: int, n_documents: int, n_keys: int, seed: int) -> None:
    """Measure what is found, where, what is not, and how long it takes."""
    config = preset("default")
    marked, unmarked = marked_texts("default"), marked_texts(None)
    measured: dict[str, Any] = {"preset": "default", "document_tokens": LENGTH}
    measured["speed"] = _speed(marked, config, seed)
    measured["power"] = {}
    for n_fragments, length in _CASES:
        texts = marked if n_fragments == 1 else marked_texts("default", **_LONG_TEXTS)
        name = f"{n_fragments}x{length}"
        found = _power(
            texts,
            unmarked,
            config,
            n_fragments=n_fragments,
            length=length,
            n_runs=n_runs,
            seed=seed,
        )
        measured["power"][name] = found
        click.echo(
            f"{name}: all found {found['all_found']['share']:.3f}, edges within "
            f"{found['edge_error_median_tokens']:g} tokens in the median, log10 p "
            f"{found['median_log10_p']:.1f}"
        )
    measured["null"] = _null(unmarked, config, n_documents, n_keys, seed)
    click.echo(f"wrote {write_result('localisation', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
