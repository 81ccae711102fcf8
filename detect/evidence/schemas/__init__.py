"""The published JSON Schemas (draft 2020-12) of results, manifests and statements."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

from watermark.errors import EvidenceError
from watermark.extras import import_extra

__all__ = ["SCHEMAS", "schema", "validate"]

SCHEMAS: Final = ("result-1", "bundle-1", "statement-1")
_MOST_SHOWN: Final = 120


@cache
def schema(name: str) -> Any:
    """Return a schema.

    Args:
        name: of `SCHEMAS`.

    Returns:
        The JSON Schema.
    """
    text = (files(__name__) / f"{name}.schema.json").read_text(encoding="utf-8")
    return json.loads(text)


@cache
def _validator(name: str) -> Any:
    return import_extra("jsonschema", "evidence").Draft202012Validator(schema(name))


def validate(payload: Any, name: str, what: str) -> None:
    """Check JSON values against a schema.

    Args:
        payload: the values.
        name: of the schema.
        what: what they are, for the error.

    Raises:
        EvidenceError: they do not fit; names the first place.
    """
    error = min(_validator(name).iter_errors(payload), key=_rank, default=None)
    if error is not None:
        deepest = import_extra("jsonschema.exceptions", "evidence").best_match([error])
        place = "/".join(map(str, deepest.absolute_path)) or "its whole"
        message = str(deepest.message)
        shown = message if len(message) <= _MOST_SHOWN else message[:_MOST_SHOWN] + " ..."
        raise EvidenceError(f"{what} does not fit the schema {name}: {place}: {shown}")


def _rank(error: Any) -> list[str]:
    return [str(part) for part in error.absolute_path]
