"""What `heirmark power` expected of a row beforehand, in the row's own answers."""

from __future__ import annotations

from typing import Any

from benchmarks.inheritance.by_text import ALPHA
from benchmarks.inheritance.lessons import LESSONS, MAX_NEW_TOKENS
from detect.planning.planning import plan_power
from detect.planning.power_plan import PowerRequest
from detect.scoring.scorers import choose_scorer

__all__ = ["planned_answers"]


def planned_answers(tested: str, row: dict[str, Any]) -> dict[str, Any]:
    """Plan a watch of the row's student, which learned a share of marked answers.

    Args:
        tested: the lesson under whose key it is tested.
        row: what was measured of it, with a marked share above 0.

    Returns:
        Scored pairs at which the watch is expected to stop, and answers: at the row's own number
        of scored pairs an answer. None is more than can ever be had.
    """
    config = LESSONS[tested].config
    assert config is not None
    request = PowerRequest(
        config=config,
        access="text",
        alpha=ALPHA,
        power=0.9,
        share=row["marked_share"],
        entropy=1.8,  # of direct text only; by a suspect's text no part of the plan
        answer_tokens=MAX_NEW_TOKENS,
        budget=1_000_000,
        scorer=choose_scorer(None, config.scheme, "inherited"),
    )
    scored = plan_power(request).to_dict()["expected_stopping_n_scored"]
    each = row["text"]["n_scored"] / row["n_answers"]
    return {
        "expected_scored": scored,
        "expected_answers": None if scored is None else round(scored / each, 1),
    }
