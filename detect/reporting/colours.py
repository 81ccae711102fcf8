"""Colours a document's tokens by score, with a legend that compares the counts with chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from detect.reporting.exhibits import scheme_name
from detect.reporting.fields import Fields
from detect.reporting.reader import TokenView
from detect.reporting.sourced import derived
from detect.reporting.words import REASONS

__all__ = ["Colouring", "colour_tokens"]

_MAX_TOKENS: Final = 20_000
# Gumbel schemes: their own scores, and the nats of any other, are Exp(1) under the null.
_EXPONENTIAL_SCHEMES: Final = frozenset({"gumbel", "dual-gumbel"})
_EXPONENTIAL_EDGES: Final = (0.0, 0.7, 1.4, 2.3, 3.5)
_N_LEVELS: Final = 5
# Where the null law is not in the result, a score is ranked within its own document.
_RANKED_SHARES: Final = (0.0, 0.5, 0.75, 0.9, 0.97)


@dataclass(frozen=True, slots=True)
class Level:
    """One row of the colour legend; shares in [0, 1], expected under the null or None."""

    level: int
    label: str
    n_tokens: int
    share: float
    expected: float | None


@dataclass(frozen=True, slots=True)
class ColouredToken:
    """A token's text with its colour level (0 = not scored) and its tooltip."""

    text: str
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Colouring:
    """A document's tokens, coloured, with the legend."""

    tokens: tuple[ColouredToken, ...]
    left_out: int
    levels: tuple[Level, ...]

    @property
    def is_ranked(self) -> bool:
        """Whether the levels only rank tokens within this document."""
        return len(self.levels) > 2 and not self.has_expected

    @property
    def has_expected(self) -> bool:
        """Whether the scheme's null law is known here."""
        return any(level.expected is not None for level in self.levels)


def _levels(
    scores: Sequence[float], *, is_exponential: bool
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return ascending lower edges and the colour level of each."""
    if is_exponential:
        return _EXPONENTIAL_EDGES, tuple(range(1, _N_LEVELS + 1))
    values = sorted(set(scores))
    if len(values) <= 2:
        return tuple(values), (1, 4)[: len(values)]
    ordered = sorted(scores)
    edges = sorted({ordered[int(share * len(ordered))] for share in _RANKED_SHARES})
    return tuple(edges), tuple(range(1, len(edges) + 1))


def _label(edges: Sequence[float], index: int, scores: Sequence[float]) -> str:
    if len(set(scores)) <= 2 and len(edges) <= 2:
        return f"{edges[index]:g}"
    if index + 1 == len(edges):
        return f"from {edges[index]:.3g}"
    return f"{edges[index]:.3g} to {edges[index + 1]:.3g}"


def _rank(score: float, edges: Sequence[float]) -> int:
    return max(sum(score >= edge for edge in edges) - 1, 0)


def _expected(edges: Sequence[float], index: int) -> float:
    if index + 1 == len(edges):
        return derived(math.exp(-edges[index]), f"exp(-{edges[index]:g})")
    inside = math.exp(-edges[index]) - math.exp(-edges[index + 1])
    return derived(inside, f"exp(-{edges[index]:g}) - exp(-{edges[index + 1]:g})")


def _title(token: TokenView) -> str:
    if token.score is not None:
        return f"score {token.score:.3g}"
    return f"not scored: {REASONS.get(token.reason, token.reason.replace('_', ' '))}"


def _is_exponential(scores: Sequence[float], scheme: str) -> bool:
    """Say whether the scores have the law that the legend compares with; such are never below 0."""
    return scheme.split(" ")[0] in _EXPONENTIAL_SCHEMES and min(scores, default=0.0) >= 0.0


def colour_tokens(
    tokens: Sequence[TokenView], fields: Fields, deployment: Fields | None = None
) -> Colouring | None:
    """Choose a colour for every token of a document, and the legend.

    Args:
        tokens: the document's tokens in reading order.
        fields: the object that they are a field of.
        deployment: the result, where that is another object; its scheme fixes the edges where its
            null law is known.

    Returns:
        The colouring, or None for no tokens.
    """
    if not tokens:
        return None
    scores = [token.value for token in tokens if token.value is not None]
    is_exponential = _is_exponential(scores, str(scheme_name(deployment or fields)))
    edges, levels = _levels(scores, is_exponential=is_exponential)
    return Colouring(
        tokens=tuple(
            ColouredToken(
                token.text,
                0 if token.value is None else levels[_rank(token.value, edges)],
                _title(token),
            )
            for token in tokens[:_MAX_TOKENS]
        ),
        left_out=_left_out(tokens, fields.path("tokens")),
        levels=_legend(scores, edges, levels, fields.path("tokens")),
    )


def _left_out(tokens: Sequence[TokenView], path: str) -> int:
    n_left_out = max(len(tokens) - _MAX_TOKENS, 0)
    return derived(n_left_out, f"len({path}) - {_MAX_TOKENS}") if n_left_out else 0


def _legend(
    scores: Sequence[float], edges: Sequence[float], levels: Sequence[int], path: str
) -> tuple[Level, ...]:
    counts = Counter(_rank(score, edges) for score in scores)
    rows = []
    for i, level in enumerate(levels):
        high = repr(float(edges[i + 1])) if i + 1 < len(edges) else "inf"
        n_tokens = f"n_between({path}, {float(edges[i])!r}, {high})"
        share = counts[i] / max(len(scores), 1)
        rows.append(
            Level(
                level=level,
                label=_label(edges, i, scores),
                n_tokens=derived(counts[i], n_tokens),
                share=derived(share, f"{n_tokens} / n_between({path}, -inf, inf)"),
                expected=_expected(edges, i) if edges == _EXPONENTIAL_EDGES else None,
            )
        )
    return tuple(rows)
