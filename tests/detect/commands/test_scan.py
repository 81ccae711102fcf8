"""The command: a result with the fields of old, a table, bad documents, and no key on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from detect.cli import heirmark
from tests.conftest import PARAGRAPH
from watermark.key_files import save_key
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

    def run(*options: object) -> Any:
        arguments = ["scan", tmp_path / "a.jsonl", *given, *options]
        return CliRunner().invoke(heirmark, [str(x) for x in arguments])

    return run


def test_result_and_table_are_written_and_the_parts_cleared_away(scan: Any, tmp_path: Path) -> None:
    out, table = tmp_path / "out" / "r.json", tmp_path / "out" / "d.parquet"
    done = scan("--skip-bad", "--output", out, "--documents", table)
    assert done.exit_code == 0, done.output
    assert "left out  1 documents: 1 not_json" in done.output
    payload = json.loads(out.read_text())
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


def test_a_work_folder_of_ones_own_stays(scan: Any, tmp_path: Path) -> None:
    assert scan("--skip-bad", "--work", tmp_path / "w").exit_code == 0
    assert sorted(p.suffix for p in (tmp_path / "w").iterdir()) == [
        "", ".json", ".npy", ".npy", ".npy", ".npz",
    ]  # fmt: skip
    assert scan("--skip-bad", "--work", tmp_path / "a.jsonl").exit_code == 1


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
