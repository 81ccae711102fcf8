"""What the teacher says: sets of answers, each under one key and scheme, or under none.

Frozen under `VERSION`: prompts, keys, seeds and sizes never change within a version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from detect.demo.prompts import held_out_prompts, training_prompts
from watermark.cli import progress
from watermark.config import WatermarkConfig
from watermark.generation.answering import answer_prompts
from watermark.keys import SecretKey
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament

__all__ = ["LESSONS", "VERSION", "Lesson", "read_lesson", "teach"]

VERSION: Final = "inheritance-1"
MAX_NEW_TOKENS: Final = 96
TEMPERATURE: Final = 1.0
TOP_K: Final = 50
_BATCH = 128


@final
@dataclass(frozen=True)
class Lesson:
    """One set of answers.

    Attributes:
        config: what marks them; None for unmarked answers.
        n_answers: how many.
        seed: of the sampler and of the key: in use a key is secret, here a run must be repeatable.
        held_out: True for answers to prompts that no student learns from.
        rewrites: name of the lesson whose answers are rewritten in other words (an attack).
    """

    config: WatermarkConfig | None
    n_answers: int
    seed: int
    held_out: bool = False
    rewrites: str | None = None

    @property
    def key(self) -> SecretKey:
        """The key of the lesson."""
        return SecretKey(f"{VERSION} {self.seed:>8}".encode().rjust(32, b"."))


def _dual(h: int) -> WatermarkConfig:
    return WatermarkConfig(DualGumbel(alpha=0.1), context_width=h)


def _red_green(h: int) -> WatermarkConfig:
    return WatermarkConfig(RedGreen(gamma=0.5, delta=2.0), context_width=h)


LESSONS: Final[dict[str, Lesson]] = {
    "unmarked": Lesson(None, 720, 1),
    "dual h=2": Lesson(_dual(2), 720, 2),
    "reading": Lesson(None, 240, 3, held_out=True),
    "dual h=1": Lesson(_dual(1), 360, 4),
    "dual h=4": Lesson(_dual(4), 360, 5),
    "red-green h=1": Lesson(_red_green(1), 360, 6),
    "red-green h=2": Lesson(_red_green(2), 360, 7),
    "red-green h=4": Lesson(_red_green(4), 360, 8),
    "gumbel h=2": Lesson(WatermarkConfig(Gumbel(), 2), 360, 9),
    "tournament h=2": Lesson(WatermarkConfig(Tournament(n_layers=30), 2), 360, 10),
    "second teacher": Lesson(_dual(2), 360, 11),
    "marked reading": Lesson(_dual(2), 240, 2, held_out=True),
    "dual h=2, rewritten": Lesson(None, 360, 12, rewrites="dual h=2"),
    "unmarked, again": Lesson(None, 720, 13),
}


def teach(name: str, model: Path, folder: Path, path: Path) -> None:
    """Let the teacher answer, and write its answers.

    Args:
        name: in `LESSONS`.
        model: the teacher's folder.
        folder: where the lessons that this one rewrites lie.
        path: the file to write, JSONL with "prompt", "text" and "token_ids".
    """
    lesson = LESSONS[name]
    prompts = (held_out_prompts if lesson.held_out else training_prompts)(lesson.n_answers)
    asked = prompts
    if lesson.rewrites:
        earlier = read_lesson(folder, lesson.rewrites)[: lesson.n_answers]
        asked = [f"Rewrite this story in other words:\n\n{row['text']}" for row in earlier]
    with progress(len(asked) * MAX_NEW_TOKENS, f"teacher: {name}", "tok") as bar:
        rows = _answered(lesson, model, asked, bar.update)
    lines = [{**row, "prompt": p} for row, p in zip(rows, prompts, strict=True)]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in lines), "utf-8")


def _answered(
    lesson: Lesson, model: Path, asked: list[str], on_tokens: Callable[[int], object]
) -> list[dict[str, Any]]:
    return answer_prompts(
        model,
        asked,
        config=lesson.config,
        key=lesson.key if lesson.config else None,
        on_tokens=on_tokens,
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=TEMPERATURE,
        top_k=TOP_K,
        batch_size=_BATCH,
        seed=lesson.seed,
    ).rows


def lesson_file(name: str) -> str:
    """Tell the file name of a lesson."""
    return f"lesson-{name.replace(', ', '-').replace(' ', '-').replace('=', '')}.jsonl"


def read_lesson(folder: Path, name: str) -> list[dict[str, Any]]:
    """Read a lesson's answers back; see `teach`."""
    lines = (folder / lesson_file(name)).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
