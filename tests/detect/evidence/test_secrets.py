"""No secret in what commands print, write, raise, or show to other users of the machine."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from detect.cli import heirmark
from detect.evidence import running
from detect.evidence.secrets_within import Secrets
from detect.evidence.signing_keys import load_signing_key
from detect.evidence.verifying import VerifyRequest, verify_bundle
from tests.detect.evidence.conftest import KEY
from watermark.config import preset
from watermark.errors import EvidenceError
from watermark.keys import EngineKey

ROOT = Path(__file__).parents[3]
# Files that are there to hold a secret.
PRIVATE = {"k.json", "other.json", "s.pem", "t.pem", "o.json", "engine.json", "derived.json"}


def _spellings(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield repr(secret).encode()[2:-1]
    for order in ("big", "little"):
        yield str(int.from_bytes(secret, order)).encode()  # type: ignore[arg-type]


def _secrets(place: Path) -> set[bytes]:
    """The key, what its words are made with, other engines' keys from it, and the signer's."""
    found = set(_spellings(KEY.secret)) | set(_spellings(KEY.derive(account="alice").secret))
    engine = EngineKey([987654321012345678, 1234567890987654321])
    numbers = [int(i) for i in preset("default").source.key_of(KEY).ravel()]
    for number in (*numbers, *engine.integers):
        # A number of few digits stands anywhere.
        found |= {str(number).encode(), f"{number:x}".encode()} if number > 1 << 40 else set()
    signer = load_signing_key(place / "s.pem")
    raw = signer.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return found | set(_spellings(raw))


def _commands() -> list[list[str]]:
    test = ["--key", "k.json", "--tokenizer", "tokenizer.json"]
    decoys = [*test, "--decoys", "99"]
    sign = ["--sign", "s.pem"]
    log = ["--commitments", "log.jsonl", "--opening", "o.json"]
    verify = ["--key", "k.json", "--opening", "o.json", "-v"]
    return [
        ["keys", "show", "k.json"],
        ["keys", "derive", "k.json", "derived.json", "--account", "alice"],
        ["keys", "signing", "t.pem"],
        ["registry", "init", "-r", "r.db"],
        ["registry", "issue", "-r", "r.db", "--master", "k.json", "--account", "alice"],
        ["registry", "list", "-r", "r.db", "--json"],
        ["trace", "text", "text.txt", "--master", "k.json", "--accounts", "accounts.txt",
         "--tokenizer", "tokenizer.json", "--decoys", "9", "-o", "trace.json"],
        ["commitments", "add", "log.jsonl", "--key", "k.json", "--opening", "o.json",
         "--alpha", "1e-6"],
        ["detect", "text.txt", *decoys, "--json", "-o", "result.json"],
        ["report", "result.json"],
        ["bundle", "-o", "case", *sign, *log, "--", "detect", "text.txt", *decoys],
        ["bundle", "-o", "scan", *sign, "--", "scan", "corpus.jsonl", *decoys],
        ["verify", "case", *verify],
        ["verify", "scan", "--key", "k.json", "--json"],
        ["verify", "scan", "--key", "derived.json", "-v"],
        ["detect", "k.json", *decoys],
        # Errors: a key in the place of something else.
        ["bundle", "-o", "x", *sign, "--", "detect", "k.json", *decoys],
        ["bundle", "-o", "x", *sign, "--", "scan", ".", *decoys],
        ["verify", "case", "--signer", "s.pem"],
        ["verify", "case", "--opening", "k.json"],
        ["verify", "case", "--key", "s.pem"],
        ["bundle", "-o", "x", "--sign", "k.json", "--", "detect", "text.txt", *decoys],
        ["bundle", "-o", "k.json", *sign, "--", "detect", "text.txt", *decoys],
        ["bundle", "-o", "x", *sign, "--", "detect", "text.txt", "--key", "s.pem"],
    ]  # fmt: skip


def test_no_command_shows_a_secret(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(place, tmp_path / "there", ignore=_bundles))
    (folder / "t.pem").unlink()
    (folder / "t.pem.pub").unlink()
    secrets = _secrets(place)
    monkeypatch.chdir(folder)
    shown = b""
    codes = []
    for words in _commands():
        done = CliRunner().invoke(heirmark, words)
        codes.append(done.exit_code)
        shown += done.output.encode() + done.stderr.encode()
        if done.exc_info is not None:
            shown += "".join(traceback.format_exception(*done.exc_info)).encode()
    assert codes == [0] * 14 + [1, 0] + [1] * 2 + [2] * 3 + [1] * 3
    written = [p for p in folder.rglob("*") if p.is_file() and p.name not in PRIVATE]
    assert len(written) > 20
    shown += b"".join(p.read_bytes() for p in written)
    for secret in secrets:
        assert secret not in shown
    # And a test that could not fail would be none.
    content = (folder / "k.json").read_bytes()
    assert any(secret in content for secret in secrets)


def _bundles(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if (Path(folder) / name / "evidence.dsse.json").exists()}


def test_a_secret_is_found_anywhere_in_an_input(place: Path, tmp_path: Path) -> None:
    """Also where two chunks of a file meet."""
    signer = load_signing_key(place / "s.pem")
    held = Secrets.of(KEY, signer)
    raw = signer.private_bytes_raw()
    path = tmp_path / "text.txt"
    for secret in (
        KEY.secret.hex().encode(),
        base64.b64encode(KEY.secret),
        base64.urlsafe_b64encode(raw).rstrip(b"="),
        raw,
        b'{"format": "heirmark-key-1"}',
        (place / "s.pem").read_bytes(),
    ):
        for before in (0, 5000, (1 << 20) - 9):
            path.write_bytes(b"x" * before + secret + b"y" * 99)
            with pytest.raises(EvidenceError, match="holds a secret") as caught:
                held.refuse(path)
            error = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            frames = [frame for frame in error.stack if frame.filename != __file__]
            assert frames
            assert repr(secret)[2:20] not in str([frame.locals for frame in frames])
    path.write_bytes(b"x" * (1 << 20) + KEY.key_id.encode())
    held.refuse(path)
    engine = EngineKey([987654321012345678])
    path.write_text(json.dumps({"seed": engine.integers[0]}))
    with pytest.raises(EvidenceError, match="holds a secret"):
        Secrets.of(engine, signer).refuse(path)


def test_a_bundle_with_a_secret_in_its_inputs_is_not_made(place: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    row = {"prompt": KEY.secret.hex(), "text": "w001 w002"}
    lines = (place / "answers.jsonl").read_text() + json.dumps(row) + "\n"
    answers.write_text(lines)
    test = ["--key", place / "k.json", "--tokenizer", place / "tokenizer.json", "--decoys", "9"]
    words = ["bundle", "-o", tmp_path / "case", "--sign", place / "s.pem", "--", "probe", answers]
    done = CliRunner().invoke(heirmark, [str(word) for word in (*words, *test)])
    assert done.exit_code == 1
    assert "holds a secret" in done.output
    assert list(tmp_path.iterdir()) == [answers]


def test_a_traceback_with_all_its_values_shows_none(
    case: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "leaf_command", fail)
    with pytest.raises(KeyboardInterrupt) as caught:
        verify_bundle(VerifyRequest(case, str(place / "k.json")))
    lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    told = "".join(lines).encode()
    assert b"key_place" in told
    assert not [secret for secret in _secrets(place) if secret in told]


def test_the_process_list_shows_none(place: Path, tmp_path: Path) -> None:
    words = ["bundle", "-o", tmp_path / "case", "--sign", place / "s.pem", "--", "detect"]
    words += [place / "text.txt", "--key", place / "k.json", "--decoys", "99"]
    command = [sys.executable, "-P", "-m", "detect", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seen: set[bytes] = set()
    with subprocess.Popen(
        [*command, "--tokenizer", str(place / "tokenizer.json")],
        env=environment,
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None:
            seen |= _shown_of_us(process.pid)
            time.sleep(0.01)
    assert process.returncode == 0
    assert any(b"detect" in line for line in seen)
    assert not [s for s in _secrets(place) if any(s in line for line in seen)]


def _shown_of_us(pid: int) -> set[bytes]:
    """The command lines of a process and of what it started."""
    found = set()
    for name in (str(pid), *_children(pid)):
        try:
            found.add(Path(f"/proc/{name}/cmdline").read_bytes())
        except OSError:
            continue
    return found


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
