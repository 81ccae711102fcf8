"""Does `heirmark trace model` name the right cohort of eight, and leave a leak in peace?

Three students and a clean twin (`benchmarks.trace_students`) are traced under the eight cohorts'
keys by their answers and by their weights: without counters of what was served, and with those of
the traffic that the student was taught by. The twin is the control of the others, and is traced as
a suspect itself.

    python -m benchmarks.trace_model --folder FOLDER   # an hour on two cores; goes on if stopped
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Literal

import click

from benchmarks.inheritance.asking import N_ANSWERS, answers_of
from benchmarks.inheritance.stages import Stages
from benchmarks.record import write_result
from benchmarks.trace_students import (
    COHORTS,
    GUILTY,
    N_LEARNED,
    STUDENTS,
    config,
    labels,
    master,
    reading,
    student,
)
from detect.decoys import AUTOMATIC
from detect.demo.prompts import held_out_prompts
from detect.results import ALPHA
from detect.suspect.probing import ProbeRequest
from detect.tracing.models.hearing import HeardModel, Hearing, hear
from detect.tracing.models.leaks import Traffic
from detect.tracing.models.trace import trace_hearing
from detect.tracing.named_keys import NamedKey
from watermark.cli import progress
from watermark.models import resolve_model

SEED: Final = 0
Access = Literal["text", "weights"]
_ACCESS: Final[tuple[Access, ...]] = ("weights", "text")
# Answers served under each key, as the student met them: what a leak's traffic would have been.
_TRAFFIC: Final = {
    "one cohort": [1000] * COHORTS,
    "all cohorts": [1000] * COHORTS,
    "half one cohort": [7000 if i == GUILTY else 1000 for i in range(COHORTS)],
    "unmarked": [1000] * COHORTS,
}
# The base is the reference of tests by weights.
_CONTROLS: Final[dict[Access, tuple[str, ...]]] = {
    "weights": ("unmarked",),
    "text": ("unmarked", "base"),
}
_KEPT: Final = (
    "conclusion", "conclusion_in_words", "level_of_each", "verdict", "best", "log10_p", "n_scored",
    "n_tokens",
    "spread", "warnings",
)  # fmt: skip
_KEPT_OF_KEY: Final = ("name", "log10_p", "log10_p_adjusted", "z", "verdict")


def traced(stages: Stages, name: str, access: Access) -> dict[str, Any]:
    """Trace one student, without and with counters of what was served."""
    keys = _keys()
    heard = _heard(stages, name, access)
    # Controls are heard once for all students.
    controls = [other for other in _CONTROLS[access] if other != name]
    heard = replace(heard, controls=tuple(_heard(stages, c, access).suspect for c in controls))
    served = dict(zip([key.name for key in keys], _TRAFFIC[name], strict=True))
    found: dict[str, Any] = {}
    for label, traffic in (
        ("no counters", Traffic()),
        ("traffic, 100 documents", Traffic(served, 100)),
        ("traffic, 1000 documents", Traffic(served, 1000)),
    ):
        request = _request(stages, name, access)
        payload = trace_hearing(request, heard, keys, traffic, {}).to_dict()
        found[label] = {key: payload[key] for key in _KEPT}
        if traffic.served is None:
            rows = [{key: row[key] for key in _KEPT_OF_KEY} for row in payload["cohorts"]]
            decoys = [row["decoys"]["n_at_least"] for row in payload["cohorts"]]
            found |= {"keys": rows, "decoys_at_least": decoys, "controls": payload["controls"]}
            # They say the same of every traffic, and take most of the time.
            heard = _without_decoys(heard)
    return found


def _without_decoys(heard: Hearing) -> Hearing:
    def of(model: HeardModel) -> HeardModel:
        plan = replace(model.heard.plan, n_decoys=0)
        return model._replace(heard=replace(model.heard, plan=plan))

    return replace(heard, suspect=of(heard.suspect), controls=tuple(map(of, heard.controls)))


def _keys() -> tuple[NamedKey, ...]:
    return tuple(NamedKey(each.name, each, each.key_from(master())) for each in labels())


@cache
def _heard(stages: Stages, name: str, access: Access) -> Hearing:
    prompts, texts = _inputs(stages)
    return hear(
        _request(stages, name, access),
        [key.key for key in _keys()],
        str(prompts) if access == "text" else None,
        str(texts) if access == "weights" else None,
        progress,
        print,
    )


def _request(stages: Stages, name: str, access: Access) -> ProbeRequest:
    def spec(of: str) -> str:
        if access == "weights":
            return str(student(stages, of))
        model = resolve_model("smollm2") if of == "base" else student(stages, of)
        answers_of(stages, of.replace(" ", "-"), model, _prompts())
        return str(stages.folder / f"answers-{of.replace(' ', '-')}.jsonl")

    return ProbeRequest(
        suspect=spec(name),
        access=access,
        controls=(),
        reference="smollm2" if access == "weights" else None,
        config=config(),
        key=_keys()[0].key,
        tokenizer="smollm2",
        alpha=ALPHA,
        n_decoys=AUTOMATIC,
        seed=SEED,
        score=None,
        max_new_tokens=96,
        temperature=1.0,
        top_k=50,
    )


def _prompts() -> list[str]:
    return held_out_prompts(N_ANSWERS["real"])


def _inputs(stages: Stages) -> tuple[Path, Path]:
    """Write prompts and reading texts as the command reads them."""
    rows = [{"prompt": row["prompt"], "text": row["text"]} for row in reading(stages)]
    texts = "".join(json.dumps(row) + "\n" for row in rows)
    # A recording is looked up by the prompt as the model saw it.
    recorded = (stages.folder / "answers-unmarked.jsonl").read_text("utf-8").splitlines()
    asked = "".join(json.dumps({"prompt": json.loads(row)["prompt"]}) + "\n" for row in recorded)
    return (
        stages.made("prompts.jsonl", lambda path: path.write_text(asked, "utf-8")),
        stages.made("reading.jsonl", lambda path: path.write_text(texts, "utf-8")),
    )


def results(stages: Stages) -> Iterator[tuple[str, dict[str, Any]]]:
    """Trace every student by weights and by text; yield what was found of each."""
    for name in STUDENTS:
        found: dict[str, Any] = {}
        for access in _ACCESS:
            kept = f"trace-{name.replace(' ', '-')}-{access}.json"
            found[access] = stages.kept(kept, partial(traced, stages, name, access))
        yield name, found


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
def main(folder: Path) -> None:
    """Teach, train, ask; then trace."""
    stages = Stages(folder)
    answers_of(stages, "unmarked", student(stages, "unmarked"), _prompts())
    students: dict[str, Any] = {}
    for name, found in results(stages):
        students[name] = found
        for access, each in found.items():
            click.echo(f"{name}, {access}: {each['no counters']['conclusion_in_words']}")
        measured = {
            "model": "SmolLM2-135M-Instruct",
            "preset": "default",
            "cohorts": COHORTS,
            "guilty": labels()[GUILTY].name,
            "answers_learned": N_LEARNED,
            "answers": N_ANSWERS["real"],
            "reading_texts": len(reading(stages)),
            "alpha": ALPHA,
            "seconds_of_one_core": stages.seconds(),
            "students": students,
        }
        # After each student: what was measured is kept if the rest is not.
        path = write_result("trace_model", seed=SEED, measured=measured)
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
