"""JSON files that tell a server or a gateway what to do: known fields, and nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from watermark.errors import ConfigError

__all__ = ["read_settings"]


def read_settings(
    path: Path, what: str, form: str, fields: Collection[str], optional: Collection[str]
) -> dict[str, Any]:
    """Read an object of known fields.

    Args:
        path: the file.
        what: what it is, in words: "serving policy".
        form: the value of its field "format".
        fields: all that it may have.
        optional: those of them that it may leave out.

    Returns:
        The object; what its fields hold is not looked at.

    Raises:
        ConfigError: missing, not JSON, of another format, or with other fields.
    """
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the {what} {path} is not JSON: {error}") from None
    if not isinstance(payload, dict) or payload.get("format") != form:
        raise ConfigError(f"{path}: expected a {what} with format {form!r}")
    if unknown := sorted(set(payload) - set(fields)):
        raise ConfigError(f"{path}: unknown fields {', '.join(unknown)}")
    if missing := sorted(set(fields) - set(optional) - set(payload)):
        raise ConfigError(f"{path}: the {what} lacks {', '.join(missing)}")
    return payload
