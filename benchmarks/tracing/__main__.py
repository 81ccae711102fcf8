"""Who of 25,000 accounts wrote it: how fast, how surely, and never an innocent one?

- keys: words a second of one core over 25,000 keys, beside the path that keeps the words.
- right: leaked documents of the real model, each searched among 25,000 accounts.
- null: unmarked text, each time searched by `trace_text` among 25,000 fresh keys, alone or with a
  second document and their pool, on all cores, as many searches as the time allows.
- deep: p-values of a pool of two unmarked pieces under some hundred million keys, to 1e-7.
- shares: corpora of 50 accounts and unmarked text; are true shares inside their intervals?
- collusion: documents of 1 to 10 accounts in turn, a fifth of the tokens replaced, searched with
  and without passages; beside them what those could do who know more than a search. And what
  passages of nobody score under millions of keys.
- collusion-tracer: the same under the preset tracer (context width 1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from benchmarks.record import write_result
from benchmarks.tracing.collusion import measure_collusion
from benchmarks.tracing.corpora import measure_shares
from benchmarks.tracing.innocents import measure_deep, measure_null
from benchmarks.tracing.right import measure_right
from benchmarks.tracing.searching import N_TEXTS
from benchmarks.tracing.speed import measure_speed

_PARTS = ("keys", "right", "null", "deep", "shares", "collusion", "collusion-tracer")


@click.command()
@click.argument("part", type=click.Choice(_PARTS))
@click.option("--keys", "n_keys", default=25_000, show_default=True)
@click.option("--runs", "n_runs", default=9, show_default=True, help="Of keys: alternating runs.")
@click.option("--texts", "n_texts", default=N_TEXTS, show_default=True, help="Of right.")
@click.option("--searches", "n_searches", default=100_000, show_default=True, help="Of null, deep.")
@click.option("--minutes", default=20.0, show_default=True, help="Of null and deep, at most.")
@click.option("--piece-tokens", default=40, show_default=True, help="Of null, deep.")
@click.option("--corpora", "n_corpora", default=40, show_default=True, help="Of shares.")
@click.option("--documents", "n_documents", default=25, show_default=True, help="Of collusion.")
@click.option("--seed", default=0, show_default=True)
def main(
    part: str,
    n_keys: int,
    n_runs: int,
    n_texts: int,
    n_searches: int,
    minutes: float,
    piece_tokens: int,
    n_corpora: int,
    n_documents: int,
    seed: int,
) -> None:
    """Measure one part."""
    started = time.perf_counter()
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "keys": lambda: measure_speed(n_keys, n_runs, seed),
        "right": lambda: measure_right(n_keys, n_texts, seed),
        "null": lambda: measure_null(n_keys, n_searches, minutes, piece_tokens, seed),
        "deep": lambda: measure_deep(minutes, piece_tokens, seed),
        "shares": lambda: measure_shares(n_corpora, seed),
        "collusion": lambda: measure_collusion("default", n_keys, n_documents, seed),
        "collusion-tracer": lambda: measure_collusion("tracer", n_keys, n_documents, seed),
    }
    found = runs[part]()
    found["seconds"] = round(time.perf_counter() - started, 1)
    click.echo(f"{part}: {found}")
    click.echo(f"wrote {write_result('tracing', seed=seed, measured=found, case=part)}")


if __name__ == "__main__":
    main()
