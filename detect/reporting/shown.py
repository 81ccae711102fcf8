"""The one place where a page's numbers get their form: text, and markup with the exact value.

In the page a number stands as `<data value="-123.4" data-of="log10_p" data-scale="log10">`: the
exact value, the field of the JSON that holds it (or an expression over fields), and whether the
text shows 10 to the power of it. A template prints `Shown` and `Phrase` by their
`__html__`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Final, final

from detect.reporting.sourced import derived, source_of
from detect.reporting.words import odds_parts, plain, round_sci, superscript
from detect.reporting.words import percent as percent_text

__all__ = [
    "Phrase",
    "Shown",
    "Words",
    "count",
    "decades",
    "digits",
    "exact",
    "large",
    "literal",
    "log10_number",
    "odds",
    "p_value",
    "percent",
    "probability",
    "ratio_of",
    "rough",
    "say",
    "seconds",
    "whole_percent",
]

_TIMES_HTML: Final = "\u202f×\u202f"
_MOST: Final = 1e9


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """One number as the page writes it.

    Attributes:
        text: without markup.
        value: the exact value, as JSON writes it.
        source: the field that holds the value, or how to compute it from fields.
        is_log10: whether the text shows 10 to the power of the value.
        power: digits and exponent, where the text is digits x 10^exponent.
        is_json: whether the text is the JSON of a list or an object, which a line may break.
    """

    text: str
    value: str
    source: str
    is_log10: bool = False
    power: tuple[str, int] | None = None
    is_json: bool = False

    def __str__(self) -> str:
        """Return the text without markup."""
        return self.text

    def __html__(self) -> str:
        """Return the markup; templates print it unescaped."""
        inner = escape(self.text)
        if self.power:
            lead, exponent = _lead(self.power, _TIMES_HTML)
            inner = f"{lead}10<sup>{exponent}</sup>"
        scale = ' data-scale="log10"' if self.is_log10 else ""
        return (
            f'<data class="{"json" if self.is_json else "num"}" value="{escape(self.value)}" '
            f'data-of="{escape(self.source)}"{scale}>{inner}</data>'
        )

    @property
    def svg(self) -> SvgNumber:
        """The same for an SVG text, which knows no `data` element."""
        return SvgNumber(self)


@final
@dataclass(frozen=True, slots=True)
class SvgNumber:
    """A number as a `tspan`."""

    shown: Shown

    def __html__(self) -> str:
        """Return the markup."""
        inner = escape(self.shown.text)
        if self.shown.power:
            lead, exponent = _lead(self.shown.power, " × ")
            inner = f'{lead}10<tspan class="sup" dy="-5">{exponent}</tspan>'
        scale = ' data-scale="log10"' if self.shown.is_log10 else ""
        return (
            f'<tspan data-value="{escape(self.shown.value)}" '
            f'data-of="{escape(self.shown.source)}"{scale}>{inner}</tspan>'
        )


def _lead(power: tuple[str, int], times: str) -> tuple[str, str]:
    digits, exponent = power
    return "" if digits == "1.0" else f"{digits}{times}", str(exponent).replace("-", "−")


@final
@dataclass(frozen=True, slots=True)
class Phrase:
    """Text with numbers in it."""

    parts: tuple[str | Shown, ...]

    def __str__(self) -> str:
        """Return the text without markup."""
        return "".join(map(str, self.parts))

    def __html__(self) -> str:
        """Return the markup; plain parts are escaped."""
        return "".join(
            escape(part) if isinstance(part, str) else part.__html__() for part in self.parts
        )


Words = str | Phrase | Shown


def say(template: str, *values: Words) -> Phrase:
    """Put numbers and phrases into a sentence.

    Args:
        template: fixed text with "{}" for each value; never text from a result.
        values: what stands there.

    Returns:
        The sentence.
    """
    fixed = template.split("{}")
    parts: list[str | Shown] = [fixed[0]]
    for value, after in zip(values, fixed[1:], strict=True):
        parts += value.parts if isinstance(value, Phrase) else (value,)
        parts.append(after)
    return Phrase(tuple(part for part in parts if part != ""))


def _shown(number: float, text: str, **more: object) -> Shown:
    value = repr(int(number)) if isinstance(number, int) else repr(float(number))
    return Shown(text, value, source_of(number), **more)  # type: ignore[arg-type]


def p_value(log10_p: float | None) -> Words:
    """Write a p-value that the result gives by its log10; None is "none"."""
    if log10_p is None:
        return "none"
    text, exponent = round_sci(log10_p)
    if exponent is None:
        return _shown(log10_p, text, is_log10=True)
    lead = "" if text == "1.0" else f"{text} × "
    plain_text = f"{lead}10{superscript(exponent)}"
    return _shown(log10_p, plain_text, is_log10=True, power=(text, exponent))


def probability(value: float) -> Shown:
    """Write a p-value or level that the result gives as it is, above 0, like `p_value`."""
    text, exponent = round_sci(math.log10(value))
    if exponent is None:
        return _shown(value, text)
    lead = "" if text == "1.0" else f"{text} × "
    return _shown(value, f"{lead}10{superscript(exponent)}", power=(text, exponent))


def log10_number(log10_value: float) -> Shown:
    """Write any positive number that the result gives by its log10."""
    if abs(log10_value) <= 3.0:
        return _shown(log10_value, plain(log10_value), is_log10=True)
    shown = p_value(log10_value)
    assert isinstance(shown, Shown)
    return shown


def odds(log10_p: float | None) -> Words:
    """Say how often the null hypothesis alone gives evidence at least this strong."""
    if log10_p is None:
        return "at an unknown rate"
    before, text, after, is_chance = odds_parts(log10_p)
    source = source_of(log10_p)
    number = log10_p if is_chance else derived(-log10_p, f"-{source}")
    return say(f"{before}{{}}{after}", _shown(number, text, is_log10=True))


def count(number: float) -> Shown:
    """Write a count with thousands marked."""
    return _shown(number, f"{number:,.0f}")


def large(number: float | None) -> Words:
    """Write a count to three digits; beyond reach in words."""
    if number is None or number > _MOST:
        return "more than 10⁹"
    return _shown(number, f"{float(f'{number:.3g}'):,.0f}")


def rough(number: float) -> Shown:
    """Write a size to two digits."""
    return _shown(number, f"{float(f'{number:.2g}'):,g}")


def decades(number: float) -> Shown:
    """Write decades of p-value to two digits."""
    return _shown(number, f"{number:#.2g}".rstrip("."))


def digits(number: float) -> Shown:
    """Write a number to three digits."""
    return _shown(number, f"{number:.3g}".replace("e-0", "e-"))


def exact(number: float) -> Shown:
    """Write a whole number as it is, any other to six digits."""
    return _shown(number, f"{number:d}" if isinstance(number, int) else f"{number:.6g}")


def literal(number: float) -> Shown:
    """Write a number with all its digits, to be copied."""
    return _shown(number, repr(int(number)) if isinstance(number, int) else repr(float(number)))


def percent(share: float) -> Shown:
    """Write a share as a percentage of three digits."""
    return _shown(share, percent_text(share))


def whole_percent(share: float) -> Shown:
    """Write a share as a whole percentage."""
    return _shown(share, f"{100 * share:.0f}%")


def seconds(number: float) -> Shown:
    """Write a time."""
    minutes, rest = divmod(round(number), 60)
    if number < 10:
        text = f"{number:.2g} s"
    else:
        text = f"{minutes} min {rest} s" if minutes >= 2 else f"{number:.0f} s"
    return _shown(number, text)


def ratio_of(over: float, under: float) -> float:
    """Divide two numbers of the result; the quotient says of which."""
    return derived(over / under, f"{source_of(over)} / {source_of(under)}")
