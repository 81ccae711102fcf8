"""JSON values from outside, read field by field, so that an error names the path of the field."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

from detect.reporting.shown import Phrase, Shown, Words, exact, say
from detect.reporting.sourced import Sourced, SourcedCount, derived
from detect.reporting.words import visible
from watermark.errors import ResultError

__all__ = ["Fields"]

# A fact is one line; what is longer is in the JSON.
_LONGEST: Final = 1000


@final
class Fields:
    """One JSON object, read field by field; an error names the path of the field."""

    __slots__ = ("_path", "_payload")

    def __init__(self, payload: object, path: str = "") -> None:
        if not isinstance(payload, Mapping):
            where = f"result field {path!r}" if path else "the result"
            raise ResultError(f"{where} must be an object, got {type(payload).__name__}")
        self._payload: Mapping[str, Any] = payload
        self._path = path

    def path(self, name: str) -> str:
        """Return the field's full path, for example "controls[1].log10_p"."""
        if not (name.isascii() and name.replace("_", "a").isalnum()):
            return f"{self._path}[{json.dumps(name)}]"
        return f"{self._path}.{name}" if self._path else name

    def refusal(self, name: str, expected: str) -> ResultError:
        """Return the error for a field that is missing or is not what was expected."""
        if name not in self._payload:
            return ResultError(
                f"the result lacks the field {self.path(name)!r} ({expected}); "
                "is it the JSON that heirmark wrote?"
            )
        got = self._payload[name]
        shown = repr(got) if isinstance(got, (int, float, bool)) else type(got).__name__
        return ResultError(f"result field {self.path(name)!r} must be {expected}, got {shown}")

    def has(self, name: str) -> bool:
        """Say whether the field is there and not null."""
        return self._payload.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._payload)

    def raw(self, name: str) -> Any:
        """Return the field unchecked, None where it is missing."""
        return self._payload.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string field, made safe to display; the default replaces a missing one."""
        if default is not None and not self.has(name):
            return default
        value = self._payload.get(name)
        if not isinstance(value, str):
            raise self.refusal(name, "a string")
        return visible(value)

    def number(self, name: str) -> float:
        """Return a finite number, with its source."""
        value = self._payload.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(name, "a number")
        # Of an integer that no double holds too.
        if not -sys.float_info.max <= value <= sys.float_info.max:
            raise self.refusal(name, "a finite number")
        return Sourced(value, self.path(name))

    def maybe_number(self, name: str) -> float | None:
        """Return a finite number, None where the field is missing or null."""
        return self.number(name) if self.has(name) else None

    def count(self, name: str) -> int:
        """Return an integer >= 0, with its source."""
        value = self._payload.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise self.refusal(name, "an integer >= 0 and below 2^63")
        return SourcedCount(value, self.path(name))

    def maybe_count(self, name: str) -> int | None:
        """Return an integer >= 0, None where the field is missing or null."""
        return self.count(name) if self.has(name) else None

    def choice(self, name: str, choices: Mapping[str, str]) -> str:
        """Return a string that is one of the choices' keys."""
        value = self._payload.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self.refusal(name, "one of " + ", ".join(choices))
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list field, empty where it is missing or null."""
        value = self._payload.get(name)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            raise self.refusal(name, "a list")
        return list(value)

    def objects(self, name: str) -> list[Fields]:
        """Return the objects of a list field."""
        return [
            Fields(item, f"{self.path(name)}[{index}]")
            for index, item in enumerate(self.items(name))
        ]

    def inner(self, name: str) -> Fields:
        """Return an object field, empty where it is missing or null."""
        value = self._payload.get(name)
        return Fields({} if value is None else value, self.path(name))

    def sentences(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise self.refusal(name, "a list of strings")
        return tuple(visible(value) for value in values)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        indexed = Fields(
            {f"{index}": value for index, value in enumerate(self.items(name))}, self.path(name)
        )
        return tuple(indexed.number(index) for index in indexed)

    def facts(self, *, without: frozenset[str] = frozenset()) -> tuple[tuple[str, Words], ...]:
        """Return the remaining fields as (label, value) lines; objects and lists as JSON."""
        return tuple(
            (_label(visible(str(name))), _one_line(value, self.path(str(name))))
            for name, value in self._payload.items()
            if name not in without and value is not None
        )


def _label(name: str) -> str:
    if name == "n_powered":
        return "tokens needed to rule a mark out"
    words = name.replace("_", " ")
    return f"number of {words[2:]}" if words.startswith("n ") else words


def _one_line(value: Any, path: str) -> Words:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return exact(SourcedCount(value, path))
    if isinstance(value, float) and math.isfinite(value):
        return exact(Sourced(value, path))
    if _holds_numbers(value):
        return _joined(Fields(value, path).facts())
    text = visible(json.dumps(value, ensure_ascii=False, default=str))
    if len(text) > _LONGEST and isinstance(value, (dict, list)):
        return say("{} entries, in the JSON result", exact(derived(len(value), f"len({path})")))
    return Shown(text, text, path, is_json=True)


def _holds_numbers(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(inner, int | float) for inner in value.values())
    )


def _joined(facts: tuple[tuple[str, Words], ...]) -> Phrase:
    parts: list[Words] = []
    for label, value in facts:
        parts += [f"{', ' if parts else ''}{label} ", value]
    return say("{}" * len(parts), *parts)
