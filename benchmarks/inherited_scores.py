"""Which score sees inherited signal best? Answers of real students, by text, score by score.

Reads finished demo runs (`heirmark demo --output DIR`): each has a student that learned from marked
answers, a twin and the untouched base, under a key of its own. The default for inherited signal is
chosen from these students; a suspect under test plays no part in it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.record import write_result
from detect.finding import Plan
from detect.scoring.alternatives import TYPICAL, minimax
from detect.scoring.score_tables import Scorer, score_table
from detect.suspect.inheritance import TEXT_EFFECT, assess_answers
from detect.suspect.suspects import SuspectAnswer
from watermark.config import WatermarkConfig, load_config
from watermark.keys import load_key
from watermark.tokens import load_tokenizer

MODELS = ("student", "twin", "base")


def _scorers(config: WatermarkConfig) -> dict[str, Scorer]:
    scorers: dict[str, Scorer] = {"-ln(1-u)": config.scheme}
    for delta in (0.001, 0.01, 0.1):
        scorers[f"h_{delta:g}"] = score_table(config.scheme, minimax(delta), marked_share=0.999)
    for share in (0.95, 0.5, 0.2, 0.05, 0.01):
        scorers[f"typical, share {share:g}"] = score_table(
            config.scheme, TYPICAL, marked_share=share
        )
    return scorers


def _answers(folder: Path, name: str) -> list[SuspectAnswer]:
    lines = (folder / f"{name}-answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [SuspectAnswer(row["full_prompt"], row["text"]) for row in map(json.loads, lines)]


def _measure(folder: Path) -> dict[str, Any]:
    config, key = load_config(folder / "config.json"), load_key(folder / "demo.key.json")
    tokenizer = load_tokenizer("smollm2")
    found: dict[str, Any] = {}
    for name in MODELS:
        answers = _answers(folder, name)
        found[name] = {}
        for label, scorer in _scorers(config).items():
            plan = Plan(config, key, 1e-6, TEXT_EFFECT, 0, 0, scorer)
            finding = assess_answers(plan, tokenizer, answers).finding
            n, law = finding.n_scored, scorer.law
            z = (finding.statistic - n * law.mean) / math.sqrt(n * law.variance)
            found[name][label] = {"z": z, "log10_p": finding.tail.log10_p, "n_scored": n}
    return found


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(folders: tuple[Path, ...]) -> None:
    """Compare scores on finished demo runs (FOLDERS)."""
    runs = [_measure(folder) for folder in folders]
    mean_z = {
        name: {
            label: float(np.mean([run[name][label]["z"] for run in runs]))
            for label in runs[0][name]
        }
        for name in MODELS
    }
    for label in runs[0]["student"]:
        z = ", ".join(f"{name} {mean_z[name][label]:.2f}" for name in MODELS)
        click.echo(f"{label}: mean z {z}")
    measured = {"n_students": len(runs), "mean_z": mean_z, "runs": runs}
    click.echo(f"wrote {write_result('inherited_scores', seed=0, measured=measured)}")


if __name__ == "__main__":
    main()
