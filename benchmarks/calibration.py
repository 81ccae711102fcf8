"""What `heirmark calibrate` measures on real unmarked text: prose, code and templates.

Rates under fresh keys with exact intervals, kind by kind, and the p-values of one fixed key. The
templates are worked answers whose numbers differ. Real text is read from the shared data folder.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.record import write_result
from detect.calibrating.calibration import Calibration, calibrate
from detect.documents import Document
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.tokens import load_tokenizer

DATA = Path(__file__).parents[2] / "shared" / "data"
_SETTINGS = (
    ("default", "typical"), ("default", "own"), ("gumbel", "minimax"), ("gumbel", "weak"),
    ("red-green", "own"), ("unigram", "own"), ("tournament", "own"),
)  # fmt: skip


def _corpus(n_characters: int, seed: int) -> list[Document]:
    """Prose, code, and template texts of like size."""
    prose = (DATA / "wikitext2_test.txt").read_text(encoding="utf-8")[:n_characters]
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    code = "\n".join(r["prompt"] + r["canonical_solution"] for r in rows)[:n_characters]
    rng = np.random.default_rng(seed)
    lines = [
        f"{i}. The order of {rng.integers(10, 999)} boxes left the harbour at "
        f"{rng.integers(1, 24)} o'clock and was signed for by the captain of the day.\n"
        for i in range(n_characters // 100)
    ]
    # Pages of one line are repetitive, pages of many forms are templates of earlier pages.
    form = prose[:600]
    forms = [f"{form} No. {rng.integers(10**6)}. Signed.\n" for _ in range(n_characters // 1_000)]
    return [
        Document("prose", "prose", prose),
        Document("code", "code", code),
        Document("list", "list", "".join(lines)),
        *(Document(f"form {i}", f"form {i}", text) for i, text in enumerate(forms)),
    ]


def _row(result: Calibration, seconds: float) -> dict[str, Any]:
    payload = result.to_dict()
    for trials in (*payload["fresh_keys"].values(), payload["this_key"]):
        del trials["curve"]
    for name in ("limits", "strata", "config_fingerprint"):
        del payload[name]
    return {**payload, "seconds": seconds}


@click.command()
@click.option("--characters", default=250_000, show_default=True, help="Of each kind of text.")
@click.option("--keys", "n_keys", default=150, show_default=True, help="Fresh keys a piece.")
@click.option("--length", default=150, show_default=True, help="Tokens a piece.")
@click.option("--seed", default=0, show_default=True)
def main(characters: int, n_keys: int, length: int, seed: int) -> None:
    """Calibrate several schemes and scores on real text."""
    if not DATA.exists():
        raise click.ClickException(
            f"the texts are read from {DATA.name}/, which is not here: skipped"
        )
    documents, tokenizer = _corpus(characters, seed), load_tokenizer("smollm2")
    key = SecretKey(np.random.default_rng([seed, 2]).bytes(32))
    measured: dict[str, Any] = {"n_keys": n_keys, "length": length}
    for name, score in _SETTINGS:
        started = time.perf_counter()
        result = calibrate(
            documents,
            tokenizer=tokenizer,
            config=preset(name),
            key=key,
            n_keys=n_keys,
            length=length,
            seed=seed,
            score=score,
        )
        row = _row(result, time.perf_counter() - started)
        measured[f"{name}, {score}"] = row
        rates = ", ".join(
            f"{r['alpha']:g}: {r['rate']:.3g}" for r in row["fresh_keys"]["all"]["rates"]
        )
        click.echo(
            f"{name}, {score} ({row['n_pieces']}, {row['seconds']:.0f} s): {rates}; uniformity "
            f"{row['fresh_keys']['all']['uniformity_p_value']:.2g}; this key pooled 10^"
            f"{row['this_key']['log10_p_pooled']:.2f}, uniformity "
            f"{row['this_key']['uniformity_p_value']:.2g}; {row['warnings'] or 'no warning'}"
        )
    click.echo(f"wrote {write_result('calibration', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
