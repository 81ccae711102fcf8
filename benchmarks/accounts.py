"""25,000 account keys against one text: is the right account named, and never a wrong one?

Each text of the real model is marked under the key of one of 25,000 accounts and tested under all
of them, at a family-wise level of 1e-6. Wrong accounts: the same search among 25,000 fresh keys a
piece of text, none of which marked it.
"""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np
from scipy.stats import binomtest

from benchmarks.marked_texts import MarkedText, marked_texts
from benchmarks.record import write_result
from detect.attribution import attribute, prf_keys
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Selection, select_pairs
from watermark.config import preset
from watermark.keys import SecretKey

LENGTHS = (50, 100, 200, 500)
ALPHA = 1e-6
# Texts for wrong accounts: fewer and shorter ones do, and they were drawn for another benchmark.
DRAWING: dict[str, Any] = {"temperature": 0.7, "n_texts": 100, "n_tokens": 400}


def _accounts(n: int, seed: int) -> np.ndarray:
    master = SecretKey(np.random.default_rng([seed, 7]).bytes(32))
    return prf_keys([master.derive(account=f"account {i}") for i in range(n)])


def _select(text: MarkedText, width: int, start: int, length: int) -> Selection:
    return select_pairs(
        text.token_ids[start : start + length],
        width,
        prompt_ids=text.prompt_ids,
        drop_repeated_contexts=True,
    )


def _right(name: str, keys: np.ndarray, n_texts: int, seed: int) -> dict[str, Any]:
    config = preset(name)
    scorer = choose_scorer(None, config.scheme, "direct")
    texts = marked_texts(name, seed=seed)[:n_texts]
    found: dict[str, Any] = {}
    for length in LENGTHS:
        right, wrong, started = 0, 0, time.perf_counter()
        for i, text in enumerate(texts):
            served = keys.copy()
            served[i] = prf_keys([text.key])[0]
            result = attribute(
                _select(text, config.context_width, 0, length), scorer, served, alpha=ALPHA
            )
            right += any(key.index == i for key in result.named)
            wrong += sum(key.index != i for key in result.named)
        seconds = (time.perf_counter() - started) / len(texts)
        found[f"{length} tokens"] = {
            "texts": len(texts),
            "right_account_named": right / len(texts),
            "wrong_accounts_named": wrong,
            "seconds_a_text": seconds,
        }
        click.echo(f"{name}, {length} tokens: {found[f'{length} tokens']}")
    return found


def _wrong(name: str, n_accounts: int, n_pieces: int, length: int, seed: int) -> dict[str, Any]:
    config = preset(name)
    scorer = choose_scorer(None, config.scheme, "direct")
    texts = marked_texts(name, seed=seed, **DRAWING)
    per_text = DRAWING["n_tokens"] // length
    best, named = [], 0
    for i in range(n_pieces):
        text = texts[i % len(texts)]
        start = (i // len(texts)) % per_text * length
        # Fresh keys make the searches independent, although pieces share pairs and come again.
        keys = np.random.default_rng([seed, i]).integers(0, 1 << 64, (n_accounts, 2), np.uint64)
        selection = _select(text, config.context_width, start, length)
        result = attribute(selection, scorer, keys, alpha=ALPHA)
        best.append(result.best.log10_p_adjusted)
        named += len(result.named)
    adjusted = np.array(best)
    return {
        "searches": n_pieces,
        "tokens": length,
        "wrong_accounts_named": named,
        "smallest_log10_p_adjusted": float(adjusted.min()),
        "levels": [_level(adjusted, alpha) for alpha in (0.1, 0.01, 0.001)],
    }


def _level(adjusted: np.ndarray, alpha: float) -> dict[str, Any]:
    """Count searches whose best adjusted p is at most alpha; one-sided binomial test of more."""
    hits = int((adjusted <= np.log10(alpha)).sum())
    test = binomtest(hits, len(adjusted), alpha, alternative="greater")
    return {
        "alpha": alpha,
        "share": hits / len(adjusted),
        "binomial_p_value": float(test.pvalue),
    }


@click.command()
@click.option("--part", type=click.Choice(["right", "wrong"]), help="Only this part.")
@click.option("--texts", "n_texts", default=200, show_default=True)
@click.option("--accounts", "n_accounts", default=25_000, show_default=True)
@click.option("--pieces", "n_pieces", default=10_000, show_default=True, help="For wrong accounts.")
@click.option("--piece-tokens", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    part: str | None, n_texts: int, n_accounts: int, n_pieces: int, piece_tokens: int, seed: int
) -> None:
    """Search accounts."""
    known = {"accounts": n_accounts, "alpha": ALPHA}
    if part != "wrong":
        started = time.perf_counter()
        keys = _accounts(n_accounts, seed)
        found: dict[str, Any] = {
            **known,
            "seconds_to_derive_all_keys": time.perf_counter() - started,
            **{name: _right(name, keys, n_texts, seed) for name in ("default", "gumbel")},
        }
        click.echo(f"wrote {write_result('accounts', seed=seed, measured=found, case='right')}")
    if part != "right":
        found = {**known, "gumbel": _wrong("gumbel", n_accounts, n_pieces, piece_tokens, seed)}
        click.echo(f"wrong accounts: {found}")
        click.echo(f"wrote {write_result('accounts', seed=seed, measured=found, case='wrong')}")


if __name__ == "__main__":
    main()
