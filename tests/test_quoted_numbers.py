"""The numbers that README and docs quote are those of `benchmarks/results`; the JSON wins.

Each quotation is worded here from its JSON and must stand, word for word, where it is quoted. A row
of docs/results.md that no quotation guards fails, so that a new row brings one along.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cost_table import table as growth_table
from benchmarks.inheritance.tables import markdown as inheritance_tables
from tests.quotations import QUOTES, README

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@cache
def _measured(name: str) -> Any:
    """Read a result; of a folder, all of its files by their names."""
    if (RESULTS / name).is_dir():
        return {path.stem: _measured(f"{name}/{path.stem}") for path in (RESULTS / name).iterdir()}
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["measured"]


def _rows() -> list[tuple[str, str]]:
    """Rows of docs/results.md: the result's name, and the row."""
    lines = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n")
    linked = [(re.search(r"/results/([\w/]+?)(?:\.json)?\)", line), line) for line in lines]
    return [(found[1], line) for found, line in linked if found and line.startswith("|")]


@pytest.mark.parametrize("name", QUOTES)
def test_what_is_quoted_is_what_was_measured(name: str) -> None:
    rows = [row for file, row in _rows() if file == name]
    for words in QUOTES[name]:
        said = words(_measured(name))
        assert any(said in row for row in rows), said


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[1][2:50])
def test_every_row_is_guarded(row: tuple[str, str]) -> None:
    name, line = row
    assert any(words(_measured(name)) in line for words in QUOTES.get(name, ()))


@pytest.mark.parametrize("name", README)
def test_readme_quotes_what_was_measured(name: str) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for words in README[name]:
        said = words(_measured(name))
        for line in said.split("\n"):
            assert line in page


def test_tables_are_those_that_their_benchmarks_print() -> None:
    measured = _measured("inheritance")
    tables = {
        "scale": growth_table(_measured("cost_growth")),
        "inheritance": inheritance_tables(measured["rows"], measured["nulls"]),
    }
    for name, text in tables.items():
        page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        missing = [row for row in text.split("\n") if row.startswith("|") and row not in page]
        assert not missing
