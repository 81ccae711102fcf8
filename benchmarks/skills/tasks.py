"""What the model is asked to do, and how an answer is judged: code, reasoning, prose.

HumanEval (functions to complete, with tests), GSM8K (school mathematics with a number as answer)
and Self-Instruct's user-oriented tasks, read from a folder with the files of their projects.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from benchmarks.skills.running_code import passes

__all__ = ["Kind", "Problem", "load_problems"]

Kind = Literal["code", "reasoning", "prose"]
_FILES: Final[dict[Kind, str]] = {
    "code": "HumanEval.jsonl.gz",
    "reasoning": "gsm8k_test.jsonl",
    "prose": "self_instruct_user_oriented.jsonl",
}
# What follows a completed function is not part of it.
_STOPS: Final = ("\ndef ", "\nclass ", "\nif ", "\nprint", "\n#", "\n@", "\nassert", "\n```")
_COMPLETE: Final = "Complete this Python function.\n\n```python\n{}```"
_ASKED: Final = "{}\n\nThink step by step, and give the answer as a number in the last line."
_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@final
@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        message: what the model is asked.
        opening: how its answer begins; not part of what it says.
        stops: strings at which an answer is cut.
        judge: tells whether an answer is right; None where there is no right and wrong.
    """

    message: str
    opening: str
    stops: tuple[str, ...]
    judge: Callable[[str], bool] | None


def load_problems(kind: Kind, folder: Path, n_most: int) -> list[Problem]:
    """Read problems.

    Args:
        kind: what kind.
        folder: holds the projects' files.
        n_most: at most so many, the first ones.

    Returns:
        The problems.
    """
    rows = _rows(folder / _FILES[kind])[:n_most]
    return [{"code": _function, "reasoning": _sum, "prose": _task}[kind](row) for row in rows]


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open()
    with lines as file:
        return [json.loads(line) for line in file]


def _function(row: dict[str, Any]) -> Problem:
    # The model's own token for " return" begins with the last space of the indent.
    head = f"{row['prompt'].rstrip()}\n   "

    def judge(body: str) -> bool:
        return passes(f"{head}{body}\n{row['test']}\ncheck({row['entry_point']})\n")

    return Problem(_COMPLETE.format(row["prompt"]), f"```python\n{head}", _STOPS, judge)


def _sum(row: dict[str, Any]) -> Problem:
    right = _last_number(row["answer"].rpartition("####")[2])

    def judge(answer: str) -> bool:
        return _last_number(answer) == right

    return Problem(_ASKED.format(row["question"]), "", (), judge)


def _last_number(text: str) -> float | None:
    found: Sequence[str] = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _task(row: dict[str, Any]) -> Problem:
    given = row["instances"][0]["input"]
    return Problem(f"{row['instruction']}\n\n{given}".strip(), "", (), None)
