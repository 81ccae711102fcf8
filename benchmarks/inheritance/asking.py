"""What students say and think: answers to held-out prompts, and next-token distributions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

from benchmarks.inheritance.grid import Family
from benchmarks.inheritance.lessons import MAX_NEW_TOKENS, TEMPERATURE, TOP_K, read_lesson
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import lesson
from detect.demo.prompts import held_out_prompts
from detect.suspect.exchanges import Positions, ReadingText, SuspectAnswer
from detect.suspect.open_weights import TransformersSuspect
from watermark.cli import progress
from watermark.generation import Sampling

__all__ = ["Kept", "answers_of", "asked", "reading_texts"]

N_ANSWERS: Final[dict[Family, int]] = {"real": 250, "small": 240}
_SEED: Final = 7


def asked(family: Family) -> list[str]:
    """List the prompts that students of a family answer."""
    return held_out_prompts(N_ANSWERS[family])


def answers_of(stages: Stages, family: Family, name: str, model: Path) -> list[SuspectAnswer]:
    """Return a model's answers to held-out prompts, drawn now unless they were before."""
    path = stages.made(f"answers-{name}.jsonl", lambda path: _ask(family, model, path))
    lines = path.read_text(encoding="utf-8").splitlines()
    return [SuspectAnswer(row["prompt"], row["text"]) for row in map(json.loads, lines)]


def _ask(family: Family, model: Path, path: Path) -> None:
    sampling = Sampling(
        max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, top_k=TOP_K, seed=_SEED
    )
    suspect, prompts = TransformersSuspect(model), asked(family)
    with progress(len(prompts) * MAX_NEW_TOKENS, path.name, "tok") as bar:
        answers = suspect.answers(prompts, sampling, bar.update)
    rows = [json.dumps({"prompt": a.prompt, "text": a.text}, ensure_ascii=False) for a in answers]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def reading_texts(
    stages: Stages, base: TransformersSuspect, name: str, n: int
) -> list[ReadingText]:
    """Return the first n answers of a lesson as texts to be read."""
    lesson(stages, name)
    return [
        ReadingText(
            base.chat_ids(row["prompt"]), tuple(base.tokenizer.encode(row["text"]).tolist())
        )
        for row in read_lesson(stages.folder, name)[:n]
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
