"""The steps in a real datatrove, in an environment of its own: bit for bit `heirmark scan`."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import PARAGRAPH
from tests.engines.oracle import python_of
from watermark.config import preset
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

ROOT = Path(__file__).parents[2]
KEY = SecretKey(bytes(range(32)))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four files, one of them packed, with copies within and between them."""
    folder, rng, words = tmp_path / "corpus", np.random.default_rng(1), PARAGRAPH.split()
    folder.mkdir()
    save_key(KEY, tmp_path / "k.json")
    for i in range(4):
        texts = [" ".join(rng.choice(words, 60)) for _ in range(60)]
        rows = [{"id": f"{i}-{j}", "text": t} for j, t in enumerate([*texts, texts[0], PARAGRAPH])]
        (folder / f"{i}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    raw = (folder / "2.jsonl").read_bytes()
    (folder / "2.jsonl").unlink()
    (folder / "2.jsonl.gz").write_bytes(gzip.compress(raw))
    return folder


def _command(corpus: Path, tokenizer: Path, out: Path, tasks: int, workers: int, what: str) -> Any:
    key = corpus.parent / "k.json"
    return [
        python_of("datatrove"), "-m", "tests.engines.datatrove_run", corpus, key, tokenizer, out,
        str(tasks), str(workers), what,
    ]  # fmt: skip


def _run(command: list[Any], code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        command, env=ENVIRONMENT | environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def _result(path: Path) -> dict[str, Any]:
    """Without the places of documents, which datatrove counts and a scan of files reads."""
    found: dict[str, Any] = json.loads(path.read_text())
    for row in found["documents"]:
        row["source"] = row["source"].rpartition(",")[0]
    return found


def _scan(corpus: Path, tokenizer: Path, out: Path, *options: str) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "detect", "scan", corpus, "--key", corpus.parent / "k.json",
        "--tokenizer", tokenizer, "--decoys", "99", "--sample", "300", "-o", out, *options,
    ]  # fmt: skip
    _run(command)
    return _result(out)


def _check_secret(out: Path) -> None:
    found = _places_of_the_key(out)
    assert not found, found


def _places_of_the_key(out: Path) -> list[Path]:
    """Files outside the folder of the parts that hold the key, or what is derived from it."""
    integers = [int(i) for i in preset("default").source.key_of(KEY)]
    secret = bytes(range(32))
    needles = [secret, secret.hex().encode(), base64.b64encode(secret), repr(secret).encode()]
    for i in integers:
        needles += [str(i).encode(), f"{i:x}".encode(), i.to_bytes(8, "little"), i.to_bytes(8)]
    files = [p for p in out.rglob("*") if p.is_file() and not p.is_relative_to(out / "parts")]
    assert len(files) >= 3
    return [p for p in files if any(n in p.read_bytes() for n in needles)]


@pytest.mark.parametrize(("tasks", "workers"), [(1, 1), (3, 2), (6, 2)])
def test_the_result_is_that_of_the_command(
    tasks: int, workers: int, corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    expected = _scan(corpus, tokenizer_folder, tmp_path / "here.json")
    out = tmp_path / "out"
    _run(_command(corpus, tokenizer_folder, out, tasks, workers, "all"))
    assert _result(out / "r.json") == expected
    assert expected["n_documents"] == 4 * 62
    assert not list((out / "parts").iterdir())
    _check_secret(out)


def test_killed_it_goes_on_and_does_what_is_done_no_second_time(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = _command(corpus, tokenizer_folder, out, 4, 1, "scan")
    with subprocess.Popen(
        command, env=ENVIRONMENT, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
    ) as process:
        while not list((out / "parts").glob("00001/*.npz")):
            assert process.poll() is None
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
    assert (out / "parts" / "00000.json").exists()
    assert not (out / "parts" / "00003.json").exists()
    before = {p: p.stat().st_mtime_ns for p in (out / "parts" / "00000").glob("*.npz")}
    _run(_command(corpus, tokenizer_folder, out, 4, 2, "scan"))
    assert {p: p.stat().st_mtime_ns for p in (out / "parts" / "00000").glob("*.npz")} == before
    _run(_command(corpus, tokenizer_folder, out, 4, 2, "all"))
    assert _result(out / "r.json") == _scan(corpus, tokenizer_folder, tmp_path / "here.json")


def test_documents_that_fail_end_the_task_or_are_counted(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with (corpus / "1.jsonl").open("a") as file:
        file.write('\n{"id": "list", "text": ["no", "text"]}')
    out = tmp_path / "out"
    said = _run(_command(corpus, tokenizer_folder, out, 2, 2, "all"), code=1)
    assert "1.jsonl, document 63: expected text in 'text'" in said
    assert "skip_bad=True" in said
    _check_secret(out)
    _run(_command(corpus, tokenizer_folder, tmp_path / "counted", 2, 2, "all"), SKIP_BAD="1")
    expected = _scan(corpus, tokenizer_folder, tmp_path / "here.json", "--skip-bad")
    found = _result(tmp_path / "counted" / "r.json")
    for result, word in ((found, "document"), (expected, "line")):
        (example,) = result["left_out"].pop("examples")
        assert f"1.jsonl, {word} 63: expected text" in example
    assert found == expected
    assert found["left_out"]["reasons"] == {"no_text_and_no_ids": 1}


def test_an_error_amid_the_scoring_takes_no_key_into_the_logs(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    out, leaky = tmp_path / "out", tmp_path / "leaky"
    assert "unexpectedly" in _run(_command(corpus, tokenizer_folder, out, 2, 1, "break"), code=1)
    assert "_broken" in (out / "logs" / "logs" / "task_00000.log").read_text()
    _check_secret(out)
    # What is looked for would be found.
    _run(_command(corpus, tokenizer_folder, leaky, 2, 1, "leak"), code=1)
    assert _places_of_the_key(leaky) == [leaky / "logs" / "logs" / "task_00000.log"]
