"""`heirmark scan --ray` on a real Ray, in an environment of its own: bit for bit the local scan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PARAGRAPH
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

ROOT = Path(__file__).parents[2]
RAY = ROOT / ".engines" / "ray" / "bin" / "python"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four files with copies, an empty text and ids."""
    if not RAY.exists():
        pytest.skip("the environment of ray is not built; run: make engines")
    folder, words = tmp_path / "corpus", PARAGRAPH.split()
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(4):
        rows: list[dict[str, object]] = [
            {"id": f"{i}-{j}", "text": " ".join(rng.choice(words, 60))} for j in range(60)
        ]
        rows += [rows[0], {"text": ""}, {"token_ids": rng.integers(2, 300, 90).tolist()}]
        (folder / f"{i}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def _command(corpus: Path, tokenizer: Path, out: Path, crew: str) -> list[str | Path]:
    return [
        RAY if crew == "ray" else sys.executable, "-m", "tests.detect.scanning.scan_command",
        corpus, tokenizer, out / "parts", out / "r.json", out / "d.parquet", crew,
    ]  # fmt: skip


def _run(command: list[str | Path], code: int = 0) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stderr


def _bytes(out: Path) -> tuple[bytes, bytes]:
    return (out / "r.json").read_bytes(), (out / "d.parquet").read_bytes()


def test_ray_gives_the_bytes_of_one_process_also_after_a_kill(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    here, ray = tmp_path / "here", tmp_path / "ray"
    _run(_command(corpus, tokenizer_folder, here, "1"))
    command = _command(corpus, tokenizer_folder, ray, "ray")
    with subprocess.Popen(command, env=ENVIRONMENT, cwd=ROOT) as process:
        while not list((ray / "parts").glob("*.npz")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    _run(command)
    assert _bytes(here) == _bytes(ray)


def test_the_command_scans_on_ray_and_tells_what_is_wrong(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    save_key(SecretKey(bytes(range(32))), tmp_path / "k.json")
    command = [
        RAY, "-m", "detect", "scan", corpus, "--key", tmp_path / "k.json", "--decoys", "0",
        "--tokenizer", tokenizer_folder, "--output", tmp_path / "r.json", "--workers", "2", "--ray",
    ]  # fmt: skip
    _run([*command])
    assert json.loads((tmp_path / "r.json").read_text())["n_documents"] == 4 * 63
    assert "no Ray cluster" in _run([*command, "127.0.0.1:1"], code=1)
    (corpus / "0.jsonl").write_text('{"text": "x"}\n{bad')
    said = _run(command, code=1)
    assert "0.jsonl, line 2: not JSON" in said
    assert "Traceback" not in said
