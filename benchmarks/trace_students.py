"""Students for `benchmarks.trace_model`: of one cohort of eight, of all eight, and of a mixture.

A teacher answers prompts under the keys of eight cohorts, derived from one master. A campaign's
student learns from 360 answers of one cohort. The student of a leak learns from 45 answers of each
cohort. Of the third one half the answers are one cohort's, the others share the rest: a leak in
which that cohort had half of the traffic. All start from the same public model with the same
recipe; so does the clean twin, which learns from unmarked answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from transformers import AutoTokenizer

from benchmarks.inheritance.grid import INNOCENT, ROWS
from benchmarks.inheritance.lessons import MAX_NEW_TOKENS, TEMPERATURE, TOP_K
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import lesson
from benchmarks.inheritance.students import student as inheritance_student
from detect.demo.prompts import training_prompts
from detect.demo.student import Example, fine_tune
from detect.suspect.open_weights import TransformersSuspect
from watermark.config import WatermarkConfig, preset
from watermark.generation.loop import Sampling, chat_prompt, sample_answers
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model

__all__ = ["COHORTS", "GUILTY", "N_LEARNED", "STUDENTS", "labels", "master", "reading", "student"]

COHORTS: Final = 8
# The cohort that the campaign used.
GUILTY: Final = 3
N_LEARNED: Final = 360
STUDENTS: Final = ("one cohort", "all cohorts", "half one cohort", "unmarked")
_BATCH: Final = 120
_READ: Final = 160


def master() -> SecretKey:
    """Make the provider's master: in use it is secret, here a run must be repeatable."""
    return SecretKey(b"benchmarks.trace_model: a master")


def labels() -> list[KeyLabels]:
    """List the labels of the cohorts' keys."""
    return [KeyLabels("smollm2", "2026-11", f"c{i}") for i in range(COHORTS)]


def config() -> WatermarkConfig:
    """Return the deployment."""
    return preset("default")


def reading(stages: Stages) -> list[dict[str, Any]]:
    """Return unmarked answers to prompts that no student learned from."""
    return lesson(stages, "reading")[:_READ]


def student(stages: Stages, name: str) -> Path:
    """Return the folder of a student, trained now unless it was before."""
    if name == "unmarked":
        return inheritance_student(stages, INNOCENT)
    rows = _learned(stages, name)
    return stages.made(f"student-{name.replace(' ', '-')}", lambda path: _learn(rows, path))


def _learned(stages: Stages, name: str) -> list[dict[str, Any]]:
    one = _taught(stages, "lesson-one.jsonl", lambda i: GUILTY)
    if name == "one cohort":
        return one
    every = _taught(stages, "lesson-all.jsonl", lambda i: i % COHORTS)
    if name == "all cohorts":
        return every
    half = N_LEARNED // 2
    others = [row for row in every if row["cohort"] != GUILTY]
    return one[half:] + others[:half]


def _taught(stages: Stages, name: str, cohort: Callable[[int], int]) -> list[dict[str, Any]]:
    path = stages.made(name, lambda path: _teach(path, [cohort(i) for i in range(N_LEARNED)]))
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _teach(path: Path, cohorts: Sequence[int]) -> None:
    model, prompts = resolve_model("smollm2"), training_prompts(N_LEARNED)
    chat = AutoTokenizer.from_pretrained(model)
    keys = [labels()[i].key_from(master()) for i in cohorts]
    sampling = Sampling(MAX_NEW_TOKENS, TEMPERATURE, TOP_K, _BATCH, seed=41)
    answers = sample_answers(
        load_model(model),
        [chat_prompt(chat, prompt) for prompt in prompts],
        sampling,
        end_ids=[chat.eos_token_id],
        marker=Marker(config(), keys),
    )
    rows = [
        {"cohort": c, "prompt": p, "token_ids": list(map(int, a.token_ids))}
        for c, p, a in zip(cohorts, prompts, answers, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _learn(rows: Sequence[dict[str, Any]], path: Path) -> None:
    start = resolve_model("smollm2")
    model = TransformersSuspect(start)
    examples = [Example(model.chat_ids(row["prompt"]), row["token_ids"]) for row in rows]
    end_id = model.end_ids[0]
    del model
    recipe = replace(ROWS[INNOCENT].recipe, seed=0)
    fine_tune(start, examples, path, recipe, end_id=end_id)
