"""What a committed test plan may say: the names that a machine compares with the test, and others.

A value that no test can have would make a commitment that nothing fits, which shows only at the
reveal: it is refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from watermark.errors import CommitmentError

__all__ = ["COMPARED", "SCORE_NAMES", "check_new_plan", "check_plan"]

# Those of `detect.scoring.scorers.SCORES`, which a test holds together with these.
SCORE_NAMES: Final = ("own", "typical", "minimax", "weak")


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    expected: str


COMPARED: Final = MappingProxyType(
    {
        "alpha": _Kind(lambda v: type(v) is float and 0 < v < 1, "a number between 0 and 1"),
        "min_pairs": _Kind(lambda v: _is_count(v, 1), "an integer of at least 1"),
        "n_decoys": _Kind(lambda v: _is_count(v, 0), "an integer of at least 0"),
        "score": _Kind(lambda v: isinstance(v, str), f"one of {', '.join(SCORE_NAMES)}"),
        "seed": _Kind(lambda v: _is_count(v, 0), "an integer of at least 0"),
    }
)


def check_plan(plan: Mapping[str, Any]) -> None:
    """Refuse values that no test can have, of the names that are compared.

    Args:
        plan: JSON values; names that are not in `COMPARED` may have any.

    Raises:
        CommitmentError: names the value and what was expected.
    """
    for name, kind in COMPARED.items():
        if name in plan and not kind.fits(plan[name]):
            raise CommitmentError(
                f"{name} of a test plan is {kind.expected}, got {plan[name]!r:.60}"
            )


def check_new_plan(plan: Mapping[str, Any]) -> None:
    """Refuse, of a plan that is not yet committed, also a score that no command takes.

    Args:
        plan: JSON values.

    Raises:
        CommitmentError: names the value and what was expected.
    """
    check_plan(plan)
    score = plan.get("score", SCORE_NAMES[0])
    if score not in SCORE_NAMES:
        raise CommitmentError(
            f"score of a test plan is {COMPARED['score'].expected}, got {score!r:.60}"
        )
