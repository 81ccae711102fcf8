"""Renders a result as one self-contained HTML page: the finding first, its controls beside it.

The page needs no network, no script and no font of its own; equal results give equal bytes.
Everything in a result is treated as hostile: checked, then escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from detect.reporting.accounts import read_accounts
from detect.reporting.calibration_page import read_calibration
from detect.reporting.course import read_course
from detect.reporting.environment import render
from detect.reporting.exhibits import Exhibit
from detect.reporting.fields import Fields
from detect.reporting.key_map import read_key_map
from detect.reporting.logged_accounts import read_logged_accounts
from detect.reporting.plots import DotPlot, plot_dots
from detect.reporting.power_page import read_power
from detect.reporting.profiles_table import read_profiles
from detect.reporting.reader import FIRES_AT, RowView
from detect.reporting.reading import reading
from detect.reporting.rerun import Command, command_of
from detect.reporting.segments import read_segments
from detect.reporting.share import read_share
from detect.reporting.shown import Words
from detect.reporting.sourced import derived
from detect.reporting.views import FindingView, StepView, read_finding, read_step
from detect.reporting.words import NULL_HYPOTHESES, TOPICS, VERDICTS, headline

__all__ = ["render_report"]

_GROUPS: Final = MappingProxyType(
    {
        "used": "What else was used",
        "spread": "What the pairs come from",
        "reading": "What the pairs come from",
        "config": "Config",
        "recipe": "Recipe",
        "machine": "Machine",
        "versions": "Versions",
    }
)
# What one kind of result shows beyond the finding that all tests share.
_EXHIBITS: Final[MappingProxyType[str, Callable[[Fields], Exhibit]]] = MappingProxyType(
    {
        "segments": read_segments,
        "fraction": read_share,
        "watch": read_course,
        "profiles": read_profiles,
        "counterfactuals": read_logged_accounts,
        "trace_text": read_accounts,
        "trace_model": read_key_map,
    }
)


@dataclass(frozen=True, slots=True)
class _Page:
    """Everything the page template reads."""

    topic: str
    verdict: str
    headline: Words
    reading: Words
    subject: str
    subject_label: str
    finding: FindingView | None
    exhibit: Exhibit | None
    steps: tuple[StepView, ...]
    n_steps: int
    dots: DotPlot | None
    alpha: float
    fires_at: float
    null_hypothesis: str
    warnings: tuple[str, ...]
    limits: tuple[str, ...]
    facts: tuple[tuple[str, Words], ...]
    fact_groups: tuple[tuple[str, tuple[tuple[str, Words], ...]], ...]
    command: Command


def render_report(result: dict[str, Any]) -> str:
    """Render a result as one HTML page.

    Args:
        result: what a result's `to_dict` gave, or the same read from JSON; its kind is one of
            `words.TOPICS`.

    Returns:
        A complete HTML document, to be written as UTF-8.

    Raises:
        ResultError: not a result of heirmark; the message names the field.
        MissingExtraError: jinja2 is not installed.
    """
    fields = Fields(result)
    kind = fields.choice("kind", TOPICS)
    if kind == "power":
        return render("power.html", read_power(fields))
    if kind == "calibration":
        return render("calibration.html", read_calibration(fields))
    return render("page.html", _demo_page(fields) if kind == "demo" else _single_page(fields))


def _single_page(fields: Fields) -> _Page:
    finding = read_finding(fields)
    read_exhibit = _EXHIBITS.get(finding.kind)
    exhibit = read_exhibit(fields) if read_exhibit else None
    return _Page(
        topic=TOPICS[finding.kind],
        verdict=finding.claim.verdict,
        headline=(exhibit and exhibit.headline) or finding.headline,
        reading=finding.reading,
        subject=finding.subject,
        subject_label=_subject_label(fields, finding.kind),
        finding=finding,
        exhibit=exhibit,
        steps=(),
        n_steps=0,
        dots=None,
        alpha=finding.alpha,
        fires_at=FIRES_AT,
        null_hypothesis=finding.null_hypothesis,
        warnings=(),
        limits=finding.limits,
        facts=finding.facts,
        fact_groups=_fact_groups(fields),
        command=command_of(fields),
    )


def _subject_label(fields: Fields, kind: str) -> str:
    if kind not in ("probe", "trace_model", "counterfactuals"):
        return "Source:"
    access = {
        "text": ", by its answers",
        "logprobs": ", by its reported candidates",
        "weights": ", by its weights",
    }
    return f"Suspect{access.get(fields.text('access', ''), '')}:"


def _demo_page(fields: Fields) -> _Page:
    steps = tuple(read_step(step) for step in fields.objects("steps"))
    if not steps:
        raise fields.refusal("steps", "a list with at least one step")
    findings = [finding for step in steps for finding in step.findings]
    verdict = _demo_verdict(fields, findings)
    alpha = next((finding.alpha for finding in findings), FIRES_AT)
    rows = _demo_rows(steps)
    limits = dict.fromkeys([*fields.sentences("limits"), *(s for f in findings for s in f.limits)])
    shown = frozenset(
        {"kind", "steps", "limits", "warnings", "command", "verdict", "schema", *_GROUPS}
    )
    return _Page(
        topic=TOPICS["demo"],
        verdict=verdict,
        headline=_demo_headline(verdict, findings),
        reading=_demo_reading(steps, verdict),
        subject="",
        subject_label="",
        finding=None,
        exhibit=None,
        steps=steps,
        n_steps=derived(len(steps), f"len({fields.path('steps')})"),
        dots=plot_dots(rows, alpha, FIRES_AT) if len(rows) > 1 else None,
        alpha=alpha,
        fires_at=FIRES_AT,
        null_hypothesis=NULL_HYPOTHESES["demo"],
        warnings=fields.sentences("warnings"),
        limits=tuple(limits),
        facts=fields.facts(without=shown),
        fact_groups=_fact_groups(fields),
        command=command_of(fields),
    )


def _demo_verdict(fields: Fields, findings: Sequence[FindingView]) -> str:
    """Return the run's own verdict, else that of its probes where they agree, else ""."""
    if fields.has("verdict"):
        return fields.choice("verdict", VERDICTS)
    verdicts = {finding.claim.verdict for finding in findings if finding.kind == "probe"}
    return verdicts.pop() if len(verdicts) == 1 else ""


