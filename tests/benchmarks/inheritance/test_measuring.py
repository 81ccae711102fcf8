"""Tests of a row are kept one by one, and a tier leaves some of them out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.inheritance import measuring
from benchmarks.inheritance.grid import COSTLY, INNOCENT, ROWS
from benchmarks.inheritance.measuring import Bench, measured_file
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import file_name
from benchmarks.inheritance.tiers import FULL, TIERS
from watermark.tokens import TextTokenizer

STUDENT = "real, dual h=2"


@pytest.fixture
def folder(tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> Path:
    def unmade(*arguments: object) -> Path:
        raise AssertionError("nothing needs to be made")

    monkeypatch.setattr(measuring, "load_tokenizer", lambda name: tokenizer)
    monkeypatch.setattr(measuring, "student", unmade)
    return tmp_path


def _keep(folder: Path, *access: str) -> None:
    for name in access:
        path = folder / measured_file(file_name(STUDENT), name)
        path.write_text(json.dumps({name: 1}), "utf-8")


def test_a_row_is_measured_once_all_its_tests_are_there(folder: Path) -> None:
    small, full = Bench(Stages(folder), TIERS["small"]), Bench(Stages(folder), FULL)
    assert not small.has_measured(STUDENT)
    _keep(folder, "text", "weights", "marked texts")
    assert small.measured(STUDENT) == {"text": 1, "weights": 1, "marked texts": 1}
    assert small.has_measured(STUDENT)
    assert not full.has_measured(STUDENT)
    _keep(folder, *COSTLY)
    assert full.has_measured(STUDENT)
    assert full.measured(STUDENT).keys() == {"text", "weights", "marked texts", *COSTLY}
    assert small.measured(STUDENT).keys().isdisjoint(COSTLY)


def test_costly_tests_are_of_one_real_student_and_its_controls() -> None:
    costly = {name for name, row in ROWS.items() if set(COSTLY) & set(row.access)}
    assert costly == {STUDENT, INNOCENT}
    assert set(COSTLY) < set(measuring.BASE.access)
