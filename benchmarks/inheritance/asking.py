"""What students say and think: answers to held-out prompts, and next-token distributions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

from benchmarks.inheritance.grid import Family, Row
from benchmarks.inheritance.lessons import MAX_NEW_TOKENS, TEMPERATURE, TOP_K, read_lesson
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import lesson
from detect.demo.prompts import held_out_prompts
from detect.suspect.exchanges import Positions, ReadingText, SuspectAnswer
from detect.suspect.open_weights import TransformersSuspect
from watermark.cli import progress
from watermark.generation.loop import Sampling

__all__ = ["SEED", "Kept", "answers_of", "as_reading", "asked", "reading_texts"]

N_ANSWERS: Final[dict[Family, int]] = {"real": 250, "small": 240}
SEED: Final = 7


def asked(row: Row) -> list[str]:
    """List the prompts that a row's student answers."""
    return held_out_prompts(row.n_answers or N_ANSWERS[row.family])


def answers_of(
    stages: Stages,
    name: str,
    model: Path,
    prompts: Sequence[str],
    ask: Callable[[], list[SuspectAnswer]] | None = None,
) -> list[SuspectAnswer]:
    """Return a model's answers to held-out prompts, drawn now unless they were before.

    Args:
        stages: the run.
        name: of its files.
        model: its folder.
        prompts: what it is asked.
        ask: draws the answers; None is to ask the model as it is.
    """

    def draw(path: Path) -> None:
        _write(ask() if ask else _ask(model, prompts, path.name), path)

    path = stages.made(f"answers-{name}.jsonl", draw)
    lines = path.read_text(encoding="utf-8").splitlines()
    return [SuspectAnswer(row["prompt"], row["text"]) for row in map(json.loads, lines)]


def _ask(model: Path, prompts: Sequence[str], label: str) -> list[SuspectAnswer]:
    sampling = Sampling(
        max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, top_k=TOP_K, seed=SEED
    )
    suspect = TransformersSuspect(model)
    with progress(len(prompts) * MAX_NEW_TOKENS, label, "tok") as bar:
        return suspect.answers(prompts, sampling, bar.update)


def _write(answers: Sequence[SuspectAnswer], path: Path) -> None:
    rows = [json.dumps({"prompt": a.prompt, "text": a.text}, ensure_ascii=False) for a in answers]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def reading_texts(
    stages: Stages, base: TransformersSuspect, name: str, n: int
) -> list[ReadingText]:
    """Return the first n answers of a lesson as texts to be read."""
    lesson(stages, name)
    return as_reading(base, read_lesson(stages.folder, name)[:n])


def as_reading(base: TransformersSuspect, rows: Sequence[dict[str, Any]]) -> list[ReadingText]:
    """Turn a lesson's answers into texts to be read."""
    return [
        ReadingText(
            base.chat_ids(row["prompt"]), tuple(base.tokenizer.encode(row["text"]).tolist())
        )
        for row in rows
    ]


@final
class Kept:
    """A model's distributions on some texts, read once and kept in half precision.

    Args:
        model: the model.
        texts: what it reads.
    """

    def __init__(self, model: TransformersSuspect, texts: Sequence[ReadingText]) -> None:
        self._texts = list(texts)
        self._rows = [(p.index, p.probabilities.half()) for p in model.read(texts)]

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        """Yield what was read; see `Suspect.read`."""
        if list(texts) != self._texts:
            raise ValueError("only the texts that were read once can be read again")
        for index, probabilities in self._rows:
            yield Positions(index, probabilities.float())
