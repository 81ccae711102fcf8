"""`heirmark scan --ray` on a real Ray, in an environment of its own: bit for bit the local scan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PARAGRAPH
from watermark.key_files import save_key
from watermark.keys import SecretKey

ROOT = Path(__file__).parents[2]
RAY = ROOT / ".engines" / "ray" / "bin" / "python"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
}
Command = Callable[..., list[str | Path]]


@pytest.fixture
def command(tokenizer_folder: Path, tmp_path: Path) -> Command:
    """A scan of four files with copies and a bad line; its results go to OUT.json, OUT.parquet."""
    if not RAY.exists():
        pytest.skip("the environment of ray is not built; run: make engines")
    save_key(SecretKey(bytes(range(32))), tmp_path / "k.json")
    (tmp_path / "corpus").mkdir()
    words, rng = PARAGRAPH.split(), np.random.default_rng(1)
    for i in range(4):
        texts = [" ".join(rng.choice(words, 80)) for _ in range(300)]
        lines = [json.dumps({"id": f"{i}-{j}", "text": text}) for j, text in enumerate(texts)]
        (tmp_path / "corpus" / f"{i}.jsonl").write_text("\n".join([*lines, lines[0], "{bad"]))

    def arguments(python: str | Path, out: str, *options: str) -> list[str | Path]:
        return [
            python, "-m", "detect", "scan", tmp_path / "corpus", "--key", tmp_path / "k.json",
            "--tokenizer", tokenizer_folder, "--skip-bad", "--decoys", "99", "--workers", "2",
            "--output", tmp_path / f"{out}.json", "--documents", tmp_path / f"{out}.parquet",
            *options,
        ]  # fmt: skip

    return arguments


def _run(arguments: list[str | Path]) -> None:
    done = subprocess.run(arguments, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_ray_gives_the_bytes_of_one_machine(command: Command, tmp_path: Path) -> None:
    _run(command(sys.executable, "here"))
    _run(command(RAY, "ray", "--ray"))
    for kind in ("json", "parquet"):
        here = (tmp_path / f"here.{kind}").read_bytes()
        assert here == (tmp_path / f"ray.{kind}").read_bytes(), kind
    assert json.loads((tmp_path / "ray.json").read_text())["n_documents"] == 4 * 301
    assert not (tmp_path / "ray.json.scan").exists()


def test_killed_on_ray_it_goes_on(command: Command, tmp_path: Path) -> None:
    """On this machine even: a cluster that is gone need not come back."""
    _run(command(sys.executable, "here"))
    with subprocess.Popen(command(RAY, "ray", "--ray"), env=ENVIRONMENT, cwd=ROOT) as process:
        while not list((tmp_path / "ray.json.scan").glob("*.npz")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    _run(command(sys.executable, "ray"))
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "ray.json").read_bytes()


def test_a_bad_document_and_an_absent_cluster_are_told(command: Command) -> None:
    arguments = command(RAY, "ray", "--ray")
    arguments.remove("--skip-bad")
    for extra, message in (([], "line 302: not JSON"), (["127.0.0.1:1"], "no Ray cluster")):
        done = subprocess.run(
            [*arguments, *extra], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr[-2000:]
        assert message in done.stderr
        assert "Traceback" not in done.stderr
