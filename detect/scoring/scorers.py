"""The scores by name, and which one is the default where.

A score is chosen before any word is looked at: by the use, never by the result. Which default is
best was measured on texts and students of other keys (benchmarks.tokens_to_detection,
benchmarks.inherited_scores).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import MappingProxyType
from typing import Final, Literal

from detect.scoring.alternatives import TYPICAL, Ensemble, minimax
from detect.scoring.score_tables import Scorer, ScoreTable, score_table
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel

__all__ = ["SCORES", "Use", "choose_scorer"]

Use = Literal["direct", "inherited"]


@cache
def _table(name: str, alternative: Ensemble, marked_share: float, scheme: Scheme) -> ScoreTable:
    made = score_table(scheme, alternative, marked_share=marked_share)
    return ScoreTable(made.units, made.law, name)


def _own(scheme: Scheme) -> Scorer:
    return scheme


SCORES: Final = MappingProxyType[str, Callable[[Scheme], Scorer]](
    {
        "own": _own,
        "typical": partial(_table, "typical", TYPICAL, 0.95),
        "minimax": partial(_table, "minimax", minimax(0.1), 0.999),
        "weak": partial(_table, "weak", TYPICAL, 0.1),
    }
)
_DEFAULT: Final = {"direct": "typical", "inherited": "weak"}


def choose_scorer(name: str | None, scheme: Scheme, use: Use) -> Scorer:
    """Find a score.

    Args:
        name: in `SCORES`; None for the default of the use.
        scheme: the deployment's scheme.
        use: "direct" for text that may be marked itself, "inherited" for a suspect's text.

    Returns:
        The scorer: for schemes other than Gumbel-max, whose own score is the best of its kind, the
        scheme itself where no name was given.

    Raises:
        ConfigError: a named score that the scheme cannot have.
    """
    if name is None:
        made_for = isinstance(scheme, Gumbel | DualGumbel)
        name = _DEFAULT[use] if made_for else "own"
    return SCORES[name](scheme)
