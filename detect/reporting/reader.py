"""Reads a result (plain JSON values from outside) into checked views for the report.

Every value that a page shows passes here once. What is missing or malformed is refused with the
name of its field, so that a page never shows half a finding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from detect.reporting.fields import Fields
from detect.reporting.sourced import Sourced, derived, source_of
from detect.reporting.words import VERDICTS
from detect.results import CONTROL_FIRES_AT
from watermark.errors import ResultError

__all__ = [
    "FIRES_AT",
    "ClaimView",
    "CurveView",
    "DecoysView",
    "DocumentView",
    "RowView",
    "TokenView",
    "decades_per",
    "read_claim",
    "read_curve",
    "read_decoys",
    "read_documents",
    "read_log10_p",
    "read_rows",
    "read_tokens",
]

# The one number of a page that no field holds: the same for every result.
FIRES_AT: Final = derived(CONTROL_FIRES_AT, repr(CONTROL_FIRES_AT))
_P_TOLERANCE: Final = 0.01
_SMALLEST_CHECKED: Final = 1e-300


def decades_per(log10_p: float, units: float) -> float:
    """Return decades of p-value per unit of something.

    Args:
        log10_p: log10 of a p-value.
        units: how many there were, > 0.

    Returns:
        The quotient, with its source.
    """
    return derived(-log10_p / units, f"-{source_of(log10_p)} / {source_of(units)}")


@dataclass(frozen=True, slots=True)
class ClaimView:
    """One tested statement. log10_p is None where the result has no p-value."""

    verdict: str
    log10_p: float | None
    ceiling: float | None
    method: str
    n_tokens: int | None
    n_scored: int

    @property
    def decades_per_token(self) -> float | None:
        """Decades of p-value that one scored token brings."""
        if self.log10_p is None or not self.n_scored:
            return None
        return decades_per(self.log10_p, self.n_scored)


@dataclass(frozen=True, slots=True)
class DecoysView:
    """The decoy-key test beside a claim: rank p-value among `n_decoys` random keys."""

    n_decoys: int
    p_value: float

    @property
    def log10_p(self) -> float:
        """Log10 of the decoy p-value."""
        return math.log10(self.p_value)

    @property
    def at_floor(self) -> bool:
        """Whether no decoy reached the statistic: the smallest p-value that M decoys can give."""
        return self.p_value <= 1.0 / (self.n_decoys + 1) * (1 + 1e-9)


@dataclass(frozen=True, slots=True)
class CurveView:
    """Evidence as tokens are scored: n_scored ascending, log10_p beside it."""

    n_scored: tuple[float, ...]
    log10_p: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RowView:
    """A model that was tested: the claim itself (role "claim") or a control."""

    name: str
    role: str
    claim: ClaimView
    decoys: DecoysView | None
    curve: CurveView | None
    fires: bool


@dataclass(frozen=True, slots=True)
class DocumentView:
    """One document of a corpus; log10_holm is its p-value corrected for the family.

    `index`: its place in the result.
    """

    id: str
    source: str
    claim: ClaimView
    log10_holm: float | None
    index: int


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token's text, its score (None if not scored) and the reason.

    `nats`: -ln of the chance that a score is as high, where the score is not on that scale itself.
    """

    text: str
    score: float | None
    reason: str
    nats: float | None = None

    @property
    def value(self) -> float | None:
        """What the colour is chosen by."""
        return self.score if self.nats is None else self.nats


def read_log10_p(fields: Fields, name: str) -> float | None:
    """Read log10 of a p-value.

    Args:
        fields: the object that holds it.
        name: of the field.

    Returns:
        The number, at most 0, or None where there is no p-value.

    Raises:
        ResultError: it is malformed.
    """
    value = fields.maybe_number(name)
    if value is not None and value > 1e-6:
        raise fields.refusal(name, "log10 of a p-value (at most 0)")
    return None if value is None else Sourced(min(value, 0.0), fields.path(name))


def _check_agreement(fields: Fields, log10_p: float | None) -> None:
    """Refuse a p_value that contradicts log10_p: one of them was edited."""
    p_value = fields.maybe_number("p_value")
    if p_value is None:
        return
    if not 0.0 < p_value <= 1.0:
        raise fields.refusal("p_value", "a probability above 0, or null where it underflows")
    agree = log10_p is not None and abs(math.log10(p_value) - log10_p) <= _P_TOLERANCE
    if p_value > _SMALLEST_CHECKED and not agree:
        raise ResultError(
            f"result fields {fields.path('p_value')!r} and {fields.path('log10_p')!r} disagree "
            f"({p_value!r} and {log10_p!r}); the result was changed or damaged"
        )


