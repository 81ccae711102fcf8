"""What a report page shows: findings, token colours, tables and steps, ready for the template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from detect.reporting.colours import Colouring, colour_tokens
from detect.reporting.documents_table import DocumentTable, read_document_table
from detect.reporting.exhibits import scheme_name
from detect.reporting.fields import Fields
from detect.reporting.plots import CurvePlot, DotPlot, plot_curves, plot_dots
from detect.reporting.rates import Rate, rates_of, scored_unit
from detect.reporting.reader import (
    FIRES_AT,
    ClaimView,
    DecoysView,
    RowView,
    read_claim,
    read_curve,
    read_decoys,
    read_rows,
    read_tokens,
)
from detect.reporting.reading import reading
from detect.reporting.shown import Words, count, digits, say
from detect.reporting.tested import key_ids, tested_of
from detect.reporting.words import NULL_HYPOTHESES, REASONS, SCORED, headline, visible
from watermark.errors import ResultError

__all__ = [
    "FindingView",
    "StepView",
    "read_finding",
    "read_step",
]

_KINDS: Final = dict.fromkeys(
    (
        "text",
        "corpus",
        "probe",
        "segments",
        "fraction",
        "watch",
        "profiles",
        "counterfactuals",
        "trace_text",
        "trace_model",
    ),
    "",
)
_STRONGEST_ALONE: Final = "It is that of the strongest key alone, before its choice is paid for."
# Kinds whose controls are no findings of their own: their exhibits show them.
_OWN_CONTROLS: Final = ("counterfactuals", "trace_model")
_SHOWN: Final = frozenset(
    "kind p_value log10_p log10_p_ceiling method n_tokens n_scored verdict reasons limits warnings "
    "null_hypothesis curve decoys controls tokens documents alpha scheme key_id config_fingerprint "
    "suspect access command versions machine recipe n_documents n_significant config "
    "name title seconds result results steps segments evidence n_windows fraction reference "
    "higher_criticism n_documents_scored course log10_e used spread profile profiles "
    "cohorts conclusion conclusion_in_words best reading ranking n_documents_named shares named "
    "accounts e_process unit schema".split()
)


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """How many tokens have one reason."""

    name: str
    meaning: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class FindingView:
    """One result of a test as the page shows it."""

    kind: str
    subject: str
    claim: ClaimView
    alpha: float
    fires_at: float
    decoys: DecoysView | None
    rows: tuple[RowView, ...]
    dots: DotPlot | None
    curve: CurvePlot | None
    colouring: Colouring | None
    documents: DocumentTable | None
    reasons: tuple[ReasonRow, ...]
    rates: tuple[Rate, ...]
    warnings: tuple[str, ...]
    limits: tuple[str, ...]
    tested: Words
    null_hypothesis: str
    n_powered: int | None
    scored: str
    reasons_of: str
    curve_note: str
    decoys_are: str
    facts: tuple[tuple[str, Words], ...]

    @property
    def headline(self) -> Words:
        """The finding in one sentence."""
        n_significant = self.documents.n_significant if self.documents else 0
        if n_significant and self.claim.verdict != "signal":
            documents = "document carries" if n_significant == 1 else "documents carry"
            return say(
                f"{{}} {documents} the mark, though the corpus as a whole does not show it.",
                count(n_significant),
            )
        return headline(self.kind, self.claim.verdict)

    @property
    def reading(self) -> Words:
        """What the p-value means, and what more it would take."""
        words = reading(self.claim.verdict, self.claim.log10_p)
        if self.claim.verdict != "inconclusive" or self.n_powered is None:
            return words
        if self.claim.n_scored >= self.n_powered:
            return words
        return say(
            "{} Only {} {} could be scored; to find nothing means something from {} on.",
            words,
            count(self.claim.n_scored),
            self.scored,
            count(self.n_powered),
        )


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a demonstration, with the full results that it holds."""

    name: str
    seconds: float | None
    claim: ClaimView | None
    findings: tuple[FindingView, ...]
    facts: tuple[tuple[str, Words], ...]

    @property
    def rows(self) -> tuple[RowView, ...]:
        """Everything that the step tested."""
        if self.claim and not self.findings:
            return (RowView("this step", "claim", self.claim, None, None, fires=False),)
        return tuple(row for finding in self.findings for row in finding.rows)

    @property
    def reading(self) -> Words:
        """What the step's p-value means."""
        return reading(self.claim.verdict, self.claim.log10_p) if self.claim else ""


def _subject(fields: Fields) -> str:
    suspect = fields.raw("suspect")
    if isinstance(suspect, dict):
        return fields.inner("suspect").text("name")
    if suspect is not None:
        return fields.text("suspect")
    return fields.text("source", fields.text("id", ""))


def _alpha(fields: Fields) -> float:
    alpha = fields.number("alpha")
    if not 0.0 < alpha < 1.0:
        raise fields.refusal("alpha", "a significance level between 0 and 1")
    return alpha


