"""The whole demo with a tiny model: what it finds is small, but every stage is the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detect.demo.folder import Size
from detect.demo.run import run_demo
from tests.detect.evidence.fitting import check_fit
from watermark.errors import ConfigError
from watermark.keyring.key_files import load_key, save_key
from watermark.keys import SecretKey

SIZE = Size(
    n_training=24, n_probe=3, n_reading=2, max_new_tokens=16, trained_layers=1, n_marked=2
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "run"
    run_demo(folder, str(model_folder), size=SIZE, say=lambda line: None)
    return folder


def test_demo_json_holds_every_step_with_its_evidence(finished: Path) -> None:
    payload = json.loads((finished / "demo.json").read_text())
    names = [step["name"] for step in payload["steps"]]
    assert names[:3] == [
        "marked answers of the teacher",
        "unmarked answers of the teacher",
        "mixed corpus",
    ]
    assert set(names[3:]) == {
        f"{who} by {how}" for who in ("student", "twin", "base") for how in ("text", "weights")
    }
    for step in payload["steps"]:
        assert {"p_value", "log10_p", "n_scored", "verdict", "seconds"} <= set(step)
    check_fit(payload)
    assert "<html" in (finished / "report.html").read_text()


def test_the_teachers_marked_answers_carry_the_key(finished: Path) -> None:
    steps = {s["name"]: s for s in json.loads((finished / "demo.json").read_text())["steps"]}
    assert steps["marked answers of the teacher"]["log10_p"] < -6
    assert steps["unmarked answers of the teacher"]["log10_p"] > -5


def test_student_and_twin_are_real_and_different_models(finished: Path) -> None:
    weights = [(finished / name / "model.safetensors").read_bytes() for name in ("student", "twin")]
    assert weights[0] != weights[1]


def test_the_secret_stays_in_its_file(finished: Path) -> None:
    secret = json.loads((finished / "demo.key.json").read_text())["secret"]
    for path in finished.rglob("*"):
        if path.is_file() and path.name != "demo.key.json":
            assert secret.encode() not in path.read_bytes(), path.name


def test_a_stopped_run_goes_on_where_it_was(finished: Path, model_folder: Path) -> None:
    before = json.loads((finished / "demo.json").read_text())
    (finished / "twin-answers.jsonl").unlink()
    lines: list[str] = []
    after = run_demo(finished, str(model_folder), size=SIZE, say=lines.append)
    assert "twin answers held-out prompts ..." in lines
    kept = [line for line in lines if line.endswith("kept from an earlier run")]
    assert len(kept) == 6
    evidence = [[s["log10_p"] for s in p["steps"]] for p in (before, after)]
    assert evidence[0] == pytest.approx(evidence[1], abs=1e-9)


def test_a_run_of_another_size_or_a_foreign_folder_is_refused(
    finished: Path, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="another model or size"):
        run_demo(finished, str(model_folder), size=Size(), say=lambda line: None)
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(ConfigError, match="holds no demo run"):
        run_demo(tmp_path, str(model_folder), size=SIZE, say=lambda line: None)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_stopped_at_an_unlucky_moment_goes_on(
    model_folder: Path, tmp_path: Path, finished: Path
) -> None:
    save_key(SecretKey.generate(), tmp_path / "demo.key.json")
    key_id = load_key(tmp_path / "demo.key.json").key_id
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    run_demo(tmp_path, str(model_folder), size=SIZE, say=lambda line: None)
    (tmp_path / "twin.seconds").unlink()
    lines: list[str] = []
    payload = run_demo(tmp_path, str(model_folder), size=SIZE, say=lines.append)
    assert payload["key_id"] == key_id
    assert "twin learns from the unmarked answers ..." in lines
