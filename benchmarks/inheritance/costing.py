"""What a tier takes: added up from what its stages took when they were made, by one core.

No stage counts twice, and every stage that the tier needs from an empty folder on counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.inheritance.by_logs import candidates_file
from benchmarks.inheritance.grid import INNOCENT, ROWS, Row
from benchmarks.inheritance.lessons import LESSONS, lesson_file
from benchmarks.inheritance.measuring import BASE, SHARED_LESSONS, measured_file
from benchmarks.inheritance.students import file_name
from benchmarks.inheritance.tiers import Tier
from benchmarks.inheritance.traps import TRAP_LESSONS
from detect.suspect.logs import Kind

__all__ = ["cost", "stages_of"]


def cost(tier: Tier, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Add up what a tier takes.

    Args:
        tier: the tier.
        seconds: what stages took by themselves; see `Stages.seconds`.

    Returns:
        Its rows, the number of its stages, the sum of their seconds, and the stages that were not
        timed, so that the sum is without them.
    """
    needed = stages_of(tier)
    timed = needed & seconds.keys()
    return {
        "rows": list(tier.rows),
        "n_stages": len(needed),
        "seconds": round(sum(seconds[name] for name in timed), 1),
        "not_timed": sorted(needed - timed),
    }


def stages_of(tier: Tier) -> set[str]:
    """List all stages that a tier makes in an empty folder, by name."""
    found = _of_row(tier, BASE, "base") | _lessons(SHARED_LESSONS)
    if tier.has_traps:
        found |= {"measured-traps.json", *_lessons(TRAP_LESSONS)}
    for name in tier.rows:
        found |= _of_row(tier, ROWS[name], file_name(name)) | _students(name)
    return found


def _of_row(tier: Tier, row: Row, file: str) -> set[str]:
    found = {f"answers-{file}.jsonl"}
    found |= {measured_file(file, access) for access in tier.access(row)}
    if "counterfactuals" in tier.access(row):
        found |= {candidates_file(kind) for kind in Kind} | _students(INNOCENT)
        found |= {f"scores-{name}.json" for name in ("base", file, file_name(INNOCENT))}
    return found


def _students(name: str) -> set[str]:
    """List what a row's student, and what it is made from, takes."""
    row = ROWS[name]
    found = _lessons(part.lesson for part in row.learned)
    if row.family == "small":
        found |= {"small-start"}
    if row.of is not None:
        found |= _students(row.of)
    if not row.of_the_same_weights:
        found |= {f"student-{file_name(name)}"}
    return found


def _lessons(names: Iterable[str]) -> set[str]:
    """List lessons and those that they rewrite."""
    wanted = set(names)
    wanted |= {source for name in wanted if (source := LESSONS[name].rewrites)}
    return {lesson_file(name) for name in wanted}
