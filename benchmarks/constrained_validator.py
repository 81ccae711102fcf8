"""The part of `benchmarks.constrained` that runs in vLLM's environment, which has jsonschema.

JSON in: pairs of a schema and a text. JSON out: for each pair what is wrong, or an empty string.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema


def _fault(schema: dict[str, Any], text: str) -> str:
    try:
        jsonschema.validate(json.loads(text), schema)
    except ValueError as error:
        return f"not JSON: {error}"
    except jsonschema.ValidationError as error:
        return f"not by the schema: {error.message}"
    return ""


if __name__ == "__main__":
    print(json.dumps([_fault(schema, text) for schema, text in json.load(sys.stdin)]))
