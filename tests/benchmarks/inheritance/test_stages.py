"""Stages: made once, whole or not at all, and timed each by itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.inheritance import stages as module
from benchmarks.inheritance.stages import Stages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(process_time=lambda: now[0]))
    return now


def test_what_a_stage_makes_inside_is_not_counted_as_its_own(
    tmp_path: Path, clock: list[float]
) -> None:
    stages = Stages(tmp_path)

    def inner(path: Path) -> None:
        clock[0] += 30
        path.write_text("inner", "utf-8")

    def outer(path: Path) -> None:
        clock[0] += 2
        stages.made("innermost", inner)
        stages.made("second", inner)
        clock[0] += 5
        path.write_text("outer", "utf-8")

    def outermost(path: Path) -> None:
        stages.made("outer", outer)
        clock[0] += 1
        path.write_text("outermost", "utf-8")

    stages.made("outermost", outermost)
    stages.made("after", inner)
    assert stages.seconds() == {
        "after": 30.0, "innermost": 30.0, "outer": 7.0, "outermost": 1.0, "second": 30.0,
    }  # fmt: skip
    assert sum(stages.seconds().values()) == clock[0]
    # What was made before costs nothing and keeps its time.
    stages.made("outermost", outermost)
    assert clock[0] == 98.0


def test_without_a_note_of_what_was_made_inside_nothing_is_taken_off(tmp_path: Path) -> None:
    (tmp_path / "student.seconds").write_text("723.6\n", "utf-8")
    assert Stages(tmp_path).seconds() == {"student": 723.6}
    (tmp_path / "student.within").write_text("606.5\n", "utf-8")
    assert Stages(tmp_path).seconds() == {"student": 117.1}


def test_a_stage_that_fails_is_not_there_and_is_made_again(
    tmp_path: Path, clock: list[float]
) -> None:
    stages = Stages(tmp_path)

    def failing(path: Path) -> None:
        clock[0] += 3
        path.write_text("half", "utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.made("outer", lambda path: stages.made("inner", failing))
    assert not (tmp_path / "inner").exists()
    assert stages.seconds() == {}
    stages.made("inner", lambda path: path.write_text("whole", "utf-8"))
    assert (tmp_path / "inner").read_text("utf-8") == "whole"
    assert stages.seconds() == {"inner": 0.0}
