"""How many tokens until p < 1e-6? The same marked texts of the real model, score by score.

Each text is read from its start, under its own key; what counts is the first prefix whose exact
p-value is at most 1e-6 (texts that never get there count with their full length). Unmarked texts
under fresh keys are the control.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.scoring.alternatives import TYPICAL, minimax
from detect.scoring.reference_scores import levels_of, reference_tables
from detect.scoring.score_tables import Scorer, score_table
from detect.scoring.scores import select_pairs
from detect.tails.mixed_sums import mixed_tail
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig, preset
from watermark.prf import Prf

LOG_ALPHA = math.log(1e-6)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("default", {}),
    "gumbel": ("gumbel", {}),
    "gumbel, temperature 0.7": ("gumbel", {"temperature": 0.7, "n_texts": 100, "n_tokens": 400}),
}


class Words(NamedTuple):
    """What one text offers: words of its scored pairs and what a reference model says of them."""

    words: np.ndarray
    levels: np.ndarray
    positions: np.ndarray


def _words(config: WatermarkConfig, text: MarkedText) -> Words:
    h = config.context_width
    selection = select_pairs(
        text.token_ids, h, prompt_ids=text.prompt_ids, drop_repeated_contexts=True
    )
    prf = Prf.from_key(text.key)
    hashes = prf.context_hashes(np.ascontiguousarray(selection.contexts))
    words = [prf.words(hashes, selection.tokens, s) for s in range(config.scheme.n_streams)]
    positions = np.flatnonzero(selection.reasons == 0)
    return Words(np.stack(words), levels_of(text.log_probs[positions]), positions)


def _p_free(scorer: Scorer, texts: list[Words]) -> list[int | None]:
    """Index of the scored pair at which each text first gets there."""
    sums = [np.cumsum(scorer.score(text.words)) for text in texts]
    first: list[int | None] = [None] * len(texts)
    for i in range(max(map(len, sums))):
        open_ = [k for k, s in enumerate(sums) if first[k] is None and i < len(s)]
        if not open_:
            break
        at = np.array([sums[k][i] for k in open_])
        tails = log_tails(scorer.law, at, np.full(len(open_), i + 1))
        for k, tail in zip(open_, tails.tolist(), strict=True):
            if tail <= LOG_ALPHA:
                first[k] = i
    return first


def _with_reference(config: WatermarkConfig, texts: list[Words]) -> list[int | None]:
    tables = reference_tables(config.scheme)
    first: list[int | None] = []
    for text in texts:
        lengths = range(4, len(text.levels) + 1)
        units = np.cumsum(tables.units(text.words, text.levels))
        logs = (
            mixed_tail(tables.parts(text.levels[:n]), int(units[n - 1])).log10_p for n in lengths
        )
        found = next((n for n, p in zip(lengths, logs, strict=True) if p <= -6), None)
        first.append(None if found is None else found - 1)
    return first


def _tokens(first: list[int | None], texts: list[Words], n_tokens: int) -> np.ndarray:
    """Count in tokens of the text, not only scored ones."""
    return np.array(
        [
            n_tokens if i is None else int(text.positions[i]) + 1
            for i, text in zip(first, texts, strict=True)
        ]
    )


def _quantiles(tokens: np.ndarray, first: list[int | None]) -> dict[str, Any]:
    q = np.quantile(tokens, [0.25, 0.5, 0.75, 0.95])
    return {
        "mean_tokens": float(tokens.mean()),
        "quartile_1": float(q[0]),
        "median_tokens": float(q[1]),
        "quartile_3": float(q[2]),
        "quantile_95": float(q[3]),
        "never": sum(i is None for i in first),
    }


def _measure(name: str, drawing: dict[str, Any], n_texts: int, seed: int) -> dict[str, Any]:
    config, drawn = preset(name), marked_texts(name, seed=seed, **drawing)
    texts = [_words(config, t) for t in drawn[:n_texts]]
    n_tokens = len(drawn[0].token_ids)
    tables: dict[str, Callable[[], Scorer]] = {"-ln(1-u)": lambda: config.scheme}
    for delta in (0.001, 0.01, 0.1):
        tables[f"h_{delta:g}"] = lambda d=delta: score_table(  # type: ignore[misc]
            config.scheme, minimax(d), marked_share=0.999
        )
    for share in (0.1, 0.5, 0.95):
        tables[f"typical, share {share:g}"] = lambda e=share: score_table(  # type: ignore[misc]
            config.scheme, TYPICAL, marked_share=e
        )
    found: dict[str, Any] = {"n_texts": len(texts)}
    plain = None
    for label, make in tables.items():
        first = _p_free(make(), texts)
        tokens = _tokens(first, texts, n_tokens)
        plain = tokens if plain is None else plain
        found[label] = _with_ratios(tokens, plain, first)
        click.echo(f"{name}, {label}: {found[label]}")
    first = _with_reference(config, texts)
    found["with a reference model"] = _with_ratios(_tokens(first, texts, n_tokens), plain, first)
    click.echo(f"{name}, with a reference model: {found['with a reference model']}")
    return found


def _with_ratios(tokens: np.ndarray, plain: np.ndarray, first: list[int | None]) -> dict[str, Any]:
    """Ratios of plain to this, with a bootstrap interval over texts."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(tokens), (2000, len(tokens)))
    ratios = np.median(plain[picks], axis=1) / np.median(tokens[picks], axis=1)
    return {
        **_quantiles(tokens, first),
        "fewer_by_median": float(np.median(plain) / np.median(tokens)),
        "fewer_by_median_95": np.quantile(ratios, [0.025, 0.975]).tolist(),
        "fewer_by_mean": float(plain.mean() / tokens.mean()),
    }


@click.command()
@click.option(
    "--case", "cases", multiple=True, type=click.Choice(list(CASES)), default=tuple(CASES)
)
@click.option("--texts", "n_texts", default=400, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(cases: tuple[str, ...], n_texts: int, seed: int) -> None:
    """Measure tokens to detection."""
    for case in cases:
        measured = _measure(*CASES[case], n_texts, seed)
        path = write_result("tokens_to_detection", seed=seed, measured=measured, case=case)
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
