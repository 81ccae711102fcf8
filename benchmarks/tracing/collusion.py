"""Documents of 2 to 5 accounts, pieces in turn, a fifth of the tokens replaced."""

from __future__ import annotations

from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.tracing.searching import (
    ALPHA,
    N_TEXTS,
    N_TOKENS,
    account_integers,
    served_to,
    traced,
)
from detect.results import Verdict


def measure_collusion(n_keys: int, n_documents: int, seed: int) -> dict[str, Any]:
    texts = marked_texts("default", n_texts=N_TEXTS, n_tokens=N_TOKENS, seed=0)
    integers, rng, found = account_integers(n_keys, seed), np.random.default_rng(seed), {}
    for n_writers, turn, piece in ((2, 50, None), (3, 50, None), (5, 50, None), (5, 100, 100)):
        for edited in (0.0, 0.2):
            case = [
                _mixed(texts, n_writers, edited, (turn, piece), integers, rng)
                for _ in range(n_documents)
            ]
            guilty = sum(row[0] for row in case)
            searched = f"pieces of {piece}" if piece else "whole"
            name = f"{n_writers} accounts, {turn} tokens in turn, {searched}, {edited:.0%} replaced"
            found[name] = {
                "documents": n_documents,
                "tokens": n_writers * N_TOKENS,
                "guilty_named": guilty / (n_writers * n_documents),
                "all_guilty_named": sum(row[0] == n_writers for row in case) / n_documents,
                "somebody_named": sum(row[2] for row in case) / n_documents,
                "innocents_named": sum(row[1] for row in case),
            }
            click.echo(f"{name}: {found[name]}")
    return {"n_keys": n_keys, "alpha": ALPHA, "cases": found}


def _mixed(
    texts: list[MarkedText],
    n_writers: int,
    edited: float,
    cuts: tuple[int, int | None],
    integers: NDArray[np.uint64],
    rng: np.random.Generator,
) -> tuple[int, int, bool]:
    """Search one document, 300 tokens of each; guilty and innocent accounts that it names."""
    chosen = [texts[i] for i in rng.choice(len(texts), n_writers + 1, replace=False)]
    parts = [text.token_ids for text in chosen[:-1]]
    turn, piece = cuts
    pieces = [part[i : i + turn] for i in range(0, N_TOKENS, turn) for part in parts]
    mixed = np.concatenate(pieces)
    # By tokens of somebody else's text, as likely as real ones.
    other = rng.permutation(np.resize(chosen[-1].token_ids, len(mixed)))
    mixed = np.where(rng.random(len(mixed)) < edited, other, mixed)
    family = served_to(integers, dict(enumerate(chosen[:-1])))
    result = traced(family, [mixed], piece=piece)
    numbers = {int(row.account.name) for row in result.named}
    guilty = len(numbers & set(range(n_writers)))
    return guilty, len(numbers) - guilty, result.verdict == Verdict.SIGNAL