def read_claim(fields: Fields) -> ClaimView:
    """Read verdict, p-value and sizes, and check that they agree.

    Args:
        fields: the object that holds them.

    Returns:
        The claim.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    if "log10_p" not in fields:
        raise fields.refusal("log10_p", "log10 of the p-value")
    log10_p = read_log10_p(fields, "log10_p")
    _check_agreement(fields, log10_p)
    verdict = fields.choice("verdict", VERDICTS)
    if log10_p is None and verdict != "inconclusive":
        raise fields.refusal("log10_p", f"a number, since the verdict is {verdict}")
    return ClaimView(
        verdict=verdict,
        log10_p=log10_p,
        ceiling=read_log10_p(fields, "log10_p_ceiling"),
        method=fields.text("method", ""),
        n_tokens=fields.maybe_count("n_tokens"),
        n_scored=fields.count("n_scored"),
    )


def read_decoys(fields: Fields) -> DecoysView | None:
    """Read the field "decoys".

    Args:
        fields: the object that may hold it.

    Returns:
        The decoy test, or None where none was run.

    Raises:
        ResultError: a field is malformed.
    """
    decoys = fields.inner("decoys")
    if not decoys.has("n_decoys") or not decoys.raw("n_decoys"):
        return None
    p_value = decoys.number("p_value")
    if not 0.0 < p_value <= 1.0:
        raise decoys.refusal("p_value", "a probability above 0")
    return DecoysView(decoys.count("n_decoys"), p_value)


def read_curve(fields: Fields) -> CurveView | None:
    """Read the field "curve".

    Args:
        fields: the object that may hold it.

    Returns:
        The curve, or None where there is none or it is empty.

    Raises:
        ResultError: lists of unequal lengths, or values that are not numbers.
    """
    curve = fields.inner("curve")
    n_scored, log10_p = curve.numbers("n_scored"), curve.numbers("log10_p")
    if len(n_scored) != len(log10_p):
        raise curve.refusal("log10_p", f"a list of {len(n_scored)} numbers, as long as n_scored")
    if any(later < earlier for earlier, later in pairwise(n_scored)):
        raise curve.refusal("n_scored", "a list in ascending order")
    return CurveView(n_scored, log10_p) if n_scored else None


def read_rows(fields: Fields, claim: RowView, fires_at: float) -> tuple[RowView, ...]:
    """Read the claim's controls.

    Args:
        fields: the object that may hold "controls".
        claim: the row of the claim, which comes first.
        fires_at: p-value at which a control counts as showing signal.

    Returns:
        The claim and its controls.

    Raises:
        ResultError: a field is missing or malformed.
    """
    rows = [claim]
    for control in fields.objects("controls"):
        tested, decoys = read_claim(control), read_decoys(control)
        smallest = min(
            0.0 if tested.log10_p is None else tested.log10_p,
            0.0 if decoys is None else decoys.log10_p,
        )
        rows.append(
            RowView(
                name=control.text("name"),
                role=control.text("role", "control"),
                claim=tested,
                decoys=decoys,
                curve=read_curve(control),
                fires=smallest <= math.log10(fires_at),
            )
        )
    return tuple(rows)


def read_documents(fields: Fields) -> tuple[DocumentView, ...]:
    """Read the field "documents", strongest evidence first.

    Args:
        fields: the object that may hold it.

    Returns:
        The documents; those without a p-value come last, ties stay in their order.

    Raises:
        ResultError: a field is missing or malformed.
    """
    documents = [
        DocumentView(
            id=document.text("id"),
            source=document.text("source", ""),
            claim=read_claim(document),
            log10_holm=read_log10_p(document, "log10_p_holm"),
            index=index,
        )
        for index, document in enumerate(fields.objects("documents"))
    ]
    return tuple(sorted(documents, key=lambda d: (d.claim.log10_p is None, d.claim.log10_p or 0.0)))


def read_tokens(fields: Fields) -> tuple[TokenView, ...]:
    """Read the field "tokens".

    Args:
        fields: the object that may hold it.

    Returns:
        The tokens in reading order.

    Raises:
        ResultError: a field is missing or malformed.
    """
    return tuple(
        TokenView(
            token.text("text"),
            token.maybe_number("score"),
            token.text("reason"),
            token.maybe_number("nats"),
        )
        for token in fields.objects("tokens")
    )