def _reasons(fields: Fields, claim: ClaimView) -> tuple[ReasonRow, ...]:
    reasons = fields.inner("reasons")
    rows = [] if SCORED in reasons else [ReasonRow(SCORED, REASONS[SCORED], claim.n_scored)]
    rows += [
        ReasonRow(visible(str(name)).replace("_", " "), REASONS.get(name, ""), reasons.count(name))
        for name in reasons
    ]
    return tuple(sorted(rows, key=lambda row: (row.name != SCORED, -row.n_tokens, row.name)))


def _check_verdict(
    fields: Fields, claim: ClaimView, alpha: float, rows: tuple[RowView, ...]
) -> None:
    """Refuse a verdict of signal that the numbers beside it contradict."""
    if claim.verdict != "signal":
        return
    where = f"result field {fields.path('verdict')!r} says signal"
    if claim.log10_p is not None and claim.log10_p > math.log10(alpha) + 1e-9:
        raise ResultError(
            f"{where}, but log10_p {claim.log10_p:g} is above alpha {alpha:g}; "
            "the result was changed or damaged"
        )
    if any(row.fires for row in rows):
        raise ResultError(
            f"{where}, but a control shows signal too, which makes a result inconclusive; "
            "the result was changed or damaged"
        )


def read_finding(fields: Fields) -> FindingView:
    """Read one result of a test.

    Args:
        fields: the result.

    Returns:
        The finding with its plots and tables.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    kind = fields.choice("kind", _KINDS)
    claim, decoys, curve = read_claim(fields), read_decoys(fields), read_curve(fields)
    alpha, scheme, subject = _alpha(fields), scheme_name(fields), _subject(fields)
    own_row = RowView(subject or "this " + kind, "claim", claim, decoys, curve, fires=False)
    rows = (own_row,) if kind in _OWN_CONTROLS else read_rows(fields, own_row, FIRES_AT)
    _check_verdict(fields, claim, alpha, rows)
    others = [row.curve for row in rows[1:] if row.curve]
    return FindingView(
        kind=kind,
        subject=subject,
        claim=claim,
        alpha=alpha,
        fires_at=FIRES_AT,
        decoys=decoys,
        rows=rows,
        dots=plot_dots(rows, alpha, FIRES_AT) if len(rows) > 1 else None,
        curve=plot_curves(curve, others, alpha) if curve else None,
        # Segments have a text of their own, with the finds marked in it.
        colouring=None if kind == "segments" else colour_tokens(read_tokens(fields), fields),
        documents=read_document_table(fields) if kind == "corpus" else None,
        reasons=_reasons(fields, claim),
        rates=rates_of(fields, claim),
        warnings=fields.sentences("warnings"),
        limits=fields.sentences("limits"),
        tested=tested_of(fields, kind, subject, scheme),
        null_hypothesis=fields.text("null_hypothesis", NULL_HYPOTHESES[kind]),
        n_powered=None if _counts_contexts(fields) else fields.maybe_count("n_powered"),
        scored=scored_unit(fields),
        reasons_of="answers" if kind == "counterfactuals" else "tokens",
        curve_note=_STRONGEST_ALONE if kind == "trace_model" else "",
        decoys_are="families of random keys" if kind == "trace_text" else "random keys",
        facts=_facts(fields, scheme, alpha),
    )


def _counts_contexts(fields: Fields) -> bool:
    """Say whether n_powered counts contexts, as by weights, of which each has many scored pairs."""
    return fields.has("spread") or fields.has("reading")


def _facts(fields: Fields, scheme: Words, alpha: float) -> tuple[tuple[str, Words], ...]:
    first: list[tuple[str, Words]] = [("scheme", scheme), ("key id", key_ids(fields))]
    if fields.has("config_fingerprint"):
        first.append(("config fingerprint", fields.text("config_fingerprint")))
    return (*first, ("alpha", digits(alpha)), *fields.facts(without=_SHOWN))


def read_step(fields: Fields) -> StepView:
    """Read one step of a demonstration.

    Args:
        fields: the step: a summary, a whole result, or a summary with "result" or "results".

    Returns:
        The step.

    Raises:
        ResultError: a field is missing or malformed.
    """
    seconds = fields.maybe_number("seconds")
    if seconds is not None and seconds < 0.0:
        raise fields.refusal("seconds", "a number >= 0")
    inner = [fields] if fields.has("kind") else fields.objects("results")
    if fields.has("result"):
        inner.append(fields.inner("result"))
    findings = tuple(read_finding(result) for result in inner)
    claim = read_claim(fields) if fields.has("verdict") else None
    if claim is None and len(findings) == 1:
        claim = findings[0].claim
    facts = () if fields.has("kind") else fields.facts(without=_SHOWN)
    name = fields.text("title", "") or fields.text("name")
    return StepView(name, seconds, claim, findings, facts)
