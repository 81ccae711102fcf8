"""Bundles of a signer who means no good, at random: always one line, a known exit code, no trace.

HEIRMARK_FUZZ=200 tries so many of each kind, each in a process of its own as people do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detect.evidence.comparing import EXACT, first_differences
from tests.detect.evidence import mutations
from tests.detect.evidence.acts import bundled, run
from watermark.commitments.writing import append, commit
from watermark.config import preset
from watermark.keyring.key_files import load_key

N = int(os.environ.get("HEIRMARK_FUZZ", "0"))
_LIMITS = ("--memory", "2G", "--time-limit", "10s", "--disk", "1G")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", KINDS)


# Tries of each kind.
KINDS: dict[str, int] = {
    "manifest": 15, "result": 10, "options": 15, "statement": 20, "literal": 8, "config": 8,
    "tokenizer": 6, "file_bytes": 8, "log": 8,
}  # fmt: skip


class _Writes:
    """What this process opens for writing, by Python's own audit events."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on or event not in ("open", "os.mkdir", "os.rename"):
            return
        if event == "open" and not (
            isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            return
        if isinstance(arguments[0], str | bytes | os.PathLike):
            self.places.append(os.path.abspath(os.fsdecode(arguments[0])))


@pytest.fixture(scope="module")
def writes() -> _Writes:
    return _Writes()


@contextlib.contextmanager
def _writing_only_to(folder: Path, writes: _Writes) -> Iterator[None]:
    writes.places.clear()
    writes.is_on = True
    try:
        yield
    finally:
        writes.is_on = False
    # Compiled code of our own is cached beside it.
    places = [p for p in writes.places if "__pycache__" not in p and p != os.devnull]
    assert [p for p in places if not Path(p).is_relative_to(folder)] == []
    assert list(folder.iterdir()) == []


def _check(case: Path, honest: Path, place: Path, said: str, *options: object) -> None:
    """One line, no traceback; and verified only where the result is the honest one."""
    done = run("verify", case, "--key", place / "k.json", *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), (said, done.exc_info)
    assert done.exit_code in (0, 1, 3, 4), (said, done.output)
    if N:
        print(done.exit_code, said, done.stdout.strip()[:200])
    assert len(done.stdout.splitlines()) == 1, (said, done.stdout)
    assert done.stdout.rstrip("\n").isprintable(), (said, done.stdout)
    assert "Traceback" not in done.output
    assert "crashed" not in done.stdout, said
    if done.exit_code == 0:
        assert done.stdout.startswith("verified: "), said
        one, other = (json.loads((f / "result.json").read_text()) for f in (case, honest))
        assert first_differences(one, other, EXACT) == [], said
        claims = [json.loads((f / "bundle.json").read_text())["claim"] for f in (case, honest)]
        assert claims[0] == claims[1], said


@pytest.fixture(scope="module")
def bound(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that rests on the second of two commitments."""
    folder = tmp_path_factory.mktemp("fuzzed")
    append(folder / "log.jsonl", "hm1-" + "1" * 20, "sha256:" + "1" * 64)
    key = load_key(place / "k.json")
    commit(folder / "log.jsonl", folder / "o.json", key, preset("default"), {"alpha": 1e-6})
    options = ("--commitments", folder / "log.jsonl", "--opening", folder / "o.json")
    return bundled(place, "fuzzed", "detect", "text.txt", options=options)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    return made


def test_whatever_is_changed_and_signed_again_there_is_one_answer(
    kind: str,
    whole_case: Path,
    bound: Path,
    place: Path,
    tmp_path: Path,
    temporary: Path,
    writes: _Writes,
) -> None:
    change, honest = getattr(mutations, kind), bound if kind == "log" else whole_case
    for seed in range(N or KINDS[kind]):
        rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
        case = Path(shutil.copytree(honest, tmp_path / "case"))
        if kind == "statement":
            said = mutations.statement(case, rng, place / "t.pem")
        else:
            said = change(case, rng)
            mutations.sign(case, place / "t.pem")
        with _writing_only_to(temporary, writes):
            _check(case, honest, place, f"{kind} {seed}: {said}", *_LIMITS)
        shutil.rmtree(case)


@pytest.mark.parametrize("name", mutations.TREES)
def test_whatever_stands_in_the_folder_there_is_one_answer(
    name: str, case: Path, place: Path, temporary: Path, writes: _Writes
) -> None:
    mutations.TREES[name](case)
    with _writing_only_to(temporary, writes):
        done = run("verify", case, "--key", place / "k.json")
    if name == "unreadable":
        (case / "inputs" / "shut").chmod(0o700)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code == 1, done.output
    assert done.stdout.startswith("NOT verified: ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.rstrip("\n").isprintable()
    if name == "names":
        listed = run("verify", case, "--json")
        assert listed.exit_code == 1
        assert all(line.isprintable() for line in listed.stdout.split("\n"))
