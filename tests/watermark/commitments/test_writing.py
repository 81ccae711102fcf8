"""Commitments made for good: private openings, writers side by side, torn ends."""

from __future__ import annotations

import errno
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watermark.commitments.commitment import make_opening
from watermark.commitments.log import entry_for, read_log, verify_chain, verify_opening
from watermark.commitments.writing import append, commit, load_opening, repair, save_opening
from watermark.config import preset
from watermark.errors import CommitmentError, DocumentError, KeyFileError
from watermark.keys import EngineKey, Key, SecretKey
from watermark.storage.files import atomic_writer

CONFIG = preset("default")
PLAN = {"alpha": 1e-6}
COMMITMENT = "sha256:" + "0" * 64


def _key_id(i: int) -> str:
    return f"hm1-{i:020x}"


@pytest.mark.parametrize("key", [SecretKey.generate(), EngineKey([15485863])])
def test_from_commitment_to_reveal(tmp_path: Path, key: Key) -> None:
    log, opening = tmp_path / "log.jsonl", tmp_path / "o.opening.json"
    append(log, _key_id(1), COMMITMENT)
    entry = commit(log, opening, key, CONFIG, PLAN)
    assert opening.stat().st_mode & 0o777 == 0o600
    entries = read_log(log)
    verify_chain(entries)
    assert entry_for(entries, key.key_id) == entry == entries[1]
    verify_opening(entry, key, load_opening(opening))


def test_the_log_gives_nothing_away(tmp_path: Path) -> None:
    key = SecretKey.generate()
    commit(tmp_path / "log", tmp_path / "o", key, CONFIG, {"alpha": 1e-6, "score": "own"})
    content = (tmp_path / "log").read_bytes()
    salt = load_opening(tmp_path / "o").salt
    for hidden in (key.secret, salt, key.subkey("commitment heirmark-1", 32)):
        assert hidden[:8] not in content
        assert hidden.hex()[:16].encode() not in content
    assert b"gumbel" not in content
    assert b"alpha" not in content
    assert CONFIG.fingerprint.encode()[7:20] not in content


def test_a_key_is_committed_once(tmp_path: Path) -> None:
    """With two plans in the log, the handier one could be revealed."""
    key = SecretKey.generate()
    commit(tmp_path / "log", tmp_path / "a", key, CONFIG, PLAN)
    with pytest.raises(CommitmentError, match="already; a key is committed once"):
        commit(tmp_path / "log", tmp_path / "b", key, CONFIG, {"alpha": 0.5})
    assert len(read_log(tmp_path / "log")) == 1


def test_a_stopped_run_is_taken_up(tmp_path: Path) -> None:
    """The opening was written, the entry was not."""
    key = SecretKey.generate()
    save_opening(make_opening(key, CONFIG, PLAN), tmp_path / "o")
    before = load_opening(tmp_path / "o")
    entry = commit(tmp_path / "log", tmp_path / "o", key, CONFIG, PLAN)
    assert load_opening(tmp_path / "o") == before
    verify_opening(entry, key, before)


def test_a_run_that_was_stopped_before_it_said_so_is_repeated(tmp_path: Path) -> None:
    key = SecretKey.generate()
    entry = commit(tmp_path / "log", tmp_path / "o", key, CONFIG, PLAN)
    assert commit(tmp_path / "log", tmp_path / "o", key, CONFIG, PLAN) == entry
    assert read_log(tmp_path / "log") == (entry,)


def test_an_openings_place_is_never_taken(tmp_path: Path) -> None:
    key = SecretKey.generate()
    commit(tmp_path / "log", tmp_path / "o", key, CONFIG, PLAN)
    before = (tmp_path / "o").read_bytes()
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "notes").chmod(0o600)
    other = SecretKey.generate()
    for name in ("o", "notes"):
        with pytest.raises(KeyFileError, match="exists already, and is not the opening of this"):
            commit(tmp_path / "log", tmp_path / name, other, CONFIG, PLAN)
    with pytest.raises(KeyFileError, match="exists already"):
        commit(tmp_path / "log", tmp_path / "o", key, CONFIG, {"alpha": 0.5})
    with pytest.raises(DocumentError, match="a key file or an opening"):
        with atomic_writer(tmp_path / "o") as file:
            file.write("x")
    assert (tmp_path / "o").read_bytes() == before
    assert (tmp_path / "notes").read_text() == "mine"
    assert len(read_log(tmp_path / "log")) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "not an intact"),
        ("{", "not an intact"),
        ("[]", "expected an opening"),
        ("{}", "expected an"),
    ],
)
def test_a_damaged_opening(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "o").write_text(content)
    (tmp_path / "o").chmod(0o600)
    with pytest.raises(CommitmentError, match=expected):
        load_opening(tmp_path / "o")


