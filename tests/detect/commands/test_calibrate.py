"""`heirmark calibrate` through click: summary, JSON, picture, no secret anywhere."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from detect.commands.calibrate import calibrate
from detect.reporting.page import render_report
from tests.conftest import PARAGRAPH
from tests.detect.reporting.numbers import check_numbers
from watermark.errors import DocumentError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

KEY = SecretKey(bytes(range(32)))


def _run(folder: Path, tokenizer_folder: Path, *arguments: str | Path) -> Result:
    if not (folder / "k.json").exists():
        save_key(KEY, folder / "k.json")
    common = [folder / "k.json", "--tokenizer", tokenizer_folder]
    return CliRunner().invoke(calibrate, [*map(str, arguments), "--key", *map(str, common)])


def _corpus(folder: Path, text: str) -> Path:
    path = folder / "clean.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n")
    return path


def test_rates_json_and_picture(tmp_path: Path, tokenizer_folder: Path) -> None:
    corpus = _corpus(tmp_path, PARAGRAPH * 6)
    page, result = tmp_path / "c.html", tmp_path / "c.json"
    done = _run(tmp_path, tokenizer_folder, corpus, "--keys", "50", "--length", "60",
                "--picture", page, "--output", result)  # fmt: skip
    assert done.exit_code == 0, done.output
    payload = json.loads(result.read_text())
    check_numbers(render_report(payload), payload)
    assert payload["kind"] == "calibration"
    assert payload["key_id"] == KEY.key_id
    # The paragraph comes six times: later pieces are templates of the first.
    assert payload["n_pieces"]["templated"] > payload["n_pieces"].get("plain", 0)
    assert payload["this_key"]["n_shared"] > payload["this_key"]["n_pooled"]
    assert "fresh     all at 0.1" in done.stdout
    assert page.read_text().lower().startswith("<!doctype html>")
    secret = json.loads((tmp_path / "k.json").read_text())["secret"]
    assert secret not in done.stdout + page.read_text() + result.read_text()


def test_the_same_seed_gives_the_same_result(tmp_path: Path, tokenizer_folder: Path) -> None:
    corpus = _corpus(tmp_path, PARAGRAPH)
    runs = [
        _run(tmp_path, tokenizer_folder, corpus, "--json", "--keys", "9", "--seed", seed).stdout
        for seed in ("1", "1", "2")
    ]
    assert runs[0] == runs[1] != runs[2]


def test_an_empty_corpus_is_an_error(tmp_path: Path, tokenizer_folder: Path) -> None:
    done = _run(tmp_path, tokenizer_folder, _corpus(tmp_path, "Hi."))
    assert isinstance(done.exception, DocumentError)
