"""Results against the published schema: they fit it, and it knows every field."""

from __future__ import annotations

from typing import Any

from detect.evidence.schemas import schema, validate


def check_fit(payload: dict[str, Any]) -> None:
    """Fail if a result does not fit, or has a field that the schema does not describe."""
    validate(payload, "result-1", "a result")
    unknown = set(payload) - _fields(payload["kind"])
    assert not unknown, f"describe in result-1.schema.json: {unknown}"


def _fields(kind: str) -> set[str]:
    definitions = schema("result-1")["$defs"]

    def of(part: dict[str, Any]) -> set[str]:
        found = set(part.get("properties", ()))
        if reference := part.get("$ref"):
            found |= of(definitions[reference.rpartition("/")[2]])
        return found.union(*map(of, part.get("allOf", ())))

    return of(definitions[kind]) | {"kind", "schema"}
