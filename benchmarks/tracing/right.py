"""Leaked documents of the real model, each searched among 25,000 accounts."""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.tracing.searching import (
    ALPHA,
    ELSEWHERE,
    N_TEXTS,
    N_TOKENS,
    account_integers,
    served_to,
    traced,
)


def measure_right(n_keys: int, n_texts: int, seed: int) -> dict[str, Any]:
    integers = account_integers(n_keys, seed)
    drawn = {
        "default, temperature 1": ("default", {"n_texts": N_TEXTS, "n_tokens": N_TOKENS}),
        "gumbel, temperature 0.7": ("gumbel", ELSEWHERE),
    }
    found = {}
    for case, (name, drawing) in drawn.items():
        texts = marked_texts(name, seed=0, **drawing)[:n_texts]
        found[case] = [_named_right(name, texts, integers, length) for length in (100, 300)]
        click.echo(f"{case}: {found[case]}")
    return {"n_keys": n_keys, "alpha": ALPHA, "cases": found}


def _named_right(
    name: str, texts: list[MarkedText], integers: NDArray[np.uint64], length: int
) -> dict[str, Any]:
    right, wrong, worst, started = 0, 0, -np.inf, time.perf_counter()
    for i, text in enumerate(texts):
        result = traced(served_to(integers, {i: text}), [text.token_ids[:length]], name)
        names = [row.account.name for row in result.named]
        right += str(i) in names
        wrong += sum(other != str(i) for other in names)
        worst = max(worst, result.tail.log10_p)
    band = binomtest(right, len(texts)).proportion_ci(0.95, "exact")
    return {
        "tokens": length,
        "texts": len(texts),
        "right_account_named": right / len(texts),
        "interval_95": [band.low, band.high],
        "wrong_accounts_named": wrong,
        "weakest_log10_p_adjusted": worst,
        "seconds_a_text": (time.perf_counter() - started) / len(texts),
    }
