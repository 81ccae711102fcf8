"""A test that was bound by a commitment: the bundle shows it, and what was bound to something else
is found.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.authority import Authority, make_authority
from tests.detect.evidence.acts import bundled, failed, forged, run, verified
from watermark.commitment_log import next_entry, read_log
from watermark.commitment_writing import append, commit, load_opening
from watermark.config import preset
from watermark.key_files import load_key
from watermark.timestamps import store_stamp, timestamp_request


@pytest.fixture(scope="module")
def committed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log of three commitments; the second is our key's."""
    folder = tmp_path_factory.mktemp("committed")
    plan = {
        "alpha": 1e-6,
        "n_decoys": 99,
        "min_pairs": 300,
        "score": "typical",
        "who decides": "the court",
    }
    append(folder / "log.jsonl", "hm1-" + "1" * 20, "sha256:" + "1" * 64)
    key = load_key(place / "k.json")
    commit(folder / "log.jsonl", folder / "o.json", key, preset("default"), plan)
    append(folder / "log.jsonl", "hm1-" + "2" * 20, "sha256:" + "2" * 64)
    return folder


@pytest.fixture(scope="module")
def bound(place: Path, committed: Path) -> Path:
    options = ("--commitments", committed / "log.jsonl", "--opening", committed / "o.json")
    return bundled(place, "bound", "detect", "text.txt", options=options)


@pytest.fixture
def copied(bound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bound, tmp_path / "bound"))


def test_the_commitment_is_opened_by_key_and_opening(
    bound: Path, place: Path, committed: Path
) -> None:
    found = verified(bound, place, "--opening", committed / "o.json")
    day = read_log(committed / "log.jsonl")[1].time.strftime("%Y-%m-%d")
    assert f"commitment of {day}, opened, recomputed" in found["line"]
    assert found["exit_code"] == 0
    details = {check["name"]: check["detail"] for check in found["checks"]}
    assert details["commitment"].startswith("entry 1 of 3, of ")
    assert details["opening"] == (
        "key, config, alpha, min_pairs, n_decoys, score as committed; "
        "for people to compare: who decides"
    )
    closed = run("verify", bound)
    assert closed.exit_code == 3
    assert "not opened" in closed.stdout
    salt = json.loads((committed / "o.json").read_text())["salt"]
    assert all(salt.encode() not in p.read_bytes() for p in bound.rglob("*") if p.is_file())


def test_a_test_that_was_not_the_committed_one_is_refused(
    place: Path, committed: Path, tmp_path: Path
) -> None:
    words = ["--commitments", committed / "log.jsonl", "--opening", committed / "o.json", "--"]
    test = ["detect", place / "text.txt", "--key", place / "k.json"]
    test += ["--tokenizer", place / "tokenizer.json", "--decoys", "99"]
    start = ["bundle", "-o", tmp_path / "case", "--sign", place / "s.pem"]
    for options, message in (
        (["--alpha", "1e-3"], "alpha = 1e-06, the test used 0.001"),
        (["--score", "own"], "score = 'typical', the test used 'own'"),
        (["--prompt", place / "text.txt"], "min_pairs = 300, the test used 0"),
        (["--preset", "gumbel"], "the config that was committed is"),
    ):
        done = run(*start, *words, *test, *options)
        assert done.exit_code == 1
        assert message in done.output
        assert list(tmp_path.iterdir()) == []
    # Before anything is asked or scored.
    unread = [tmp_path / "none.txt" if w == place / "text.txt" else w for w in test]
    assert "alpha = 1e-06" in run(*start, *words, *unread, "--alpha", "1e-3").output
    other = [place / "other.json" if w == place / "k.json" else w for w in test]
    assert "holds no commitment to the key" in run(*start, *words, *other).output
    assert run(*start, *words[:2], "--", *test).exit_code == 2


