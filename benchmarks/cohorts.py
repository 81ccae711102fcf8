"""Which of eight cohorts did a student learn from? Its weights, read under each cohort's key.

A teacher answers the same prompts for eight cohorts of accounts, each under a key of its own.
Students are fine-tuned on answers of one cohort each (all of their training data, or a tenth of
it), one on answers of all eight, some on unmarked answers; each training has a seed of its own, so
that the spread over seeds is seen as well. Each student's next-token distributions on unmarked
texts, less those of the clean base, are tested under every key.

H0 of each test: the student is independent of the key. Exact tails. The cohort named is that of the
smallest p-value; with eight looked at, it counts if eight times that is at most 1e-6.

    python -m benchmarks.cohorts --cohorts 8        # minutes on an accelerator, hours without
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import click
import numpy as np
from transformers import AutoTokenizer

from benchmarks.inheritance.asking import Kept
from benchmarks.record import write_result
from detect.demo.prompts import held_out_prompts, training_prompts
from detect.demo.student import Example, Recipe, fine_tune
from detect.finding import Plan
from detect.suspect.distributions import WEIGHTS_EFFECT, assess_pairs
from detect.suspect.exchanges import ReadingText
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.reading import read_pairs
from watermark.config import WatermarkConfig, preset
from watermark.generation.loop import Sampling, chat_prompt, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model

ALPHA: Final = 1e-6
_TOKENS: Final = 96
_LEARNED: Final = 360
# At a share of a tenth the rest are unmarked answers to other prompts.
_TENTH: Final = (72, 648)
_READ: Final = 160


class Lesson(NamedTuple):
    """Answers of which one student learns; `cohort` is what it should be named by, if anything."""

    name: str
    cohort: int | None
    examples: list[Example]
    seed: int


@final
@dataclass(frozen=True)
class Bench:
    """What a run shares.

    Attributes:
        model: the teacher's folder; students start from it, and it is the clean base.
        config: the deployment.
        keys: one a cohort.
        seed: of everything.
        batch: answers drawn side by side.
    """

    model: Path
    config: WatermarkConfig
    keys: tuple[SecretKey, ...]
    seed: int
    batch: int

    @classmethod
    def of(cls, model: Path, preset_name: str, cohorts: int, seed: int, batch: int) -> Bench:
        """Make the bench of a run."""
        keys = tuple(cohort_key(seed, i) for i in range(cohorts))
        return cls(model, preset(preset_name), keys, seed, batch)

    def answers(
        self, prompts: Sequence[str], keys: Sequence[SecretKey], part: int
    ) -> list[Example]:
        """Let the teacher answer; without keys unmarked, else each prompt under its own."""
        chat = AutoTokenizer.from_pretrained(self.model)
        asked = [chat_prompt(chat, prompt) for prompt in prompts]
        answers = sample_answers(
            load_model(self.model),
            asked,
            Sampling(_TOKENS, 1.0, 50, self.batch, seed=1_000 * self.seed + part),
            end_ids=[chat.eos_token_id],
            marker=Marker(self.config, keys) if keys else None,
        )
        return [Example(p, a.token_ids) for p, a in zip(asked, answers, strict=True)]


def cohort_key(seed: int, cohort: int) -> SecretKey:
    """Make a cohort's key: in use a key is secret, here a run must be repeatable."""
    return SecretKey(f"cohorts {seed:>8} {cohort:>8}".encode().rjust(32, b"."))


