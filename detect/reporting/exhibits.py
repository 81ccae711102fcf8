"""What the pages of all kinds share: figures beside a p-value, exhibits, a scheme's name."""

from __future__ import annotations

from dataclasses import dataclass

from detect.reporting.fields import Fields
from detect.reporting.shown import Words, say

__all__ = ["Exhibit", "Figure", "scheme_name"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number beside the p-value."""

    label: str
    value: Words
    note: Words


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What one kind of result shows beyond the common finding: a template and what it reads.

    `headline` and `sentence`, where given, stand above the finding in place of the general words.
    """

    template: str
    figures: tuple[Figure, ...]
    view: object
    headline: Words | None = None
    sentence: Words | None = None


def scheme_name(fields: Fields) -> Words:
    """Read the scheme, a name or an object with a name and parameters.

    Args:
        fields: the result.

    Returns:
        For example "dual-gumbel (alpha 0.1)".
    """
    if not isinstance(fields.raw("scheme"), dict):
        return fields.text("scheme")
    scheme = fields.inner("scheme")
    parameters = scheme.facts(without=frozenset({"name"}))
    if not parameters:
        return scheme.text("name")
    flat = [words for name, value in parameters for words in (name, value)]
    return say(f"{{}} ({', '.join(['{} {}'] * len(parameters))})", scheme.text("name"), *flat)