def test_an_opening_that_others_can_read_is_refused(tmp_path: Path) -> None:
    save_opening(make_opening(SecretKey.generate(), CONFIG, PLAN), tmp_path / "o")
    (tmp_path / "o").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_opening(tmp_path / "o")
    with pytest.raises(KeyFileError, match="commitments add"):
        load_opening(tmp_path / "none")


@given(st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_line_is_taken_away(tmp_path: Path, data: st.DataObject) -> None:
    """Wherever a writer was stopped: what was acknowledged stays, and the log goes on."""
    log = tmp_path / "log"
    log.unlink(missing_ok=True)
    for i in range(3):
        append(log, _key_id(i), COMMITMENT)
    kept = log.read_bytes()
    line = append(log, _key_id(3), COMMITMENT).line
    cut = data.draw(st.integers(0, len(line) - 1))
    zeros = data.draw(st.integers(0, 3)) if cut < len(line) - 1 else 0
    log.write_bytes(kept + line[:cut] + b"\0" * zeros)
    entry = append(log, _key_id(4), COMMITMENT)
    entries = read_log(log)
    verify_chain(entries)
    # Only its line break was missing: an editor may have dropped that of an acknowledged line.
    n_kept = 4 if cut == len(line) - 1 else 3
    assert [e.key_id for e in entries] == [_key_id(i) for i in (*range(n_kept), 4)]
    assert entries[-1] == entry


def test_repair(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(CommitmentError, match="no log at"):
        repair(log)
    assert not log.exists()
    append(log, _key_id(0), COMMITMENT)
    whole = log.read_bytes()
    assert repair(log) == 0
    log.write_bytes(whole + whole[:17])
    assert repair(log) == 17
    assert log.read_bytes() == whole


@pytest.mark.parametrize("rest", [b"garbage", b'{"commitment":"md5:', b"\x00x", b"{}"])
def test_what_another_hand_left_is_not_taken_away(tmp_path: Path, rest: bytes) -> None:
    log = tmp_path / "log"
    append(log, _key_id(0), COMMITMENT)
    content = log.read_bytes() + rest
    log.write_bytes(content)
    for act in (lambda: repair(log), lambda: append(log, _key_id(1), COMMITMENT)):
        with pytest.raises(CommitmentError, match="no line of ours"):
            act()
    assert log.read_bytes() == content


def test_a_damaged_end_is_not_built_upon(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for i in range(3):
        append(log, _key_id(i), COMMITMENT)
    lines = log.read_bytes().splitlines(keepends=True)
    for content in (lines[0] + lines[2], lines[0] + lines[1].upper(), b"hello\n"):
        log.write_bytes(content)
        with pytest.raises(CommitmentError, match=r"lacks lines|last line of .* is damaged"):
            append(log, _key_id(9), COMMITMENT)
        assert log.read_bytes() == content


def test_a_slip_of_the_caller_does_not_spoil_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, _key_id(0), COMMITMENT)
    before = log.read_bytes()
    for key_id, commitment in (("a\nb", COMMITMENT), (_key_id(1), "secret")):
        with pytest.raises(CommitmentError):
            append(log, key_id, commitment)
    assert log.read_bytes() == before


def test_writers_side_by_side(tmp_path: Path) -> None:
    log, failed = tmp_path / "log", []

    def write(number: int) -> None:
        try:
            for i in range(15):
                append(log, _key_id(100 * number + i), COMMITMENT)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    entries = read_log(log)
    verify_chain(entries)
    assert len({entry.key_id for entry in entries}) == 60


@pytest.mark.parametrize("written", [0, 40])
def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    log = tmp_path / "log"
    append(log, _key_id(0), COMMITMENT)
    before = log.read_bytes()
    real = os.pwrite

    def full(descriptor: int, line: bytes, position: int) -> int:
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, line[:written], position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CommitmentError, match=r"cannot write the log .*: "):
        append(log, _key_id(1), COMMITMENT)
    assert log.read_bytes() == before


def test_what_is_acknowledged_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line, then fsync, then the answer; the folder's own list of names as well."""
    synced: list[Any] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append(
            (Path(path).name, os.fstat(descriptor).st_size if path.endswith("log") else 0)
        )
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    entry = append(tmp_path / "log", _key_id(0), COMMITMENT)
    assert synced == [(tmp_path.name, 0), ("log", len(entry.line))]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CommitmentError, match="cannot write the log"):
        append(tmp_path, _key_id(0), COMMITMENT)
    with pytest.raises(CommitmentError, match="cannot write the log"):
        append(tmp_path / "no" / "folder", _key_id(0), COMMITMENT)


def test_the_time_is_the_clocks(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    entry = append(tmp_path / "log", _key_id(0), COMMITMENT)
    assert before <= entry.time <= datetime.now(UTC)
