"""The template engine of the pages: escaping on, and the filters that write numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from detect.reporting.words import ROLES, VERDICTS, percent, plain, round_sci, superscript
from watermark.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render"]


def render(template: str, view: object) -> str:
    """Fill in a template.

    Args:
        template: its file name.
        view: what it reads as `page`; every string in it is escaped.

    Returns:
        A complete HTML document, to be written as UTF-8; equal views give equal bytes.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    return _environment().get_template(template).render(page=view)


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
        share=percent,
        number=_number_html,
        digits=lambda number: f"{number:.3g}".replace("e-0", "e-"),
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


def _number_html(log10_value: float) -> Any:
    """Write any positive number; a p-value's filter knows numbers up to 1 only."""
    return plain(log10_value) if abs(log10_value) <= 3.0 else _p_html(log10_value)


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