def _log(case: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = case / "commitments" / "log.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


LOGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "left out": (lambda lines: lines[1:], "sequence number 1"),
    "changed": (lambda lines: [lines[0].replace(b"11", b"10"), *lines[1:]], "chain breaks"),
    "swapped": (lambda lines: [lines[1], lines[0], lines[2]], "sequence number"),
    "cut": (lambda lines: lines[:1], "holds no commitment to the key"),
    "torn": (lambda lines: [*lines[:2], lines[2][:40]], "ends in the middle"),
    "gone": (lambda lines: [], "holds no commitment"),
}


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_is_not_a_chain_is_found(name: str, copied: Path, place: Path) -> None:
    change, message = LOGS[name]
    _log(copied, change)
    forged(copied, place)
    assert message in failed(verified(copied, place))["commitment"]


def test_a_log_with_another_plan_of_the_key_is_found(copied: Path, place: Path) -> None:
    """No command writes such a log: by hand, well chained."""
    log = copied / "commitments" / "log.jsonl"
    last = read_log(log)[-1]
    second = next_entry(last, load_key(place / "k.json").key_id, last.commitment, last.time)
    log.write_bytes(log.read_bytes() + second.line)
    forged(copied, place)
    assert "was committed 2 times" in failed(verified(copied, place))["commitment"]


def test_another_opening_is_found(copied: Path, place: Path, committed: Path) -> None:
    content = json.loads((committed / "o.json").read_text())
    content["plan"]["alpha"] = 1e-3
    wrong = copied.parent / "wrong.json"
    wrong.write_text(json.dumps(content))
    wrong.chmod(0o600)
    assert load_opening(wrong)
    found = verified(copied, place, "--opening", wrong)
    assert "was not made from this key" in failed(found)["opening"]
    assert found["exit_code"] == 1


def test_a_commitment_made_after_the_test_is_found(copied: Path, place: Path) -> None:
    forged(copied, place, lambda m, r: m.update(created="2020-01-01T00:00:00Z"))
    assert "after the bundle was made" in failed(verified(copied, place))["commitment"]


def test_what_was_asked_for_and_is_not_there_fails(
    case: Path, place: Path, committed: Path
) -> None:
    found = verified(case, place, "--opening", committed / "o.json")
    assert "rests on no commitment" in failed(found)["commitment"]
    assert verified(case, place)["verified"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def _stamp(authority: Authority, log: Path, n_entries: int) -> None:
    head = read_log(log)[n_entries - 1]
    store_stamp(log, head, authority.answer(timestamp_request(head)))


def test_time_stamps_are_verified_with_the_authoritys_certificate(
    place: Path, committed: Path, authority: Authority, tmp_path: Path
) -> None:
    log = Path(shutil.copy(committed / "log.jsonl", tmp_path / "log.jsonl"))
    _stamp(authority, log, 3)
    options = ("--commitments", log, "--opening", committed / "o.json")
    case = bundled(place, f"stamped-{tmp_path.name}", "detect", "text.txt", options=options)
    assert (case / "commitments" / "log.jsonl.2.tsr").exists()
    trusted = ["--tsa-certificate", authority.root]
    found = verified(case, place, *trusted, "--opening", committed / "o.json")
    assert failed(found) == {}
    assert ", stamped 20" in found["line"]
    assert "1 in the bundle" in str(verified(case, place)["checks"])
    # A stamp of an earlier head does not cover what came after it.
    (case / "commitments" / "log.jsonl.2.tsr").unlink()
    forged(case, place)
    assert "no time stamp covers" in failed(verified(case, place, *trusted))["time stamps"]
    _stamp(authority, case / "commitments" / "log.jsonl", 1)
    forged(case, place)
    assert "no time stamp covers entry 1" in failed(verified(case, place, *trusted))["time stamps"]
    stamp = case / "commitments" / "log.jsonl.0.tsr"
    content = bytearray(stamp.read_bytes())
    content[-20] ^= 1
    stamp.write_bytes(content)
    forged(case, place)
    assert "time stamps" in failed(verified(case, place, *trusted))
