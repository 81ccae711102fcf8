"""Print the tables of docs/inheritance.md: `python -m benchmarks.inheritance.tables`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from benchmarks.record import RESULTS

__all__ = ["markdown"]

_TEXT: Final = {
    "published": "published",
    "ours": "ours",
    "ours, contexts counted": "+ counts",
    "ours, public base": "+ base",
    "ours, contexts counted, public base": "+ both",
}
_WEIGHTS: Final = {
    "published (argmax)": "published",
    "ours, no reference": "ours alone",
    "ours, clean base": "ours, clean base",
}
_ON_THE_SAME_ANSWERS: Final = ("published, by text", "ours, by text")
_REPORTED: Final = {"ours, no reference": "ours, reported", "ours, public base": "+ base"}
_LOGS: Final = {"ours, no reference": "ours alone", "ours, public base": "ours, less the base"}


def markdown(rows: dict[str, Any], nulls: dict[str, Any]) -> str:
    """Write all tables.

    Args:
        rows: of the results, by name.
        nulls: what innocent models gave under fresh keys, by method.

    Returns:
        Markdown.
    """
    shown = {name: row for name, row in rows.items() if ", null" not in name}
    by_weights = {name: row for name, row in shown.items() if "weights" in row}
    marked = {name: row for name, row in shown.items() if "marked_texts" in row}
    # Of these few the innocent ones are shown as well.
    reported = {name: row for name, row in rows.items() if "reported" in row}
    logs = {name: row for name, row in rows.items() if "counterfactuals" in row}
    return "\n\n".join(
        [
            _text(shown),
            _by_weights(by_weights),
            _marked(marked),
            _by_reports(reported),
            _by_logs(logs),
            _nulls(nulls),
        ]
    )


def _text(rows: dict[str, Any]) -> str:
    head = ["student", *_TEXT.values(), "times fewer", "watch stops", "expected"]
    return _table(head, [_text_line(name, row) for name, row in rows.items()])


def _text_line(name: str, row: dict[str, Any]) -> list[str]:
    found = row["text"]
    # The one that knows most, also where it is not the best.
    ours = [method for method in _TEXT if method in found][-1]
    planned = row.get("planned", {}).get("expected_answers")
    return [
        name,
        *(_log10_p(found, method) for method in _TEXT),
        _ratio(found[ours]["z"], found["published"]["z"]),
        "" if row["answers_until"] is None else str(row["answers_until"]),
        "" if planned is None else f"{planned:,.0f}",
    ]


def _by_weights(rows: dict[str, Any]) -> str:
    head = [
        "student",
        *_WEIGHTS.values(),
        "published, marked texts",
        "same texts",
        "marked",
        "alone",
    ]
    return _table(head, [_weights_line(name, row) for name, row in rows.items()])


def _weights_line(name: str, row: dict[str, Any]) -> list[str]:
    found, marked = row["weights"], row.get("weights_marked_texts", {})
    clean = found.get("ours, clean base", {}).get("z", 0.0)
    alone = found["ours, no reference"]["z"]
    published = found.get("published (argmax)", {}).get("z", 0.0)
    on_marked = marked.get("published (argmax)", {}).get("z", 0.0)
    return [
        name,
        *(_log10_p(found, method) for method in _WEIGHTS),
        _log10_p(marked, "published (argmax)"),
        _ratio(clean, published),
        _ratio(clean, on_marked),
        _ratio(alone, published),
    ]


def _marked(rows: dict[str, Any]) -> str:
    head = ["student", "published", "ours", "published, known data", "ours, known data"]
    return _table(head, [_marked_line(name, row) for name, row in rows.items()])


def _marked_line(name: str, row: dict[str, Any]) -> list[str]:
    known = row.get("known_texts", {})
    return [
        name,
        _log10_p(row["weights_marked_texts"], "published (argmax)"),
        _log10_p(row["marked_texts"], "ours, clean base"),
        _log10_p(known, "published (argmax)"),
        _log10_p(known, "ours, clean base"),
    ]


def _by_reports(rows: dict[str, Any]) -> str:
    head = ["student", *_ON_THE_SAME_ANSWERS, *_REPORTED.values(), "times fewer"]
    return _table(head, [_reports_line(name, row) for name, row in rows.items()])


def _reports_line(name: str, row: dict[str, Any]) -> list[str]:
    text, found = row["text"], row["reported"]
    best = [method for method in _TEXT if method in text][-1]
    ours = [method for method in _REPORTED if method in found][-1]
    return [
        name,
        _log10_p(text, "published"),
        _log10_p(text, best),
        *(_log10_p(found, method) for method in _REPORTED),
        _ratio(found[ours]["z"], text[best]["z"]),
    ]


def _by_logs(rows: dict[str, Any]) -> str:
    head = ["student", "counterfactuals", "answers", "others", *_LOGS.values(), "lowest possible"]
    return _table(
        head,
        [
            _logs_line(name, kind, found)
            for name, row in rows.items()
            for kind, found in row["counterfactuals"].items()
        ],
    )


def _logs_line(name: str, kind: str, found: dict[str, Any]) -> list[str]:
    return [
        name,
        kind,
        str(found["n_answers"]),
        str(found["n_others"]),
        *(_log10_p(found, method) for method in _LOGS),
        f"{found['ours, no reference']['lowest_log10_p']:.1f}",
    ]


def _nulls(nulls: dict[str, Any]) -> str:
    head = ["test", "models", "p-values", "smallest", "uniformity", "<= 1e-2", "<= 1e-3", "<= 1e-4"]
    return _table(head, [_null_line(name, found) for name, found in nulls.items()])


def _null_line(name: str, found: dict[str, Any]) -> list[str]:
    return [
        name,
        str(found["n_models"]),
        f"{found['n_p_values']:,}",
        f"{found['smallest']:.1g}",
        f"{found['uniformity_p_value']:.2g}",
        *(f"{level['hits']} ({level['binomial_p_value']:.2g})" for level in found["levels"]),
    ]


def _log10_p(found: dict[str, Any], method: str) -> str:
    return f"{found[method]['log10_p']:.1f}" if method in found else ""


def _ratio(ours: float, published: float) -> str:
    """Tokens or positions that the published test needs for one of ours; only where both see."""
    return f"{(ours / published) ** 2:.1f}" if min(ours, published) > 1 else ""


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


@click.command()
def main() -> None:
    """Print the tables of the committed results."""
    payload = json.loads((RESULTS / "inheritance.json").read_text(encoding="utf-8"))
    measured = payload["measured"]
    click.echo(markdown(measured["rows"], measured["nulls"]))


if __name__ == "__main__":
    main()
