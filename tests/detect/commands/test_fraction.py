"""`heirmark fraction`: lines for people, JSON for machines, errors in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from detect.commands.fraction import fraction
from detect.reporting import render_report
from tests.detect.reporting.numbers import check_numbers, words
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import DocumentError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

KEY = SecretKey(bytes(range(32)))


def _write(path: Path, *, marked: int, plain: int, seed: int) -> Path:
    rows = [
        marked_ids(
            preset("default"), KEY if i < marked else None, 60, vocabulary=380, seed=seed + i
        )
        for i in range(marked + plain)
    ]
    path.write_text("".join(json.dumps({"token_ids": r.tolist()}) + "\n" for r in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_key(KEY, tmp_path / "k.json")
    _write(tmp_path / "reference.jsonl", marked=8, plain=0, seed=50)
    return tmp_path


def _run(folder: Path, tokenizer_folder: Path, corpus: Path, *options: str) -> Result:
    arguments = [
        str(corpus), "--reference", str(folder / "reference.jsonl"), "--key",
        str(folder / "k.json"), "--tokenizer", str(tokenizer_folder), "--decoys", "19", *options,
    ]  # fmt: skip
    return CliRunner().invoke(fraction, arguments)


def test_it_prints_the_share_and_whose_the_verdict_is(folder: Path, tokenizer_folder: Path) -> None:
    corpus = _write(folder / "corpus.jsonl", marked=6, plain=6, seed=0)
    done = _run(folder, tokenizer_folder, corpus)
    assert done.exit_code == 0, done.output
    assert "of the scored tokens (95% interval " in done.output
    assert "by the pooled p-value, not by the interval" in done.output
    assert "higher criticism" in done.output


def test_json_and_file_agree(folder: Path, tokenizer_folder: Path) -> None:
    corpus = _write(folder / "corpus.jsonl", marked=6, plain=6, seed=0)
    done = _run(
        folder, tokenizer_folder, corpus, "--json", "--level", "0.8", "-o", str(folder / "f.json")
    )
    payload = json.loads(done.output)
    check_numbers(render_report(payload), payload)
    assert payload == json.loads((folder / "f.json").read_text())
    assert payload["kind"] == "fraction"
    assert payload["fraction"]["level"] == 0.8
    assert payload["fraction"]["low"] < 0.5 < payload["fraction"]["high"]
    assert payload["decoys"]["n_decoys"] == 19
    assert "80% interval" in words(render_report(payload))


def test_shares_are_cut_to_the_possible_only_for_people(
    folder: Path, tokenizer_folder: Path
) -> None:
    corpus = _write(folder / "corpus.jsonl", marked=0, plain=6, seed=0)
    raw = json.loads(_run(folder, tokenizer_folder, corpus, "--json").output)["fraction"]
    assert raw["low"] < 0
    assert "interval 0.0% to" in _run(folder, tokenizer_folder, corpus).output


def test_an_empty_corpus_says_so(folder: Path, tokenizer_folder: Path) -> None:
    (folder / "empty.jsonl").write_text("")
    done = _run(folder, tokenizer_folder, folder / "empty.jsonl")
    assert done.exit_code == 0, done.output
    assert "unknown: nothing was scored" in done.output
    assert "inconclusive" in done.output


def test_an_unmarked_reference_is_an_error(folder: Path, tokenizer_folder: Path) -> None:
    corpus = _write(folder / "corpus.jsonl", marked=3, plain=0, seed=0)
    _write(folder / "reference.jsonl", marked=0, plain=4, seed=20)
    assert isinstance(_run(folder, tokenizer_folder, corpus).exception, DocumentError)


def test_wrong_usage_exits_with_2(folder: Path, tokenizer_folder: Path) -> None:
    assert CliRunner().invoke(fraction, ["corpus"]).exit_code == 2
    assert _run(folder, tokenizer_folder, folder / "x", "--level", "1").exit_code == 2
