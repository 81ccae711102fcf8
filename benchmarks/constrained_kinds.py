"""What a model is asked for under a grammar: the request's fields, and what a valid answer is."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, final

__all__ = ["KINDS", "SAMPLINGS", "Kind"]

SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 50},
)


@final
class Kind(NamedTuple):
    """A kind of constrained request.

    Attributes:
        prompt: what the user says; "{}" stands for a topic.
        fields: of the request.
        schema: JSON schema of the answer, or of a tool call's arguments by the tool's name.
        pattern: what the answer must match as a whole, where it is no JSON.
        is_tool: True if the answer is a tool call.
    """

    prompt: str
    fields: dict[str, Any]
    schema: dict[str, Any] = {}  # noqa: RUF012
    pattern: re.Pattern[str] | None = None
    is_tool: bool = False


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest}


def _integer(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _json(prompt: str, schema: dict[str, Any]) -> Kind:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return Kind(prompt, {"response_format": wanted}, schema)


def _pattern(prompt: str, pattern: str, **structured: Any) -> Kind:
    return Kind(prompt, {"structured_outputs": structured}, pattern=re.compile(pattern))


_WEATHER = _object(
    city=_text(24),
    unit={"type": "string", "enum": ["celsius", "fahrenheit"]},
    days=_integer(1, 7),
)
_MAIL = _object(to=_text(24), subject=_text(40), urgent={"type": "boolean"})


def _tool(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    # Without "strict" vLLM lets any JSON stand for the arguments.
    described = {"name": name, "parameters": schema, "strict": True}
    return {"type": "function", "function": described}


_WEATHER_TOOL, _MAIL_TOOL = _tool("get_weather", _WEATHER), _tool("send_mail", _MAIL)
_SUM = "[0-9]{1,3}( [+*-] [0-9]{1,3}){1,5}"

KINDS: dict[str, Kind] = {
    "json: person": _json(
        "Invent a person who lives near {}, as JSON.",
        _object(
            name=_text(24),
            age=_integer(0, 120),
            job={"type": "string", "enum": ["baker", "teacher", "pilot", "nurse"]},
            motto=_text(60),
            married={"type": "boolean"},
        ),
    ),
    "json: list of objects": _json(
        "List what is sold at {}, as JSON.",
        _object(
            shop=_text(30),
            goods={
                "type": "array",
                "minItems": 1,
                "maxItems": 3,
                "items": _object(item=_text(20), quantity=_integer(1, 99)),
            },
        ),
    ),
    "json: pattern and choice of types": _json(
        "Describe an event at {}, as JSON.",
        _object(
            date={"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
            title=_text(50),
            place={"anyOf": [_text(20), {"type": "null"}]},
            tags={"type": "array", "maxItems": 3, "items": _text(12)},
        ),
    ),
    "regex": _pattern(
        "Give me a ticket number for {}.",
        "[A-Z][a-z]{2,8}-[0-9]{4}",
        regex="[A-Z][a-z]{2,8}-[0-9]{4}",
    ),
    "choice": _pattern(
        "How do you feel about {}?",
        "very good|good|neither good nor bad|bad|very bad",
        choice=["very good", "good", "neither good nor bad", "bad", "very bad"],
    ),
    "grammar": _pattern(
        "Write down a sum about {}.",
        _SUM,
        grammar=(
            'root ::= number (" " operator " " number){1,5}\n'
            "number ::= [0-9]{1,3}\n"
            "operator ::= [+*-]\n"
        ),
    ),
    "tool: named": Kind(
        "What will the weather be at {}?",
        {
            "tools": [_WEATHER_TOOL],
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        },
        {"get_weather": _WEATHER},
        is_tool=True,
    ),
    "tool: required": Kind(
        "Write to my friend about {}, or ask for the weather there.",
        {
            "tools": [_WEATHER_TOOL, _MAIL_TOOL],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
        {"get_weather": _WEATHER, "send_mail": _MAIL},
        is_tool=True,
    ),
}
