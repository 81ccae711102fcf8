"""The rows of the benchmark: which student learns what, how, and what is done to it afterwards.

Frozen under `lessons.VERSION`. Two families: "real" students start from the teacher's own weights
and share its tokenizer; "small" ones (4 million parameters, a tokenizer of their own) are cheap
enough for twenty innocent ones and for long answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, final

from detect.demo.student import Recipe

__all__ = ["COSTLY", "INNOCENT", "ROWS", "Part", "Row"]

Family = Literal["real", "small"]
Treatment = Literal[
    "", "edited data", "clean fine-tune", "quantised", "merged", "neutralised", "asked more"
]

_D2: Final = "dual h=2"
# The last 10 of 30 layers: twice as fast as all of them on a processor, and as telling.
_REAL: Final = Recipe(epochs=1, learning_rate=5e-4, trained_layers=10)
_SMALL: Final = Recipe(epochs=4, learning_rate=1e-3)


class Part(NamedTuple):
    """Answers first .. last - 1 of a lesson."""

    lesson: str
    first: int
    last: int


# What `INNOCENT` learns.
_UNMARKED: Final = (Part("unmarked", 0, 360),)
# Reported candidates and the provider's logs: of one real student, and of its controls.
COSTLY: Final = ("reported", "counterfactuals")
# A control of these tests, beside the untouched base.
INNOCENT: Final = "real, null, unmarked"


@final
@dataclass(frozen=True)
class Row:
    """One student.

    Attributes:
        family: what it starts from.
        group: what the row is about.
        learned: the answers that it learns from.
        tested: name of the lesson under whose key and config it is tested.
        recipe: how it learns.
        treatment: what the thief does to the data before, to the student after, or when it answers.
        of: for a treatment after training, the row whose student is treated.
        n_answers: how many prompts it answers; 0 is as many as its family.
        marked_share: share of its answers that are marked; 0 for an innocent student.
    """

    family: Family
    group: str
    learned: tuple[Part, ...]
    tested: str
    recipe: Recipe = field(default=_REAL)
    treatment: Treatment = ""
    of: str | None = None
    n_answers: int = 0

    @property
    def of_the_same_weights(self) -> bool:
        """True if its student is another row's, as it is."""
        return self.treatment in ("neutralised", "asked more")

    @property
    def access(self) -> tuple[str, ...]:
        """What of it is tested: what happens to answers alone changes no weights."""
        if self.of_the_same_weights:
            return ("text",)
        found: tuple[str, ...] = ("text", "weights")
        if self.family == "real" and self.tested == _D2:
            if self.group == "scheme and width":
                found = (*found, "marked texts", *COSTLY)
            if self.group == "base" or self.learned == _UNMARKED:
                found = (*found, *COSTLY)
        return found

    @property
    def marked_share(self) -> float:
        """Share of its training answers that carry the mark it is tested for."""
        n = sum(part.last - part.first for part in self.learned)
        marked = sum(p.last - p.first for p in self.learned if p.lesson == self.tested)
        return marked / n if n else 0.0


_MARKS: Final = (
    "dual h=1", "dual h=2", "dual h=4", "red-green h=1", "red-green h=2", "red-green h=4",
    "gumbel h=2", "tournament h=2",
)  # fmt: skip
# Marked answers among 720; the rest are unmarked answers to the other prompts.
_SHARES: Final = {"50 %": 360, "10 %": 72, "5 %": 36, "1 %": 7}


def _mixed(n_marked: int) -> tuple[Part, ...]:
    return Part(_D2, 0, n_marked), Part("unmarked", n_marked, 720)


def _real() -> dict[str, Row]:
    whole = (Part(_D2, 0, 360),)
    rows = {
        f"real, {mark}": Row("real", "scheme and width", (Part(mark, 0, 360),), mark)
        for mark in _MARKS
    }
    rows[INNOCENT] = Row("real", "null", _UNMARKED, _D2)
    rows["real, share 10 %"] = Row("real", "share", _mixed(72), _D2)
    rows["real, null, unmarked again"] = Row(
        "real", "null", (Part("unmarked, again", 0, 360),), _D2
    )
    later: dict[str, Row] = {
        "second fine-tune": Row(
            "real", "durability", (Part("unmarked, again", 0, 360),), _D2, _REAL,
            "clean fine-tune", "real, dual h=2",
        ),
        "quantised": Row("real", "durability", whole, _D2, _REAL, "quantised", "real, dual h=2"),
        "merged": Row("real", "durability", whole, _D2, _REAL, "merged", "real, dual h=2"),
        "rewritten data": Row("real", "attack", (Part("dual h=2, rewritten", 0, 360),), _D2),
        "neutralised": Row(
            "real", "attack", whole, _D2, _REAL, "neutralised", "real, dual h=2"
        ),
        "edited data": Row("real", "attack", whole, _D2, _REAL, "edited data"),
        "two teachers": Row(
            "real", "two teachers", (Part(_D2, 0, 180), Part("second teacher", 180, 360)), _D2
        ),
        "share 50 %": Row("real", "share", _mixed(360), _D2),
        "share 5 %": Row("real", "share", _mixed(36), _D2),
        "share 1 %": Row("real", "share", _mixed(7), _D2),
        "learning rate 1e-4": Row(
            "real", "recipe", whole, _D2, Recipe(1, 1e-4, trained_layers=10)
        ),
        "two epochs": Row("real", "recipe", whole, _D2, Recipe(2, 5e-4, trained_layers=10)),
        "LoRA": Row("real", "recipe", whole, _D2, Recipe(1, 1e-3, lora_rank=16)),
        "all layers": Row("real", "recipe", whole, _D2, Recipe(1, 2e-4)),
    }  # fmt: skip
    return rows | {f"real, {name}": row for name, row in later.items()}


def _small() -> dict[str, Row]:
    rows = {
        f"small, {mark}": Row("small", "scheme and width", (Part(mark, 0, 360),), mark, _SMALL)
        for mark in _MARKS
    }
    rows["small, share 100 %"] = Row("small", "share", (Part(_D2, 0, 720),), _D2, _SMALL)
    for name, n in _SHARES.items():
        rows[f"small, share {name}"] = Row("small", "share", _mixed(n), _D2, _SMALL)
    rows["small, share 10 %, asked more"] = Row(
        "small", "share", _mixed(72), _D2, _SMALL, "asked more", "small, share 10 %", 1_440
    )
    rows["small, rewritten data"] = Row(
        "small", "attack", (Part("dual h=2, rewritten", 0, 360),), _D2, _SMALL
    )
    rows["small, edited data"] = Row(
        "small", "attack", (Part(_D2, 0, 360),), _D2, _SMALL, "edited data"
    )
    rows["small, second fine-tune"] = Row(
        "small", "durability", (Part("unmarked, again", 0, 360),), _D2, _SMALL,
        "clean fine-tune", "small, dual h=2",
    )  # fmt: skip
    return rows | _nulls()


def _nulls() -> dict[str, Row]:
    """Innocent students: other seeds, other data, other lengths of training."""
    rows = {}
    for seed in range(18):
        lesson = ("unmarked", "unmarked, again")[seed % 2]
        first = 40 * (seed // 2)
        recipe = Recipe(epochs=(2, 4, 6)[seed % 3], learning_rate=1e-3, seed=seed)
        rows[f"small, null {seed + 1}"] = Row(
            "small", "null", (Part(lesson, first, first + 360),), _D2, recipe
        )
    return rows


ROWS: Final[dict[str, Row]] = _real() | _small()
