"""Does `heirmark trace model` name the right cohort of eight, and leave a leak in peace?

python -m benchmarks.trace_model --folder FOLDER        # an hour on two cores; goes on if stopped
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.inheritance.asking import N_ANSWERS, answers_of
from benchmarks.inheritance.stages import Stages
from benchmarks.trace_students import STUDENTS, reading, student
from detect.demo.prompts import held_out_prompts


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--only-students", is_flag=True, help="Make the students and their answers, no more.")
def main(folder: Path, only_students: bool) -> None:
    """Teach, train, ask; then trace."""
    stages = Stages(folder)
    reading(stages)
    prompts = held_out_prompts(N_ANSWERS["real"])
    for name in STUDENTS:
        model = student(stages, name)
        answers_of(stages, name.replace(" ", "-"), model, prompts)


if __name__ == "__main__":
    main()
