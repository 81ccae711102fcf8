"""All tests of one row's student; what was measured is kept, so that a stopped run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.inheritance import by_logs, by_reports, by_text, by_weights
from benchmarks.inheritance.asking import (
    SEED,
    Kept,
    answers_of,
    as_reading,
    asked,
    reading_texts,
)
from benchmarks.inheritance.by_text import Heard
from benchmarks.inheritance.grid import INNOCENT, ROWS, Part, Row
from benchmarks.inheritance.lessons import LESSONS, TEMPERATURE
from benchmarks.inheritance.neutralising import neutral_answers
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import file_name, learned, lesson, start_of, student
from benchmarks.inheritance.tiers import FULL, Tier
from detect.scoring.reference_text import log_probs_of
from detect.suspect.beforehand import Beforehand
from detect.suspect.context_counts import ContextCounts, count_contexts
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.reading import Reader
from watermark.models import resolve_model
from watermark.tokens import TextTokenizer, load_tokenizer

__all__ = ["BASE", "N_FRESH_KEYS", "SHARED_LESSONS", "Bench", "measured_file"]

N_FRESH_KEYS: Final = 200
N_READING: Final = 160
# Counted contexts come from answers that no key shaped.
_UNMARKED: Final = ("unmarked", "unmarked, again")
# What is made whichever rows are tested.
SHARED_LESSONS: Final = (*_UNMARKED, "reading", "marked reading")
_WIDTHS: Final = (1, 2, 4)
_Test = Callable[[Row, str, Path | None], dict[str, Any]]
BASE: Final = Row("real", "base", (), "dual h=2")


class Bench:
    """A run's shared ground: teacher, its tokenizer, contexts counted, texts the base has read.

    Args:
        stages: the run's folder.
        tier: which tests are made of a row.
    """

    def __init__(self, stages: Stages, tier: Tier = FULL) -> None:
        self.stages = stages
        self._tier = tier
        self.tokenizer: TextTokenizer = load_tokenizer("smollm2")

    @cached_property
    def base(self) -> TransformersSuspect:
        """The public base: the teacher before it was asked for anything."""
        return TransformersSuspect(resolve_model("smollm2"), "base")

    @cached_property
    def small(self) -> TransformersSuspect:
        """What small students start from, with a tokenizer of its own."""
        return TransformersSuspect(start_of(self.stages, "small"), "small base")

    @cached_property
    def counts(self) -> dict[int, ContextCounts]:
        """How often unmarked answers reach a context, by context width."""
        rows = [row for name in _UNMARKED for row in lesson(self.stages, name)]
        ids = self.tokenizer.encode_many([row["text"] for row in rows])
        return {h: count_contexts(ids, h) for h in _WIDTHS}

    @cached_property
    def unmarked(self) -> list[ReadingText]:
        """Unmarked reading texts."""
        return reading_texts(self.stages, self.base, "reading", N_READING)

    @cached_property
    def marked(self) -> list[ReadingText]:
        """Reading texts marked under the key of most rows."""
        return reading_texts(self.stages, self.base, "marked reading", N_READING)

    @cached_property
    def base_read(self) -> Kept:
        """What the base thinks of the unmarked texts."""
        return Kept(self.base, self.unmarked)

    def measured(self, name: str) -> dict[str, Any]:
        """Return what was measured of a row, measured now unless it was before."""
        return self._tested(ROWS[name], file_name(name), lambda: student(self.stages, name))

    def has_measured(self, name: str) -> bool:
        """Tell whether a row was measured before."""
        files = [measured_file(file_name(name), access) for access in self._tier.access(ROWS[name])]
        return all((self.stages.folder / file).exists() for file in files)

    def answers(self, name: str) -> list[SuspectAnswer]:
        """Return what a row's student answered, drawn now unless it was before."""
        row = ROWS[name]
        return self._answers(row, file_name(name), student(self.stages, name))

    def base_answers(self) -> list[SuspectAnswer]:
        """Return what the untouched base answered."""
        return self._answers(BASE, "base", start_of(self.stages, "real"))

    def measured_base(self) -> dict[str, Any]:
        """Test the untouched base like a student of the row with the most common mark."""
        return self._tested(BASE, "base", lambda: None)

    def _tested(self, row: Row, file: str, student_of: Callable[[], Path | None]) -> dict[str, Any]:
        tests = {
            "text": self._by_text,
            "weights": self._by_weights if row.family == "real" else self._by_foreign_weights,
            "marked texts": self._by_marked_texts,
            "reported": self._by_reports,
            "counterfactuals": self._by_logs,
        }
        found: dict[str, Any] = {}
        for access in self._tier.access(row):

            def measure(test: _Test = tests[access]) -> dict[str, Any]:
                return test(row, file, student_of())

            found |= self.stages.kept(measured_file(file, access), measure)
        return found

    def _by_text(self, row: Row, file: str, folder: Path | None) -> dict[str, Any]:
        tested = LESSONS[row.tested]
        heard = self._heard(row, file, folder or start_of(self.stages, row.family))
        found: dict[str, Any] = {
            "group": row.group,
            "marked_share": row.marked_share,
            "n_answers": len(heard.answers),
            "text": by_text.test_text(tested, heard),
            "answers_until": by_text.answers_until(tested, heard),
        }
        if not row.marked_share:
            found["text_fresh_keys"] = by_text.fresh_key_p_values(
                tested, heard, N_FRESH_KEYS, seed=_seed(file)
            )
        return found

    def _answers(self, row: Row, file: str, folder: Path) -> list[SuspectAnswer]:
        ask = None
        if row.treatment == "neutralised":
            texts = as_reading(self.base, learned(self.stages, row))
            ask = partial(neutral_answers, self.base, folder, texts, asked(row), SEED)
        return answers_of(self.stages, file, folder, asked(row), ask)

    def _heard(self, row: Row, file: str, folder: Path) -> Heard:
        prompts, answers = asked(row), self._answers(row, file, folder)
        public = Beforehand(reference=self.base)
        log_probs = public.log_probs(self.tokenizer, prompts, answers, TEMPERATURE)
        return Heard(self.tokenizer, answers, log_probs or [], self.counts)

    def _by_weights(self, row: Row, file: str, folder: Path | None) -> dict[str, Any]:
        tested = LESSONS[row.tested]
        model = self._opened(folder)
        suspect = Kept(model, self.unmarked) if folder else self.base_read
        base = self.base_read if folder else None
        read = by_weights.read_by(tested, self.tokenizer, suspect, base, self.unmarked)
        found: dict[str, Any] = {
            "weights": by_weights.test_weights(tested, read),
            "held_out_loss": _loss(suspect, self.unmarked),
        }
        if row.tested == "dual h=2":
            marked = by_weights.read_argmax(tested, self.tokenizer, model, self.marked)
            found["weights_marked_texts"] = by_weights.test_weights(tested, marked)
        if not row.marked_share:
            found["weights_fresh_keys"] = by_weights.fresh_key_p_values(
                tested, read, N_FRESH_KEYS, seed=_seed(file)
            )
        return found

    def _by_marked_texts(self, row: Row, file: str, folder: Path | None) -> dict[str, Any]:
        """Texts under the key: to prompts that no student met, and those that this one learned."""
        tested = LESSONS[row.tested]
        model = self._opened(folder)
        held_out = by_weights.test_marked(tested, self.tokenizer, model, self.base, self.marked)
        own = [r for p in row.learned if p.lesson == row.tested for r in self._part(p)]
        known = as_reading(self.base, own[:N_READING])
        found: dict[str, Any] = {"marked_texts": held_out}
        if known:
            argmax = by_weights.read_argmax(tested, self.tokenizer, model, known)
            found["known_texts"] = by_weights.test_weights(tested, argmax) | by_weights.test_marked(
                tested, self.tokenizer, model, self.base, known
            )
        return found

    def _by_reports(self, row: Row, file: str, folder: Path | None) -> dict[str, Any]:
        """What an endpoint would report of the answers that are tested by text."""
        tested, model = LESSONS[row.tested], self._opened(folder)
        said = self._answers(row, file, folder or start_of(self.stages, row.family))
        texts = Beforehand(reference=self.base).reading(self.tokenizer, asked(row), said)
        answers = by_reports.reported_answers(self.tokenizer, model, said, texts)
        base = self.base if folder else None
        pairs = by_reports.pairs_of(tested, self.tokenizer, answers, base, texts)
        n_tokens = sum(len(text.token_ids) for text in texts)
        found: dict[str, Any] = {"reported": by_reports.test_reports(tested, pairs, n_tokens)}
        if not row.marked_share:
            found["reported_fresh_keys"] = by_weights.fresh_key_p_values(
                tested, pairs, N_FRESH_KEYS, seed=_seed(file)
            )
        return found

    def _by_logs(self, row: Row, file: str, folder: Path | None) -> dict[str, Any]:
        """The provider's logs, which the innocent student and the base have never seen."""
        innocent = student(self.stages, INNOCENT)
        folders = {"base": None, file_name(INNOCENT): innocent, file: folder}
        scores = {
            name: by_logs.scores_of(self.stages, name, partial(self._opened, path))
            for name, path in folders.items()
        }
        return {"counterfactuals": by_logs.test_logs(self.stages, scores, file)}

    def _opened(self, folder: Path | None) -> TransformersSuspect:
        return TransformersSuspect(folder) if folder else self.base

    def _part(self, part: Part) -> list[dict[str, Any]]:
        return lesson(self.stages, part.lesson)[part.first : part.last]

    def _by_foreign_weights(self, row: Row, file: str, folder: Path | None) -> dict[str, Any]:
        """A small student has its own tokenizer, and so has its clean base."""
        tested, model = LESSONS[row.tested], TransformersSuspect(folder) if folder else self.small
        exchanges = [(e["prompt"], e["text"]) for e in lesson(self.stages, "reading")]
        read = by_weights.read_by_foreigner(
            tested, self.tokenizer, model, self.small if folder else None, exchanges[:N_READING]
        )
        texts = [
            ReadingText(model.chat_ids(prompt), tuple(model.tokenizer.encode(text).tolist()))
            for prompt, text in exchanges[:N_READING]
        ]
        found: dict[str, Any] = {
            "weights": by_weights.test_weights(tested, read),
            "held_out_loss": _loss(model, texts),
        }
        if not row.marked_share:
            found["weights_fresh_keys"] = by_weights.fresh_key_p_values(
                tested, read, N_FRESH_KEYS, seed=_seed(file)
            )
        return found


def _loss(reader: Reader, texts: Sequence[ReadingText]) -> float:
    """Mean negative log-likelihood of the texts in nats; half precision knows no p below 2^-24."""
    log_probs = np.concatenate(log_probs_of(reader, texts))
    return -float(np.maximum(log_probs, -24 * np.log(2)).mean())


def measured_file(file: str, access: str) -> str:
    """Tell the file name of what was measured of a student by one access."""
    return f"measured-{access.replace(' ', '-')}-{file}.json"


def _seed(file: str) -> int:
    """Fresh keys of a student's own, so that p-values of different students are independent."""
    return int.from_bytes(file.encode(), "little") % (1 << 63)
