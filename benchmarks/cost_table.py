"""Print the table of docs/scale.md on how cost grows: `python -m benchmarks.cost_table`."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from benchmarks.record import RESULTS

__all__ = ["table"]

_GROWS: Final = {"width": "context width"}


def table(measured: dict[str, Any]) -> str:
    """Write the table.

    Args:
        measured: of `benchmarks/results/cost_growth.json`.

    Returns:
        Markdown, without a line break at its end.
    """
    lines = ["| grows | work | from, to | takes | slope |", "|---|---|---|---|---|"]
    for grows, found in measured.items():
        if not isinstance(found, dict):
            continue
        sizes = found["sizes"]
        for work, row in found["series"].items():
            first, last = (_significant(1e3 * row["seconds"][i]) for i in (0, -1))
            lines.append(
                f"| {_GROWS.get(grows, grows)} | {work} | {sizes[0]:,} to {sizes[-1]:,} "
                f"| {first} to {last} ms | {row['slope']:.2f} |"
            )
    return "\n".join(lines)


def _significant(number: float) -> str:
    """Round to three digits, with no exponent: 0.817, 13.7, 1,080."""
    rounded = float(f"{number:.3g}")
    # Whole where three digits reach the units; the format g would write 1080 as 1.08e+03.
    return f"{rounded:,.0f}" if rounded >= 100 else f"{number:#.3g}".removesuffix(".")


@click.command()
def main() -> None:
    """Print the table."""
    payload = json.loads((RESULTS / "cost_growth.json").read_text(encoding="utf-8"))
    click.echo(table(payload["measured"]))


if __name__ == "__main__":
    main()
