"""The command: a result with the fields of old, a table, bad documents, and no key on the way."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from detect.cli import heirmark
from detect.reporting.page import render_report
from detect.scanning.work import clear, working_in
from tests.conftest import PARAGRAPH
from tests.detect.reporting.numbers import check_numbers
from watermark.errors import ConfigError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

FIELDS = {
    "p_value", "log10_p", "log10_p_ceiling", "method", "statistic", "n_scored", "verdict", "alpha",
    "scheme", "key_id", "decoys", "curve", "warnings", "n_tokens", "n_documents", "n_significant",
    "reasons", "documents", "limits", "deduplication", "left_out",
}  # fmt: skip


@pytest.fixture
def scan(tmp_path: Path, tokenizer_folder: Path) -> Any:
    save_key(SecretKey(bytes(range(32))), tmp_path / "k.json")
    lines = [json.dumps({"id": f"d{i}", "text": PARAGRAPH[i:]}) for i in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, "{bad"]))
    given = ["--key", tmp_path / "k.json", "--tokenizer", tokenizer_folder, "--decoys", "19"]

    def run(*options: object, source: Path = tmp_path / "a.jsonl") -> Any:
        arguments = ["scan", source, *given, *options]
        return CliRunner().invoke(heirmark, [str(x) for x in arguments])

    return run


def test_result_and_table_are_written_and_the_parts_cleared_away(scan: Any, tmp_path: Path) -> None:
    out, table = tmp_path / "out" / "r.json", tmp_path / "out" / "d.parquet"
    done = scan("--skip-bad", "--output", out, "--documents", table)
    assert done.exit_code == 0, done.output
    assert "left out  1 documents: 1 not_json" in done.output
    payload = json.loads(out.read_text())
    check_numbers(render_report(payload), payload)
    assert set(payload) >= FIELDS
    assert payload["left_out"]["examples"][0].startswith(str(tmp_path / "a.jsonl, line 6"))
    rows = pq.read_table(table).to_pylist()
    assert rows == payload["documents"]
    assert sorted(p.name for p in out.parent.iterdir()) == ["d.parquet", "r.json"]


def test_a_bad_document_keeps_what_is_done_and_names_the_way_on(scan: Any, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    done = scan("--output", out)
    assert done.exit_code == 1
    assert "a.jsonl, line 6: not JSON" in done.output
    assert "--skip-bad" in done.output
    assert not out.exists()
    (tmp_path / "a.jsonl").write_text("{}")
    assert "begun with another files" in scan("--output", out).output


def test_a_work_folder_is_cleared_of_what_is_ours(scan: Any, tmp_path: Path) -> None:
    work = tmp_path / "w"
    assert scan("--work", work).exit_code == 1
    names = {p.name for p in work.iterdir()}
    assert names == {"heirmark-scan.json", "heirmark-scan.lock"}
    (work / "notes.tmp").write_text("mine")
    (work / ".x.tmp").write_text("mine")
    (work / ".00000-000.npz.0123abcd.tmp").write_text("left by a kill")
    (work / "123456-000.npz").write_text("ours")
    assert scan("--work", work).exit_code == 1
    assert not (work / ".00000-000.npz.0123abcd.tmp").exists()
    (tmp_path / "a.jsonl").write_text('{"text": "x"}')
    done = scan("--work", tmp_path / "v", "-o", tmp_path / "v" / "scan.json")
    assert done.exit_code == 0, done.output
    assert [p.name for p in (tmp_path / "v").iterdir()] == ["scan.json"]
    clear(work)
    assert sorted(p.name for p in work.iterdir()) == [".x.tmp", "notes.tmp"]
    assert scan("--work", tmp_path / "new").exit_code == 0
    assert not (tmp_path / "new").exists()


def test_a_work_folder_is_as_secret_as_the_key(scan: Any, tmp_path: Path) -> None:
    work = tmp_path / "w"
    assert scan("--work", work, "--skip-bad", "-o", tmp_path).exit_code == 1
    found = list(work.iterdir())
    assert len(found) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert stat.S_IMODE(work.stat().st_mode) == 0o700
    work.chmod(0o750)
    assert "as secret as the key; run: chmod 700" in " ".join(
        scan("--work", work, "--skip-bad").output.split()
    )


def test_a_foreign_folder_is_no_work_folder(scan: Any, tmp_path: Path) -> None:
    for name in ("00000-000.npz", "scan.json", "notes.tmp"):
        work = tmp_path / f"of-{name}"
        work.mkdir(mode=0o700)
        (work / name).write_text("mine")
        done = scan("--skip-bad", "--work", work)
        assert done.exit_code == 1
        assert "but no scan" in done.output
        assert [path.read_text() for path in work.iterdir()] == ["mine"]
    assert scan("--skip-bad", "--work", tmp_path / "a.jsonl").exit_code == 1
    done = scan("--skip-bad", "--work", tmp_path / "w", "-o", tmp_path / "w" / "00000-000.npz")
    assert "would be cleared away" in done.output


def test_the_folder_is_cleared_while_the_scan_holds_it(
    scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def clearing(folder: Path) -> None:
        with pytest.raises(ConfigError, match="another scan is running"), working_in(folder):
            pass
        held.append(folder)

    monkeypatch.setattr("detect.scanning.running.clear", clearing)
    assert scan("--skip-bad", "--work", tmp_path / "w").exit_code == 0
    assert held == [tmp_path / "w"]


def test_what_was_not_read_is_said(tmp_path: Path, tokenizer_folder: Path, scan: Any) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "r.json"
    corpus.mkdir()
    packed = gzip.compress(b'{"text": "one two three four"}\n')
    (corpus / "a.jsonl.gz").write_bytes(packed[:-4])
    (corpus / "b.csv").write_text("x")
    done = scan("--skip-bad", "-o", out, source=corpus)
    assert done.exit_code == 0, done.output
    payload = json.loads(out.read_text())
    assert payload["left_out"]["n_documents"] == 0
    assert payload["left_out"]["n_damaged_files"] == 1
    assert "a.jsonl.gz, line 2: not read from here to its end" in payload["left_out"]["examples"][0]
    assert "1 file not read to the end" in done.stdout
    assert payload["files_not_read"] == {"n": 1, "examples": [str(corpus / "b.csv")]}
    assert "1 file not read (unknown ending)" in done.stderr


def test_without_ray_the_extra_is_named(scan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    done = scan("--ray")
    assert done.exit_code == 1
    assert "heirmark[ray]" in done.output


def test_a_summary_says_what_the_sample_was(scan: Any, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    assert scan("--skip-bad", "--sample", "50", "--output", out).exit_code == 0
    payload = json.loads(out.read_text())
    assert payload["deduplication"]["n_sampled"] == 50
    assert payload["n_scored"] > 50
    assert payload["decoys"]["n_decoys"] == 19


def test_names_that_are_not_utf8_are_escaped(scan: Any, tmp_path: Path) -> None:
    """Of files and of documents; a result that cannot be written costs the whole scan."""
    corpus, out, table = tmp_path / "corpus", tmp_path / "r.json", tmp_path / "d.parquet"
    corpus.mkdir()
    text = b'{"text": "one two three", "id": "\\ud800"}\n{"\\ud800": 1}\n'
    Path(os.fsdecode(os.fsencode(corpus) + b"/\xff.jsonl")).write_bytes(text)
    Path(os.fsdecode(os.fsencode(corpus) + b"/\xff.csv")).write_bytes(b"")
    done = scan("--skip-bad", "-o", out, "--documents", table, source=corpus)
    assert done.exit_code == 0, done.output
    payload = json.loads(out.read_text("utf-8"))
    (row,) = pq.read_table(table).to_pylist()
    assert (payload["documents"][0]["id"], row["id"]) == ("\ud800", "\\ud800")
    assert row["source"] == f"{corpus}/\\udcff.jsonl, line 1"
    assert "\ud800" in payload["left_out"]["examples"][0]
    assert payload["files_not_read"]["n"] == 1


def test_an_output_that_takes_no_more_is_told(scan: Any, tmp_path: Path) -> None:
    done = scan("--skip-bad", "-o", "/dev/full")
    assert done.exit_code == 1
    assert "cannot write /dev/full: No space left on device" in done.output
    assert not Path("/dev/full.scan").exists()
    command = [
        sys.executable, "-m", "detect", "keys", "show", str(tmp_path / "k.json"),
    ]  # fmt: skip
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1
    assert run.stderr == "Error: cannot write the output: No space left on device\n"


def test_a_pipe_is_written_into_and_stays_one(scan: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        done = scan("--skip-bad", "--documents", pipe)
        assert done.exit_code == 0, done.output
        assert reader.communicate()[0].startswith(b"PAR1")
    assert pipe.is_fifo()
