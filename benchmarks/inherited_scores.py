"""Which score sees inherited signal best? Answers of real students, by text, score by score.

Reads a run of the frozen benchmark (`python -m benchmarks.inheritance --output DIR`): students that
learned from answers marked under keys of their own, by one key or two, h = 1, 2 and 4. The default
for inherited signal was chosen on an earlier student; a suspect under test plays no part in it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from benchmarks.inheritance.asking import answers_of
from benchmarks.inheritance.grid import ROWS
from benchmarks.inheritance.lessons import LESSONS
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import file_name, student
from benchmarks.record import write_result
from detect.finding import Plan
from detect.scoring.alternatives import TYPICAL, minimax
from detect.scoring.score_tables import Scorer, score_table
from detect.suspect.answer_pairs import pool_answers
from detect.suspect.inheritance import TEXT_EFFECT, assess_pool
from watermark.config import WatermarkConfig
from watermark.tokens import load_tokenizer

_MARKS: Final = ("dual h=1", "dual h=2", "dual h=4", "gumbel h=2")
STUDENTS: Final = tuple(f"{family}, {mark}" for family in ("real", "small") for mark in _MARKS)


def _scorers(config: WatermarkConfig) -> dict[str, Scorer]:
    scorers: dict[str, Scorer] = {"-ln(1-u)": config.scheme}
    for delta in (0.001, 0.01, 0.1):
        scorers[f"h_{delta:g}"] = score_table(config.scheme, minimax(delta), marked_share=0.999)
    for share in (0.95, 0.5, 0.2, 0.1, 0.05, 0.01):
        scorers[f"typical, share {share:g}"] = score_table(
            config.scheme, TYPICAL, marked_share=share
        )
    return scorers


def _measure(stages: Stages, name: str) -> dict[str, Any]:
    row, tokenizer = ROWS[name], load_tokenizer("smollm2")
    lesson = LESSONS[row.tested]
    assert lesson.config is not None
    answers = answers_of(stages, row.family, file_name(name), student(stages, name))
    pairs = pool_answers(tokenizer, answers, lesson.config.context_width)
    found: dict[str, Any] = {"n_scored": len(pairs.tokens)}
    for label, scorer in _scorers(lesson.config).items():
        plan = Plan(lesson.config, lesson.key, 1e-6, TEXT_EFFECT, 0, 0, scorer)
        finding = assess_pool(plan, pairs)
        n, law = finding.n_scored, scorer.law
        z = (finding.statistic - n * law.mean) / math.sqrt(n * law.variance)
        found[label] = {"z": z, "log10_p": finding.tail.log10_p}
    return found


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--student", "names", multiple=True, type=click.Choice(STUDENTS), default=STUDENTS)
def main(folder: Path, names: tuple[str, ...]) -> None:
    """Compare scores on the students of a benchmark run (FOLDER)."""
    runs = {name: _measure(Stages(folder), name) for name in names}
    labels = [label for label in runs[names[0]] if label != "n_scored"]
    mean_z = {label: float(np.mean([run[label]["z"] for run in runs.values()])) for label in labels}
    for label, z in mean_z.items():
        click.echo(f"{label}: mean z {z:.2f}")
    measured = {"n_students": len(runs), "mean_z": mean_z, "students": runs}
    click.echo(f"wrote {write_result('inherited_scores', seed=0, measured=measured)}")


if __name__ == "__main__":
    main()
