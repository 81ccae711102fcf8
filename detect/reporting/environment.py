"""The template engine of the pages: escaping on, and the filters that write numbers (`shown`)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from detect.reporting import shown
from detect.reporting.words import ROLES, VERDICTS, percent
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


# Its templates take longer to compile than to fill in.
@cache
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
        # Numbers of the result: each says which field holds it, else it is refused.
        p=shown.p_value,
        probability=shown.probability,
        p_equals=_p_equals,
        number=shown.log10_number,
        count=shown.count,
        decades=shown.decades,
        sizes=shown.rough,
        percent=shown.whole_percent,
        share=shown.percent,
        digits=shown.digits,
        seconds=shown.seconds,
        svg=_svg,
        # Marks of an axis, and places in a drawing: no numbers of the result.
        minus=lambda number: str(number).replace("-", "−"),
        tick_count=lambda number: f"{number:,.0f}",
        tick_share=percent,
        plain=str,
        role=lambda role: ROLES.get(role, role),
        verdict_word=VERDICTS.__getitem__,
        shorten=_shorten,
    )
    return environment


def _p_equals(log10_p: float | None) -> shown.Words:
    return "no p-value" if log10_p is None else shown.say("p = {}", shown.p_value(log10_p))


def _svg(words: shown.Words) -> object:
    return words.svg if isinstance(words, shown.Shown) else words


def _shorten(text: str, most: int) -> str:
    """Cut the middle: a path tells by its end, a name by its beginning."""
    head = most // 3
    return text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"
