"""The demo as a benchmark: student, twin and base by text and by weights; 20 fresh keys beside.

Runs `heirmark demo` (or takes up a finished run), then tests twin and base under 20 keys that
were never used: their p-values must look like chance.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.record import write_result
from detect.demo.folder import FULL
from detect.demo.run import run_demo
from detect.finding import Plan
from detect.scoring.scorers import choose_scorer
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.inheritance import TEXT_EFFECT, assess_answers
from watermark.config import load_config
from watermark.keys import SecretKey
from watermark.tokens import load_tokenizer

_STEP_KEYS = (
    "name", "p_value", "log10_p", "log10_p_ceiling", "method", "n_scored", "n_tokens", "verdict",
    "seconds", "decoys", "median_log10_p", "uniformity_p_value", "n_answers", "n_significant",
    "n_documents", "n_marked",
)  # fmt: skip


def _answers(path: Path) -> list[SuspectAnswer]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [SuspectAnswer(row["full_prompt"], row["text"]) for row in rows]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo-run"))
@click.option("--seed", default=0, show_default=True, help="Of the 20 fresh keys.")
def main(folder: Path, seed: int) -> None:
    """Measure inheritance."""
    payload = run_demo(folder, "smollm2", size=FULL, say=click.echo)
    config, tokenizer = load_config(folder / "config.json"), load_tokenizer("smollm2")
    rng = np.random.default_rng(seed)
    scorer = choose_scorer(None, config.scheme, "inherited")
    plan = Plan(config, SecretKey(rng.bytes(32)), 1e-6, TEXT_EFFECT, 0, 0, scorer)
    fresh: dict[str, list[float]] = {}
    for name in ("twin", "base", "student"):
        answers = _answers(folder / f"{name}-answers.jsonl")
        plans = [replace(plan, key=SecretKey(rng.bytes(32))) for _ in range(20)]
        found = [assess_answers(p, tokenizer, answers).finding.tail.p_value for p in plans]
        fresh[name] = sorted(found)
        click.echo(f"{name} by text under 20 fresh keys: {found}")
    measured: dict[str, Any] = {
        "recipe": payload["recipe"],
        "seconds": payload["seconds"],
        "work": payload["work"],
        "steps": [{k: s[k] for k in _STEP_KEYS if k in s} for s in payload["steps"]],
        "by_text_under_20_fresh_keys": fresh,
    }
    click.echo(f"wrote {write_result('demo', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
