"""A bundle appears whole or not at all, and is never overwritten."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.detect.evidence.acts import run, verified

ROOT = Path(__file__).parents[3]


def _command(place: Path, target: Path, *test: object) -> list[str]:
    key = ["--key", place / "k.json", "--tokenizer", place / "tokenizer.json", "--decoys", "99"]
    words = ["bundle", "-o", target, "--sign", place / "s.pem", "--", *test, *key]
    return [str(word) for word in words]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_the_last_moment_it_is_whole_or_not_there(
    moment: str, place: Path, tmp_path: Path
) -> None:
    """All is written and signed; only the name of the folder is still another's, or just not."""
    command = _command(place, tmp_path / "case", "detect", place / "text.txt")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from detect.cli import main\n"
        "moment, rename = sys.argv.pop(1), Path.rename\n"
        "def killed(self, target):\n"
        "    if moment == 'after':\n"
        "        rename(self, target)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Path.rename = killed\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, moment, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    if moment == "before":
        hidden = list(tmp_path.iterdir())
        assert [path.name[:6] for path in hidden] == [".case."]
        assert (hidden[0] / "evidence.dsse.json").exists()
        assert run(*command).exit_code == 0
    assert verified(tmp_path / "case", place)["verified"]


def test_nobody_may_read_more_of_a_bundle_than_of_what_it_holds(
    place: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes((place / "text.txt").read_bytes())
    text.chmod(0o600)
    assert run(*_command(place, tmp_path / "case", "detect", text)).exit_code == 0
    assert stat.S_IMODE((tmp_path / "case").stat().st_mode) == 0o700
    kept = tmp_path / "case" / "inputs" / "text" / "text.txt"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_what_fails_is_taken_away(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = _command(place, tmp_path / "case", "detect", place / "text.txt")

    def refuse(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    done = run(*command)
    assert done.exit_code == 1
    assert "cannot write" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_never_overwritten(place: Path, case: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in (case, tmp_path / "empty", tmp_path / "link"):
        done = run(*_command(place, target, "detect", place / "text.txt"))
        assert done.exit_code == 1
        assert "never overwritten" in done.output
    assert verified(case, place)["verified"]


def test_what_cannot_be_recorded_is_refused_before_it_is_run(place: Path, tmp_path: Path) -> None:
    text, case = place / "text.txt", tmp_path / "case"
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "shelf").symlink_to(place / "shelf")
    for words, message in (
        (["keys", "new", "x"], "cannot record 'keys'"),
        (["report", "x"], "cannot record 'report'"),
        (["locate", text, "--picture", "x.html"], "cannot record --picture"),
        (["detect", text, "-o", "x.json"], "holds the result itself"),
        (["detect", text, "--json"], "holds the result itself"),
        (["detect", tmp_path / "none.txt"], "there is no file"),
        (["detect", tmp_path], "no plain file"),
        (["scan", "datasets:x"], "download datasets:x first"),
        (["scan", "s3://x/y.jsonl"], "download s3://x/y.jsonl first"),
        (["scan", text, "--ray", "auto"], "cannot record --ray"),
        (["scan", linked], "is a link to a folder"),
    ):
        given = [
            w for w in _command(place, case, *words) if words[0] != "locate" or w != "--decoys"
        ]
        done = run(*[w for w in given if words[0] != "locate" or w != "99"])
        assert done.exit_code == 1, (words, done.output)
        assert message in done.output
    profiles = ["bundle", "-o", case, "--sign", place / "s.pem", "--", "detect", text]
    assert "under one key" in run(*profiles).output
    assert run(*profiles, "--nonsense").exit_code == 2
    assert run("bundle", "-o", case, "--", "detect", text).exit_code == 2
    assert list(tmp_path.iterdir()) == [linked]


def test_a_signing_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "s.pem"
    done = run("keys", "signing", path)
    assert done.exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert (tmp_path / "s.pem.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----\n")
    before = path.read_bytes()
    assert run("keys", "signing", path).exit_code == 1
    (tmp_path / "t.pem.pub").write_text("mine")
    assert run("keys", "signing", tmp_path / "t.pem").exit_code == 1
    assert not (tmp_path / "t.pem").exists()
    assert path.read_bytes() == before


def test_a_signing_key_that_others_read_or_that_is_none_is_refused(
    place: Path, tmp_path: Path
) -> None:
    words = ["--", "detect", place / "text.txt", "--key", place / "k.json"]
    path = tmp_path / "s.pem"
    for content, mode, message in (
        ((place / "s.pem").read_bytes(), 0o644, "can be read by others"),
        ((place / "k.json").read_bytes(), 0o600, "not an Ed25519 private key"),
        ((place / "s.pem.pub").read_bytes(), 0o600, "not an Ed25519 private key"),
        (b"", 0o600, "not an Ed25519 private key"),
    ):
        path.write_bytes(content)
        path.chmod(mode)
        done = run("bundle", "-o", tmp_path / "case", "--sign", path, *words)
        assert done.exit_code == 1
        assert message in done.output
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    assert "no signing key at" in run("bundle", "-o", "x", "--sign", path, *words).output


def test_names_that_bundles_do_not_have_become_others(place: Path, tmp_path: Path) -> None:
    odd = tmp_path / "-a letter\n.t xt"
    odd.write_text((place / "text.txt").read_text())
    assert run(*_command(place, tmp_path / "case", "detect", odd)).exit_code == 0
    assert (tmp_path / "case" / "inputs" / "text" / "text").exists()
    assert verified(tmp_path / "case", place)["verified"]
    folder = tmp_path / "folder"
    folder.mkdir()
    odd.rename(folder / ".hidden.txt")
    assert run(*_command(place, tmp_path / "scan", "scan", folder)).exit_code == 0
    found = verified(tmp_path / "scan", place)
    assert "--input source=PATH" in found["checks"][-1]["detail"]
    assert verified(tmp_path / "scan", place, "--input", f"source={folder}")["verified"]
