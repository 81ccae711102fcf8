"""What `heirmark power` expected of a row beforehand, and how its evidence came in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.inheritance.by_text import ALPHA
from benchmarks.inheritance.lessons import LESSONS, MAX_NEW_TOKENS
from detect.planning.planning import plan_power
from detect.planning.power_plan import PowerRequest
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs
from detect.suspect.answer_pairs import pool_answers
from detect.suspect.exchanges import SuspectAnswer
from watermark.prf import Prf
from watermark.tokens import TextTokenizer

__all__ = ["growth", "planned_answers"]

_POINTS: Final = (300, 1_000, 3_000, 10_000)


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


def growth(
    tested: str, tokenizer: TextTokenizer, answers: Sequence[SuspectAnswer]
) -> dict[str, Any]:
    """Tell how the effect of all pairs so far falls as answers come in.

    Args:
        tested: the lesson under whose key they are tested.
        tokenizer: the provider's.
        answers: in the order of the prompts.

    Returns:
        Scored pairs, and the mean shift of the first so many in null standard deviations; "decay"
        is minus the slope, in logarithms, from 1,000 pairs to the last.
    """
    lesson = LESSONS[tested]
    assert lesson.config is not None
    pairs = pool_answers(tokenizer, answers, lesson.config.context_width)
    scorer = choose_scorer(None, lesson.config.scheme, "inherited")
    scores = score_pairs(pairs.as_selection(), lesson.config, Prf.from_key(lesson.key), scorer)
    shifts = np.cumsum((scores - scorer.law.mean) / scorer.law.variance**0.5)
    points = [n for n in _POINTS if n < len(shifts)] + [len(shifts)]
    effects = [float(shifts[n - 1]) / n for n in points]
    start = points.index(1_000) if 1_000 in points else 0
    decay = None
    if min(effects[start], effects[-1]) > 0:
        decay = math.log(effects[start] / effects[-1]) / math.log(points[-1] / points[start])
    return {"n_scored": points, "effect": effects, "decay": decay}