def lessons(bench: Bench, n_innocent: int) -> list[Lesson]:
    """Draw what the students learn."""
    n = len(bench.keys)
    asked = training_prompts(_LEARNED)
    marked = bench.answers(asked * n, [k for k in bench.keys for _ in asked], 1)
    of_cohort = [marked[i * _LEARNED : (i + 1) * _LEARNED] for i in range(n)]
    unmarked = bench.answers(training_prompts(sum(_TENTH)), (), 2)
    tenth, rest = _TENTH
    mixed = [example for answers in of_cohort for example in answers[: _LEARNED // n]]
    found = [Lesson(f"cohort {i}", i, of_cohort[i], i) for i in range(n)]
    found += [
        Lesson(f"cohort {i}, a tenth", i, of_cohort[i][:tenth] + unmarked[tenth:], 100 + i)
        for i in range(n)
    ]
    assert rest == len(unmarked) - tenth
    found.append(Lesson("all cohorts", None, mixed, 200))
    for i in range(n_innocent):
        first = i * (len(unmarked) - _LEARNED) // max(n_innocent - 1, 1)
        found.append(Lesson(f"unmarked {i}", None, unmarked[first : first + _LEARNED], 300 + i))
    return found


@final
class _Reader:
    """The clean base and what it thinks of the unmarked texts: one a process."""

    def __init__(self, bench: Bench, texts: Sequence[ReadingText]) -> None:
        self.bench, self.texts = bench, texts
        opened = TransformersSuspect(bench.model)
        self.end_id, self.special = opened.end_ids[0], opened.tokenizer.special_ids
        self.base = Kept(opened, texts)

    def logs(self, lesson: Lesson) -> list[float]:
        """Train a student, read it less the base, and test it under every cohort's key."""
        bench = self.bench
        recipe = Recipe(1, 5e-4, trained_layers=10, seed=1_000 * bench.seed + lesson.seed)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "student"
            fine_tune(bench.model, lesson.examples, path, recipe, end_id=self.end_id)
            pairs = read_pairs(
                TransformersSuspect(path), self.base, self.texts,
                context_width=bench.config.context_width, special_ids=self.special,
            )  # fmt: skip
        plans = (Plan(bench.config, key, ALPHA, WEIGHTS_EFFECT, 0, 0) for key in bench.keys)
        return [assess_pairs(plan, pairs).tail.log10_p for plan in plans]


_reader: _Reader | None = None


def _start(model: Path, preset_name: str, cohorts: int, seed: int, texts: list[Any]) -> None:
    global _reader
    # A key does not travel between processes: each makes its own.
    _reader = _Reader(Bench.of(model, preset_name, cohorts, seed, 1), texts)


def _logs(lesson: Lesson) -> tuple[str, list[float]]:
    assert _reader is not None
    return lesson.name, _reader.logs(lesson)


def test_students(
    bench: Bench, taught: Sequence[Lesson], preset_name: str, workers: int
) -> Iterator[tuple[str, list[float]]]:
    """Yield each student's log10 p-values in the order of the keys, as they come."""
    said = bench.answers(held_out_prompts(_READ), (), 3)
    texts = [ReadingText(tuple(e.prompt_ids), tuple(e.answer_ids)) for e in said if e.answer_ids]
    # Not forked: a process that has used an accelerator must not be.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(bench.model, preset_name, len(bench.keys), bench.seed, texts),
    )
    with pool:
        for done in as_completed(pool.submit(_logs, lesson) for lesson in taught):
            yield done.result()


def summary(taught: Sequence[Lesson], logs: dict[str, list[float]]) -> dict[str, Any]:
    """Tell who was named, how clearly, and how much seeds differ."""
    groups = {
        "all marked": [s for s in taught if s.seed < 100],
        "a tenth marked": [s for s in taught if 100 <= s.seed < 200],
    }
    found: dict[str, Any] = {name: _named(group, logs) for name, group in groups.items()}
    innocent = [p for s in taught if s.seed >= 300 for p in logs[s.name]]
    others = [
        p for s in taught if s.cohort is not None for k, p in enumerate(logs[s.name])
        if k != s.cohort
    ]  # fmt: skip
    found["smallest_log10_p_of_innocent_students"] = min(innocent, default=None)
    found["smallest_log10_p_of_other_cohorts"] = min(others, default=None)
    found["all_cohorts"] = logs.get("all cohorts")
    return found


def _named(group: Sequence[Lesson], logs: dict[str, list[float]]) -> dict[str, Any]:
    if not group:
        return {"students": 0}
    own, right = [], 0
    for lesson in group:
        p = np.array(logs[lesson.name])
        assert lesson.cohort is not None
        own.append(float(p[lesson.cohort]))
        corrected = p.min() + np.log10(len(p))
        right += bool(p.argmin() == lesson.cohort and corrected <= np.log10(ALPHA))
    return {
        "students": len(own),
        "right_cohort_named": right,
        "own_log10_p": sorted(own),
        "median_own_log10_p": float(np.median(own)),
    }


@click.command()
@click.option("--cohorts", default=8, show_default=True)
@click.option("--innocent", default=4, show_default=True, help="Students of unmarked answers.")
@click.option("--preset", "preset_name", default="default", show_default=True)
@click.option("--batch", default=128, show_default=True, help="Answers drawn side by side.")
@click.option(
    "--workers", default=2, show_default=True, help="Processes that train, read and test."
)
@click.option("--seed", default=0, show_default=True)
def main(
    cohorts: int, innocent: int, preset_name: str, batch: int, workers: int, seed: int
) -> None:
    """Teach, train, read, name."""
    started = time.perf_counter()
    bench = Bench.of(resolve_model("smollm2"), preset_name, cohorts, seed, batch)
    taught = lessons(bench, innocent)
    click.echo(f"taught: {time.perf_counter() - started:.1f} s")
    logs: dict[str, list[float]] = {}
    for name, row in test_students(bench, taught, preset_name, workers):
        logs[name] = row
        click.echo(f"{name}: {time.perf_counter() - started:.1f} s")
        known = [lesson for lesson in taught if lesson.name in logs]
        measured = {
            "model": "SmolLM2-135M-Instruct",
            "preset": preset_name,
            "cohorts": cohorts,
            "students": len(known),
            "answers_learned": {"all marked": _LEARNED, "a tenth marked": list(_TENTH)},
            "reading_texts": _READ,
            "seconds": round(time.perf_counter() - started, 1),
            "summary": summary(known, logs),
            "log10_p": {n: [round(p, 2) for p in logs[n]] for n in sorted(logs)},
        }
        # After each student: what was measured is kept if the rest is not.
        path = write_result("cohorts", seed=seed, measured=measured)
    click.echo(measured["summary"])
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
