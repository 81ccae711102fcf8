"""Renders a result as one self-contained HTML page: the finding first, its controls beside it.

The page needs no network, no script and no font of its own; equal results give equal bytes.
Everything in a result is treated as hostile: checked, then escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from detect.reporting.fields import Fields
from detect.reporting.plots import DotPlot, plot_dots
from detect.reporting.reader import RowView
from detect.reporting.views import FindingView, StepView, read_finding, read_step
from detect.reporting.words import (
    NULL_HYPOTHESES,
    ROLES,
    TOPICS,
    VERDICTS,
    headline,
    reading,
    round_sci,
    superscript,
)
from detect.results import CONTROL_FIRES_AT
from watermark.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_report"]

_GROUPS: Final = ("config", "recipe", "machine", "versions")


@dataclass(frozen=True, slots=True)
class _Page:
    """Everything the page template reads."""

    topic: str
    verdict: str
    headline: str
    reading: str
    subject: str
    subject_label: str
    finding: FindingView | None
    steps: tuple[StepView, ...]
    dots: DotPlot | None
    alpha: float
    fires_at: float
    null_hypothesis: str
    warnings: tuple[str, ...]
    limits: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    fact_groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    command: str


def render_report(result: dict[str, Any]) -> str:
    """Render a result as one HTML page.

    Args:
        result: what a result's `to_dict` gave, or the same read from JSON; kind "text",
            "corpus", "probe" or "demo".

    Returns:
        A complete HTML document, to be written as UTF-8.

    Raises:
        ResultError: not a result of heirmark; the message names the field.
        MissingExtraError: jinja2 is not installed.
    """
    fields = Fields(result)
    kind = fields.choice("kind", TOPICS)
    page = _demo_page(fields) if kind == "demo" else _single_page(fields)
    return _environment().get_template("page.html").render(page=page)


def _single_page(fields: Fields) -> _Page:
    finding = read_finding(fields)
    return _Page(
        topic=TOPICS[finding.kind],
        verdict=finding.claim.verdict,
        headline=finding.headline,
        reading=finding.reading,
        subject=finding.subject,
        subject_label=_subject_label(fields, finding.kind),
        finding=finding,
        steps=(),
        dots=None,
        alpha=finding.alpha,
        fires_at=CONTROL_FIRES_AT,
        null_hypothesis=finding.null_hypothesis,
        warnings=(),
        limits=finding.limits,
        facts=finding.facts,
        fact_groups=_fact_groups(fields),
        command=_command(fields),
    )


def _subject_label(fields: Fields, kind: str) -> str:
    if kind != "probe":
        return "Source:"
    access = {"text": ", by its answers", "weights": ", by its weights"}
    return f"Suspect{access.get(fields.text('access', ''), '')}:"


def _demo_page(fields: Fields) -> _Page:
    steps = tuple(read_step(step) for step in fields.objects("steps"))
    if not steps:
        raise fields.refusal("steps", "a list with at least one step")
    findings = [finding for step in steps for finding in step.findings]
    verdict = _demo_verdict(fields, findings)
    alpha = next((finding.alpha for finding in findings), CONTROL_FIRES_AT)
    rows = _demo_rows(steps)
    limits = dict.fromkeys([*fields.sentences("limits"), *(s for f in findings for s in f.limits)])
    shown = frozenset({"kind", "steps", "limits", "warnings", "command", "verdict", *_GROUPS})
    return _Page(
        topic=TOPICS["demo"],
        verdict=verdict,
        headline=_demo_headline(verdict, findings),
        reading=_demo_reading(steps, verdict),
        subject="",
        subject_label="",
        finding=None,
        steps=steps,
        dots=plot_dots(rows, alpha, CONTROL_FIRES_AT) if len(rows) > 1 else None,
        alpha=alpha,
        fires_at=CONTROL_FIRES_AT,
        null_hypothesis=NULL_HYPOTHESES["demo"],
        warnings=fields.sentences("warnings"),
        limits=tuple(limits),
        facts=fields.facts(without=shown),
        fact_groups=_fact_groups(fields),
        command=_command(fields),
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


def _demo_reading(steps: Sequence[StepView], verdict: str) -> str:
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


def _fact_groups(fields: Fields) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    groups = []
    for name in _GROUPS:
        if isinstance(fields.raw(name), dict):
            groups.append((name.capitalize(), fields.inner(name).facts()))
        elif fields.has(name):
            groups.append((name.capitalize(), ((name, fields.text(name)),)))
    return tuple(groups)


def _command(fields: Fields) -> str:
    if isinstance(fields.raw("command"), (list, tuple)):
        return " ".join(fields.sentences("command"))
    return fields.text("command", "")


def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("jinja2", "report") from None
    environment = Environment(
        loader=PackageLoader("detect.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        p=_p_html,
        p_svg=_p_svg,
        p_plain=_p_plain,
        minus=lambda number: str(number).replace("-", "−"),
        log10=math.log10,
        count=lambda number: f"{number:,.0f}",
        decades=lambda number: f"{number:#.2g}".rstrip("."),
        sizes=lambda number: f"{float(f'{number:.2g}'):,g}",
        percent=lambda share: f"{100 * share:.0f}%",
        seconds=_seconds,
        role=lambda role: ROLES.get(role, role),
        verdict_word=VERDICTS.__getitem__,
        shorten=_shorten,
    )
    return environment


def _p_parts(log10_p: float | None) -> tuple[str, int | None]:
    return ("none", None) if log10_p is None else round_sci(log10_p)


def _p_html(log10_p: float | None) -> Any:
    from markupsafe import Markup

    digits, exponent = _p_parts(log10_p)
    if exponent is None:
        return Markup('<span class="num">{}</span>').format(digits)
    power = str(exponent).replace("-", "−")
    lead = "" if digits == "1.0" else f"{digits}\u202f×\u202f"
    return Markup('<span class="num">{}10<sup>{}</sup></span>').format(lead, power)


def _p_svg(log10_p: float | None) -> Any:
    from markupsafe import Markup

    digits, exponent = _p_parts(log10_p)
    if exponent is None:
        return digits
    power = str(exponent).replace("-", "−")
    lead = "" if digits == "1.0" else f"{digits} × "
    return Markup('{}10<tspan class="sup" dy="-5">{}</tspan>').format(lead, power)


def _p_plain(log10_p: float | None) -> str:
    digits, exponent = _p_parts(log10_p)
    if log10_p is None:
        return "no p-value"
    return f"p = {digits}" + ("" if exponent is None else f" × 10{superscript(exponent)}")


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes >= 2 else f"{seconds:.0f} s"


def _shorten(text: str, most: int) -> str:
    """Cut the middle: a path tells by its end, a name by its beginning."""
    head = most // 3
    return text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"
