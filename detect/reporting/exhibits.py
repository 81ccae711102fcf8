"""What the pages of all kinds share: figures beside a p-value, exhibits, a scheme's name."""

from __future__ import annotations

from dataclasses import dataclass

from detect.reporting.fields import Fields

__all__ = ["Exhibit", "Figure", "scheme_name"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number beside the p-value: in words, or by its log10 where that is given."""

    label: str
    value: str
    note: str
    log10: float | None = None


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What one kind of result shows beyond the common finding: a template and what it reads."""

    template: str
    figures: tuple[Figure, ...]
    view: object


def scheme_name(fields: Fields) -> str:
    """Read the scheme, a name or an object with a name and parameters.

    Args:
        fields: the result.

    Returns:
        For example "dual-gumbel (alpha 0.1)".
    """
    if not isinstance(fields.raw("scheme"), dict):
        return fields.text("scheme")
    scheme = fields.inner("scheme")
    parameters = [f"{name} {value}" for name, value in scheme.facts(without=frozenset({"name"}))]
    return scheme.text("name") + (f" ({', '.join(parameters)})" if parameters else "")
