"""What a terminal may be shown: names from documents and bundles hold what their makers chose."""

from __future__ import annotations

from typing import Any

__all__ = ["plain", "plain_values", "plural"]


def plain(text: str) -> str:
    """Replace what a terminal could obey, line breaks too, by question marks."""
    return "".join(c if c.isprintable() else "?" for c in text)


def plain_values(value: Any) -> Any:
    """Replace it in every string of JSON values, names of fields among them."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain_values(name): plain_values(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(inner) for inner in value]
    return value


def plural(n: int) -> str:
    """Give the ending of a word that is counted."""
    return "" if n == 1 else "s"