def _demo_headline(verdict: str, findings: Sequence[FindingView]) -> str:
    if not verdict:
        return "What this run found, step by step."
    has_controls = any(len(f.rows) > 1 for f in findings if f.kind == "probe")
    # The demo's sentence speaks of clean models, so it needs controls that stayed quiet.
    return headline("demo" if has_controls or verdict != "signal" else "probe", verdict)


def _demo_reading(steps: Sequence[StepView], verdict: str) -> Words:
    if verdict != "signal":
        return "Each step below gives its p-value, what it was computed from, and its controls."
    # The weakest of the positive probes: naming the strongest would be a search not paid for.
    claims = [f.claim for s in steps for f in s.findings if f.kind == "probe"]
    found = [c.log10_p for c in claims if c.verdict == "signal" and c.log10_p is not None]
    return reading(verdict, max(found, default=None))


def _demo_rows(steps: Sequence[StepView]) -> tuple[RowView, ...]:
    """Return every probe's claim and controls, named by step."""
    return tuple(
        replace(row, role=step.name)
        for step in steps
        for finding in step.findings
        if finding.kind == "probe"
        for row in finding.rows
    )


def _fact_groups(fields: Fields) -> tuple[tuple[str, tuple[tuple[str, Words], ...]], ...]:
    groups: list[tuple[str, tuple[tuple[str, Words], ...]]] = []
    for name, title in _GROUPS.items():
        # Of a trace, the spread of the signal over keys, which its exhibit shows.
        if name == "spread" and fields.raw("kind") == "trace_model":
            continue
        if isinstance(fields.raw(name), dict):
            groups.append((title, fields.inner(name).facts()))
        elif fields.has(name):
            groups.append((title, ((name, fields.text(name)),)))
    return tuple(groups)
