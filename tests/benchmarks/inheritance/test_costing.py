"""What a tier takes: every stage that it needs, each once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.inheritance.costing import cost, stages_of
from benchmarks.inheritance.grid import COSTLY, ROWS
from benchmarks.inheritance.tiers import FULL, TIERS, Tier
from benchmarks.record import RESULTS

NOTHING = stages_of(Tier((), COSTLY))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    payload = json.loads((RESULTS / "inheritance.json").read_text("utf-8"))
    found: dict[str, Any] = payload["measured"]
    return found


def test_the_stages_of_the_committed_run_are_those_that_the_full_tier_names(
    measured: dict[str, Any],
) -> None:
    """Names that drift apart would leave what a tier takes too low."""
    assert measured["seconds"].keys() <= stages_of(FULL)


def test_nothing_that_measured_rows_need_is_missing(measured: dict[str, Any]) -> None:
    rows = tuple(name for name in measured["rows"] if name != "base")
    # Two stages of the first day lost their times.
    lost = {"measured-text-real-dual-h2.json", "measured-text-real-null-unmarked.json"}
    assert stages_of(Tier(rows, COSTLY)) - measured["seconds"].keys() <= lost


def test_the_small_tier_is_part_of_the_full_one_and_has_both_families() -> None:
    small = TIERS["small"]
    assert stages_of(small) < stages_of(FULL)
    rows = [ROWS[name] for name in small.rows]
    assert {row.family for row in rows} == {"real", "small"}
    assert {row.group for row in rows} >= {"scheme and width", "share", "null", "attack"}


def test_traps_are_left_out_with_what_only_they_need() -> None:
    without = Tier(("small, null 1",), COSTLY, has_traps=False)
    assert stages_of(Tier(("small, null 1",), COSTLY)) - stages_of(without) == {
        "measured-traps.json",
        "lesson-dual-h2.jsonl",
        "lesson-dual-h2-rewritten.jsonl",
    }


def test_the_small_tier_took_at_most_90_minutes(measured: dict[str, Any]) -> None:
    if "tiers" not in measured:
        pytest.skip("the committed results were written before there were tiers")
    small = measured["tiers"]["small"]
    assert small == cost(TIERS["small"], measured["seconds"])
    assert small["not_timed"] == []
    assert small["seconds"] <= 90 * 60


def test_what_a_treated_student_is_made_from_counts() -> None:
    one = stages_of(Tier(("small, second fine-tune",), COSTLY)) - NOTHING
    assert one == {
        "small-start",
        "student-small-dual-h2",
        "student-small-second-fine-tune",
        "answers-small-second-fine-tune.jsonl",
        "measured-text-small-second-fine-tune.json",
        "measured-weights-small-second-fine-tune.json",
    }
    answers_alone = stages_of(Tier(("real, neutralised",), COSTLY)) - NOTHING
    assert answers_alone == {
        "student-real-dual-h2",
        "answers-real-neutralised.jsonl",
        "measured-text-real-neutralised.json",
    }


def test_a_lesson_that_is_rewritten_counts_as_well() -> None:
    rewritten = Tier(("real, rewritten data",), COSTLY, has_traps=False)
    assert {"lesson-dual-h2.jsonl", "lesson-dual-h2-rewritten.jsonl"} <= stages_of(rewritten)


def test_logs_bring_their_candidates_and_the_innocent_that_reads_them() -> None:
    found = stages_of(Tier((), ("reported",))) - NOTHING
    assert found == {
        "counterfactuals-same-key.json",
        "counterfactuals-never-issued.json",
        "scores-base.json",
        "scores-real-null-unmarked.json",
        "student-real-null-unmarked",
        "measured-counterfactuals-base.json",
    }


def test_the_sum_is_of_what_was_timed_and_says_what_was_not() -> None:
    tier = Tier((), COSTLY)
    seconds = dict.fromkeys(stages_of(tier), 2.0) | {"student-of-another-run": 1000.0}
    n = len(stages_of(tier))
    assert cost(tier, seconds) == {"rows": [], "n_stages": n, "seconds": 2.0 * n, "not_timed": []}
    del seconds["answers-base.jsonl"]
    assert cost(tier, seconds)["seconds"] == 2.0 * (n - 1)
    assert cost(tier, seconds)["not_timed"] == ["answers-base.jsonl"]
