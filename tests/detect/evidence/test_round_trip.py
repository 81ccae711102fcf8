"""Bundles of every command: made here, verified elsewhere, by the same numbers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detect.evidence.invocation import leaf_command
from detect.evidence.recordable import COMMON_INPUTS, RECORDABLE
from tests.chat_server import ChatServer
from tests.detect.evidence.acts import bundled, failed, forged, run, verified
from tests.detect.evidence.conftest import KEY, WORDS
from tests.detect.evidence.fitting import check_fit
from tests.detect.synthetic import marked_ids
from watermark.config import preset

ROOT = Path(__file__).parents[3]
# Command lines by the name of their bundle.
COMMANDS = {
    "detect": ["detect", "text.txt", "--prompt", "prompt.txt", "--tokens", "--alpha", "1e-4"],
    "preset": ["detect", "text.txt", "--preset", "gumbel", "--score", "own"],
    "locate": ["locate", "text.txt", "--tokens"],
    "scan": ["scan", "corpus.jsonl", "--workers", "1"],
    "folder": ["scan", "shelf", "--sample", "50"],
    "fraction": ["fraction", "corpus.jsonl", "--reference", "marked.jsonl"],
    "watch": ["watch", "answers.jsonl"],
    "calibrate": ["calibrate", "shelf", "--keys", "3", "--length", "25"],
    "accounts": ["trace", "text", "corpus.jsonl", "--accounts", "accounts.txt"],
    "cohorts": [
        *("trace", "model", "answers.jsonl", "--control", "clean.jsonl"),
        *("--epoch", "2026-11", "--cohort", "a", "--cohort", "b"),
    ],
    "revoked": [
        *("trace", "model", "answers.jsonl", "--labels", "labels.jsonl"),
        *("--alpha", "0.05", "--served", "served.json"),
    ],
    "probe": ["probe", "answers.jsonl", "--control", "clean.jsonl"],
}


def test_every_command_of_the_list_is_tried() -> None:
    tried = {" ".join(words[: 1 + (words[0] == "trace")]) for words in COMMANDS.values()}
    assert tried == set(RECORDABLE)


# Options that a bundle refuses, since it could not be run again with them.
REFUSED = {
    "detect": {"profiles_path"},
    "locate": {"picture"},
    "scan": {"table", "work", "address"},
    "watch": {"state_path"},
    "calibrate": {"picture"},
    "trace text": {"keys_folder", "registry", "reference", "reference_key"},
    "trace model": {"folder", "registry", "traffic"},
}


@pytest.mark.parametrize("name", RECORDABLE)
def test_every_option_is_recorded_or_refused_on_purpose(name: str) -> None:
    entry = RECORDABLE[name]
    known = {*entry.inputs, *COMMON_INPUTS, *entry.options, *entry.running, entry.key}
    known |= {"as_json", "output", "preset_name"}
    options = {str(parameter.name) for parameter in leaf_command(name).params}
    assert options - known == REFUSED.get(name, set())
    assert known - options <= {"transcript"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bundle_is_verified_where_its_test_was_not_run(
    name: str, place: Path, tmp_path: Path
) -> None:
    made = bundled(place, f"case-{name}", *COMMANDS[name])
    # Moved, since nothing may depend on where it was made.
    case = shutil.move(made, tmp_path / "elsewhere")
    found = verified(case, place, "--signer", place / "s.pem.pub")
    assert failed(found) == {}
    assert found["verified"]
    assert found["exit_code"] == 0
    content = "".join(p.read_text() for p in case.rglob("*") if p.is_file())
    assert str(place) not in content
    result = json.loads((case / "result.json").read_text())
    assert result["schema"] == "heirmark-result-1"
    check_fit(result)


def test_a_revoked_key_that_is_found_is_said_and_names_nobody(place: Path) -> None:
    """What was marked under the first of the keys would name it, had nobody revoked it."""
    marked = marked_ids(
        preset("default"), KEY.derive(cohort="stolen"), 900, vocabulary=len(WORDS), seed=3
    )
    words = [WORDS[i] for i in marked]
    answers = [
        {"prompt": f"p{i}", "text": " ".join(words[60 * i : 60 * i + 60])} for i in range(15)
    ]
    (place / "stolen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    test = ["trace", "model", "stolen.jsonl", "--labels", "labels.jsonl"]
    case = bundled(place, "stolen", *test)
    result = json.loads((case / "result.json").read_text())
    assert result["named_revoked"] == ["stolen"]
    assert (result["conclusion"], result["verdict"]) == ("undecided", "inconclusive")
    found = verified(case, place)
    assert failed(found) == {}
    assert "inconclusive, p = " in found["line"]
    assert "revoked keys found and not named: 1" in found["line"]
    assert "key revoked at 2026-11-20T10:00:00.000000Z" in (case / "report.html").read_text()

    def unrevoke(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        result["named_revoked"] = []
        for row in result["cohorts"]:
            row |= {"named_revoked": False, "revoked": False}

    forged(case, place, unrevoke)
    assert "named_revoked" in failed(verified(case, place))["recomputed"]


def _elsewhere(case: Path, *options: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "detect", "verify", str(case), *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_one_line_answers_in_another_process_and_folder(
    case: Path, place: Path, tmp_path: Path
) -> None:
    signer = ["--signer", place / "s.pem.pub"]
    done = _elsewhere(case, "--key", place / "k.json", *signer, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("verified: signal, p = ")
    assert done.stdout.endswith(", 7 files, no commitment, recomputed\n")
    assert len(done.stdout.splitlines()) == 1
    quiet = _elsewhere(case.name, cwd=case.parent)
    assert quiet.returncode == 3
    assert quiet.stdout.startswith("intact, not recomputed: signal, p = ")
    assert "(nobody was named)" in quiet.stdout


def test_the_recorded_command_runs_in_the_bundle_as_it_stands(case: Path, place: Path) -> None:
    line = json.loads((case / "bundle.json").read_text())["rerun"].replace("KEY", "k.json")
    words = line.split()[1:]
    shutil.copy(place / "k.json", case)
    (case / "k.json").chmod(0o600)
    with contextlib.chdir(case):
        done = run(*words[:1], "--json", *words[1:])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((case / "result.json").read_text())


def test_inputs_stored_by_hash_must_be_given_and_be_the_same(place: Path, tmp_path: Path) -> None:
    case = bundled(place, "hashes", "scan", "shelf", options=("--no-copy",))
    assert not list(case.rglob("*.txt"))
    assert not list(case.rglob("tokenizer.json"))
    found = verified(case, place)
    assert found["exit_code"] == 3
    assert "--input source=PATH --input tokenizer=PATH" in found["checks"][-1]["detail"]
    given = ["--input", f"tokenizer={place / 'tokenizer.json'}"]
    whole = verified(case, place, *given, "--input", f"source={place / 'shelf'}")
    assert failed(whole) == {}
    assert whole["verified"]
    other = Path(shutil.copytree(place / "shelf", tmp_path / "other"))
    (other / "a" / "1.txt").write_text("w001 w002")
    changed = verified(case, place, *given, "--input", f"source={other}")
    assert "1.txt is not what was tested" in failed(changed)["inputs"]
    assert changed["exit_code"] == 1
    (other / "a" / "1.txt").unlink()
    assert "inputs" in failed(verified(case, place, *given, "--input", f"source={other}"))
    assert run("verify", case, "--input", "nonsense=x").exit_code == 2
    assert run("verify", case, "--input", "nonsense").exit_code == 2


def test_standard_input_is_kept(place: Path) -> None:
    test = ["--key", place / "k.json", "--tokenizer", place / "tokenizer.json", "--decoys", "9"]
    text = (place / "text.txt").read_text()
    command = ["bundle", "-o", place / "piped", "--sign", place / "s.pem", "--", "detect"]
    done = run(*command, *test, "-", stdin=text)
    assert done.exit_code == 0, done.output
    assert verified(place / "piped", place)["verified"]


def test_what_was_asked_is_replayed_without_a_query(
    server: ChatServer, place: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    (place / "prompts.txt").write_text("Count 1 net.\nCount 2 nets.\n")
    spec = f"{server.url}#tiny"
    options = ["--key", place / "k.json", "--tokenizer", tokenizer_folder, "--decoys", "9"]
    options += ["--prompts", place / "prompts.txt", "--max-new-tokens", "8"]
    words = ["probe", spec, "--control", f"{server.url}#base", *options]
    case = tmp_path / "asked"
    done = run("bundle", "-o", case, "--sign", place / "s.pem", "--", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    names = sorted(p.name for p in (case / "transcripts").iterdir())
    assert names == ["answers.control-1.jsonl", "answers.jsonl"]
    result = json.loads((case / "result.json").read_text())
    assert (result["suspect"], result["controls"][0]["name"]) == ("tiny", "base")
    server.reset()
    found = verified(case, place)
    assert failed(found) == {}
    assert found["verified"]
    assert server.requests == []
    # A transcript of one's own is gone on from, and copied.
    own = tmp_path / "own.jsonl"
    words += ["--transcript", own]
    for name in ("first", "second"):
        n_before = len(server.requests)
        done = run("bundle", "-o", tmp_path / name, "--sign", place / "s.pem", "--", *words)
        assert done.exit_code == 0, done.output
    assert len(server.requests) == n_before
    kept = (tmp_path / "second" / "transcripts" / "answers.jsonl").read_bytes()
    assert kept == own.read_bytes()
    assert verified(tmp_path / "second", place)["verified"]


def test_open_weights_are_named_by_their_hashes(
    model_folder: Path, place: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    reading = tmp_path / "reading.jsonl"
    reading.write_text(json.dumps({"prompt": "p", "text": "A boy counted the nets."}) + "\n")
    options = ["--key", place / "k.json", "--tokenizer", tokenizer_folder, "--decoys", "9"]
    words = ["probe", model_folder, "--access", "weights", "--reading", reading, *options]
    case = tmp_path / "weights"
    done = run("bundle", "-o", case, "--sign", place / "s.pem", "--", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert not list(case.rglob("*.safetensors"))
    assert verified(case, place)["exit_code"] == 3
    # Under another name on another machine.
    moved = Path(shutil.copytree(model_folder, tmp_path / "moved"))
    found = verified(case, place, "--input", f"suspect={moved}")
    assert failed(found) == {}
    assert found["verified"]
    weights = moved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "inputs" in failed(verified(case, place, "--input", f"suspect={moved}"))
