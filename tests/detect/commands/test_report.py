from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from detect.commands.report import report
from detect.reporting import pdf
from tests.detect.reporting.payloads import make_text
from watermark.errors import BrowserError, ConfigError, DocumentError, ResultError


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "scan.json"
    path.write_text(json.dumps(make_text()))
    return path


def run(*arguments: object) -> str:
    answer = CliRunner().invoke(report, [str(a) for a in arguments], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_a_page_stands_beside_its_result(result: Path) -> None:
    assert run(result) == f"wrote {result.with_suffix('.html')}\n"
    assert result.with_suffix(".html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("named", [False, True])
def test_a_pdf_is_asked_for_by_switch_or_by_name(
    named: bool, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "find_browser", lambda given: f"browser {given}")
    monkeypatch.setattr(pdf, "print_pdf", lambda page, browser: f"%PDF {browser}".encode())
    target = result.with_suffix(".pdf")
    run(result, *(["-o", target] if named else ["--pdf", "--browser", "b"]))
    assert target.read_bytes() == (b"%PDF browser None" if named else b"%PDF browser b")


def test_what_cannot_be_printed_leaves_no_file(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pdf, "BROWSERS", ("chromium",))
    with pytest.raises(BrowserError):
        run(result, "--pdf")
    assert not result.with_suffix(".pdf").exists()


def test_wrong_use_is_refused(result: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(report, [str(result), "--browser", "b"])
    assert "--browser goes with --pdf" in answer.output
    with pytest.raises(ConfigError, match="overwrite"):
        run(result, "-o", result)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ResultError, match="JSON object"):
        run(tmp_path / "list.json")
    with pytest.raises(DocumentError):
        run(tmp_path / "missing.json")
