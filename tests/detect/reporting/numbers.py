"""Checks that every number on a page is in the JSON: an independent reading of both.

Nothing here is the page's own code: sources are resolved, expressions computed and the shown texts
read back as numbers by rules of their own.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

__all__ = ["check_numbers", "resolve", "words"]

VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})
# Marks of axes and legends, and numbering, which say nothing about the result.
FREE_CLASSES = frozenset({"tick", "ordinal", "swatch", "name"})
# The one number of a page that is the same for all results: a control fires at 0.001.
CONSTANTS = frozenset({"0.001"})
# What the fixed words of the pages say in digits.
FIXED = re.compile(
    r"99 of 100 runs|exact, one by one, at 99%|a bet of 1 against|the p-value is 1 over|"
    r"a factor of 10 takes|below 0% and above 100%|more than 10⁹|"
    r"p above 0.01|at a confidence of 95%|[Ss]egment \d+:|lies above 0:"
)


@dataclass
class Stated:
    """A number on a page: its text, exact value, source, and whether 10 ** value is shown."""

    text: str
    value: str
    source: str
    is_log10: bool


@dataclass
class Reader(HTMLParser):
    """Collects stated numbers, and all other text."""

    stated: list[Stated] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    stack: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.loose += [attributes[n] or "" for n in ("aria-label", "alt") if n in attributes]
        self.titles += [attributes["title"] or ""] if "title" in attributes else []
        if tag not in VOID:
            self.stack.append((tag, attributes))
        if "data-of" in attributes:
            value = attributes.get("value") or attributes.get("data-value") or ""
            is_log10 = attributes.get("data-scale") == "log10"
            self.stated.append(Stated("", value, attributes["data-of"] or "", is_log10))
        if self.inside_number and (tag == "sup" or attributes.get("class") == "sup"):
            self.stated[-1].text += "^"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        self.stack.pop()

    @property
    def inside_number(self) -> bool:
        return any("data-of" in attributes for _, attributes in self.stack)

    def handle_data(self, text: str) -> None:
        if self.inside_number:
            self.stated[-1].text += text
            return
        tags = [tag for tag, _ in self.stack]
        classes = {c for _, a in self.stack for c in (a.get("class") or "").split()}
        is_document = any(a.get("class") == "text" and tag == "div" for tag, a in self.stack)
        if not ("style" in tags or "head" in tags or is_document or classes & FREE_CLASSES):
            self.loose.append(text)


OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _n_between(tokens: list[dict[str, Any]], low: float, high: float) -> int:
    values = [t["score"] if t.get("nats") is None else t["nats"] for t in tokens]
    scored = [value for value in values if value is not None]
    lowest = low <= min(scored)  # what lies below the first edge counts in the first row
    return sum((low <= v or lowest) and v < high for v in scored)


FUNCTIONS: dict[str, Any] = {
    "log10": math.log10,
    "exp": math.exp,
    "len": len,
    "min": min,
    "max": max,
    "sum": lambda counts: sum(counts.values()),
    "n_where": lambda rows, name, value: sum(row[name] == value for row in rows),
    "n_between": _n_between,
}


def resolve(source: str, result: dict[str, Any]) -> Any:
    """Compute a source: a path, or an expression over paths."""

    def compute(node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name(id="inf"):
                return math.inf
            case ast.Name():
                return result[node.id]
            case ast.Attribute():
                return compute(node.value)[node.attr]
            case ast.Subscript():
                return compute(node.value)[compute(node.slice)]
            case ast.UnaryOp(op=ast.USub()):
                return -compute(node.operand)
            case ast.BinOp():
                return OPERATORS[type(node.op)](compute(node.left), compute(node.right))
            case ast.Call(func=ast.Name(id=name)):
                return FUNCTIONS[name](*map(compute, node.args))
        raise AssertionError(f"no source: {source}")

    return compute(ast.parse(source, mode="eval").body)


def _is_path(source: str) -> bool:
    return source[0].isalpha() and not re.search(r"[-+*/() ]", re.sub(r"\[\".*?\"\]", "", source))


def _read(text: str) -> tuple[Decimal, Decimal]:
    """Read a number as a person would: its value, and what its last digit stands for."""
    text = re.sub(r"[\u202f\u00a0 ]", "", text).replace("−", "-")
    superscripts = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    text = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "^" + m[0].translate(superscripts), text)
    if match := re.fullmatch(r"(?:([\d.]+)×)?10\^(-?\d+)", text):
        mantissa = match[1] or "1.0"
        power = Decimal(10) ** int(match[2])
        return Decimal(mantissa) * power, _last_digit(mantissa) * power
    if match := re.fullmatch(r"(\d+)of100", text):
        return Decimal(match[1]) / 100, Decimal("0.01")
    if match := re.fullmatch(r"(\d+)min(\d+)s", text):
        return Decimal(60 * int(match[1]) + int(match[2])), Decimal(1)
    scale = Decimal("0.01") if text.endswith("%") else Decimal(1)
    text = text.rstrip("%s").replace(",", "")
    assert re.fullmatch(r"-?\d+(\.\d*)?(e[-+]?\d+)?", text), f"{text!r} is no number"
    mantissa, _, exponent = text.partition("e")
    scale *= Decimal(10) ** int(exponent or 0)
    return Decimal(mantissa) * scale, _last_digit(mantissa) * scale


def _last_digit(text: str) -> Decimal:
    whole, _, decimals = text.lstrip("-").partition(".")
    if decimals:
        return Decimal(1).scaleb(-len(decimals))
    zeros = len(whole) - len(whole.rstrip("0"))
    # Of a number rounded to few digits the zeros stand for nothing.
    return Decimal(10) ** min(zeros, max(len(whole) - 2, 0))


def _check(stated: Stated, result: dict[str, Any]) -> None:
    expected = resolve(stated.source, result)
    if isinstance(expected, (dict, list)):
        assert json.loads(stated.value) == expected, stated
        assert stated.text == stated.value, stated
        return
    assert isinstance(expected, (int, float)), stated
    assert not isinstance(expected, bool), stated
    value = float(stated.value)
    if _is_path(stated.source):
        assert value == expected, (stated, expected)
    else:
        assert math.isclose(value, expected, rel_tol=1e-12, abs_tol=1e-15), (stated, expected)
        has_field = re.search(r"[a-z_]{3,}", re.sub(r"exp\(|min\(|max\(", "", stated.source))
        assert has_field or "exp(" in stated.source or stated.source in CONSTANTS, stated
    shown, last = _read(stated.text)
    meant = Decimal(10) ** Decimal(value) if stated.is_log10 else Decimal(value)
    assert abs(shown - meant) <= last * Decimal("0.5000001"), (stated, meant)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def _check_loose(loose: list[str], result: dict[str, Any]) -> None:
    """Check that text outside of stated numbers has digits only where it quotes the JSON."""
    quotes = {q for text in _strings(result) for q in (text, text.replace("_", " "))}
    with_digits = sorted((q for q in quotes if re.search(r"\d", q)), key=len, reverse=True)
    quoted = re.compile("|".join(map(re.escape, with_digits)) or r"(?!)")
    for text in loose:
        rest = FIXED.sub("", quoted.sub("", text) if any(map(str.isdigit, text)) else text)
        assert not any(map(str.isdigit, rest)), f"a number without a source in {text!r}"


def words(page: str) -> str:
    """Return a page without its tags."""
    return re.sub(r"<[^>]+>", "", page)


def check_numbers(page: str, result: dict[str, Any]) -> set[str]:
    """Check a page against the result that it shows.

    Args:
        page: HTML.
        result: JSON values.

    Returns:
        The sources that the page states.

    Raises:
        AssertionError: a number is not what the JSON holds, has no source, or is not shown right.
    """
    reader = Reader()
    reader.feed(page)
    reader.close()
    for stated in reader.stated:
        _check(stated, result)
    _check_loose(reader.loose, result)
    return {stated.source for stated in reader.stated}
