"""Evidence per unit of cost: what an answer, or a scored token, brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from detect.reporting.fields import Fields
from detect.reporting.reader import ClaimView, decades_per
from detect.reporting.sourced import derived, source_of

__all__ = ["Rate", "rates_of", "scored_unit"]

# Kinds of which every scored token adds to the p-value.
_HAVE_RATES: Final = ("text", "corpus", "probe", "watch", "trace_model")
_UNITS: Final = (
    ("n_queries", "query", "queries"),
    ("n_answers", "answer", "answers"),
    ("n_prompts", "prompt", "prompts"),
    ("n_positions", "position", "positions"),
    ("n_contexts", "context", "contexts"),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """Evidence per unit of cost, in decades of p-value."""

    unit: str
    units: str
    decades: float

    @property
    def per_decade(self) -> float | None:
        """Units needed for one factor of ten, None where there is no evidence."""
        if self.decades <= 0.0:
            return None
        return derived(1.0 / self.decades, f"1 / ({source_of(self.decades)})")


def rates_of(fields: Fields, claim: ClaimView) -> tuple[Rate, ...]:
    """Divide the evidence of a signal by what it cost.

    Args:
        fields: the result.
        claim: its claim.

    Returns:
        Per query or the like, if there was one, then per scored unit; none without a signal.

    Raises:
        ResultError: a count is malformed.
    """
    if fields.raw("kind") not in _HAVE_RATES or claim.verdict != "signal":
        return ()
    if claim.decades_per_token is None or claim.log10_p is None:
        return ()
    rates = []
    for name, unit, units in _UNITS:
        if fields.has(name) and fields.count(name):
            if unit == "answer" and fields.raw("access") == "weights":
                unit, units = "text read", "texts read"
            rates.append(Rate(unit, units, decades_per(claim.log10_p, fields.count(name))))
            break
    scored = scored_unit(fields)
    per_scored = Rate(f"scored {scored.rstrip('s')}", f"scored {scored}", claim.decades_per_token)
    return (*rates, per_scored)


def scored_unit(fields: Fields) -> str:
    """Say what n_scored counts: by weights, every candidate of a context is a pair of its own.

    Args:
        fields: the result.

    Returns:
        A plural, for example "tokens".

    Raises:
        ResultError: the field "unit" is malformed.
    """
    by_weights = fields.raw("access") == "weights"
    return fields.text("unit", "pairs" if by_weights else "tokens")
