"""Shows the course of a watch: the e-value after every answer, against the level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.plots import Scale, Tick, axis_ticks, nice_step
from detect.reporting.shown import count, log10_number
from detect.reporting.sourced import derived, source_of

__all__ = ["CourseView", "read_course"]

_HEADROOM: Final = 0.06


@dataclass(frozen=True, slots=True)
class CourseView:
    """log10 E against answers; points are SVG coordinates in a 100 x 100 box, y downwards."""

    points: str
    end_percent: tuple[float, float]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    alpha: float
    goal: float
    alpha_percent: float
    even_percent: float
    n_answers: int
    log10_e: float


def read_course(fields: Fields) -> Exhibit:
    """Read what `heirmark watch` saw.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    n_answers, log10_e = fields.count("n_answers"), fields.number("log10_e")
    figures = (
        Figure("Answers", count(n_answers), "each is counted once"),
        Figure("E-value now", log10_number(log10_e), "the p-value is 1 over the largest so far"),
    )
    return Exhibit("course.html", figures, _view(fields, n_answers, log10_e))


def _view(fields: Fields, n_answers: int, log10_e: float) -> CourseView | None:
    course, alpha = fields.inner("course"), fields.number("alpha")
    answers, values = course.numbers("n_answers"), course.numbers("log10_e")
    if len(answers) != len(values):
        raise course.refusal("log10_e", f"a list of {len(answers)} numbers, as long as n_answers")
    if not answers:
        return None
    if any(later <= earlier for earlier, later in pairwise([0.0, *answers])):
        raise course.refusal("n_answers", "a list in ascending order")
    # A bet starts with 1; a state of an older version has forgotten its first answers.
    if answers[0] == 1.0:
        answers, values = (0.0, *answers), (0.0, *values)
    level = -math.log10(alpha)
    low, high = min(0.0, *values), max(level, *values)
    room = (high - low) * _HEADROOM
    low, high = low - room if low < 0.0 else low, high + room
    x_scale = Scale(max(answers[-1], 1.0))

    def place(value: float) -> float:
        return round(100 * (high - value) / (high - low), 2)

    step = nice_step(high - low, 5)
    marks = [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    points = [f"{x_scale.percent(n):g},{place(v):g}" for n, v in zip(answers, values, strict=True)]
    return CourseView(
        points=" ".join(points),
        end_percent=(x_scale.percent(answers[-1]), place(values[-1])),
        x_ticks=tuple(t for t in axis_ticks(x_scale, 5) if t.value == round(t.value)),
        y_ticks=tuple(Tick(100 - place(value), value) for value in marks),
        alpha=alpha,
        goal=derived(level, f"-log10({source_of(alpha)})"),
        alpha_percent=place(level),
        even_percent=place(0.0),
        n_answers=n_answers,
        log10_e=log10_e,
    )
