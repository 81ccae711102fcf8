"""A test that was bound by a commitment: the bundle shows it, and what was bound to something else
is found.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from detect.evidence import writing
from detect.evidence.planned import Examined, Planned, check_opening
from tests.authority import Authority, make_authority
from tests.detect.evidence.acts import bundled, failed, forged, run, verified
from watermark.commitments.commitment import commitment_of, make_opening
from watermark.commitments.log import next_entry, read_log
from watermark.commitments.timestamps import store_stamp, timestamp_request
from watermark.commitments.writing import append, commit, load_opening, save_opening
from watermark.config import preset
from watermark.errors import CommitmentError
from watermark.keyring.key_files import load_key
from watermark.keys import Key


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
    assert f"commitment of {day} by the signer's word, opened (1 of its plan" in found["line"]
    assert found["exit_code"] == 0
    details = {check["name"]: check["detail"] for check in found["checks"]}
    assert details["commitment"].startswith(f"entry 1 of 3, by the log of {day}; ")
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


_OPTIONS = {"alpha": 1e-6, "n_decoys": None, "seed": 0, "score": None, "tokens": False}
_RESULT = {"alpha": 1e-6, "score": "typical", "n_scored": 300, "decoys": {"n_decoys": 9999}}
# Plans, and what is said against a test with the options and the result above; "" for nothing.
PLANS: list[tuple[dict[str, Any], str]] = [
    ({"n_decoys": 9999, "score": "typical", "seed": 0, "tokens": False}, ""),
    ({"min_pairs": 300, "alpha": 1e-6, "who decides": "the court"}, ""),
    ({"inputs": {"text": "sha256:" + "a" * 64}}, ""),
    # The program's own choice is not the plan's.
    ({"n_decoys": 99}, "n_decoys = 99, the test used 9999"),
    ({"decoys": 99}, "decoys = 99, the test used 9999"),
    ({"score": "own"}, "score = 'own', the test used 'typical'"),
    ({"seed": 1}, "seed = 1, the test used 0"),
    ({"seed": False}, "seed of a test plan is an integer"),
    ({"tokens": True}, "tokens = True, the test used False"),
    ({"alpha": "1e-6"}, "alpha of a test plan is a number"),
    ({"temperature": 0.5}, "temperature = 0.5, the test left it out"),
    ({"min_pairs": 301}, "min_pairs = 301, the test used 300"),
    ({"min_pairs": "1000"}, "min_pairs of a test plan is"),
    ({"min_pairs": None}, "min_pairs of a test plan is"),
    ({"min_pairs": True}, "min_pairs of a test plan is"),
    ({"inputs": {"text": "sha256:" + "b" * 64}}, "the test has sha256:aaaa"),
    ({"inputs": {"accounts": "sha256:" + "a" * 64}}, "the test has no such file"),
    ({"inputs": "all"}, "expected SHA-256 by name"),
]


@pytest.mark.parametrize(("plan", "message"), PLANS)
def test_every_name_of_a_plan_that_is_known_must_be_met(
    plan: dict[str, Any], message: str, place: Path
) -> None:
    key = load_key(place / "k.json")
    fingerprint = preset("default").fingerprint
    tested = Examined("detect", _OPTIONS, fingerprint, {"text": "a" * 64}, _RESULT)

    def checked() -> Planned:
        opening = make_opening(key, preset("default"), plan)
        entry = next_entry(None, key.key_id, commitment_of(key, opening), datetime.now(UTC))
        return check_opening(entry, key, opening, tested)

    if message:
        with pytest.raises(CommitmentError, match=re.escape(message)):
            checked()
    else:
        planned = checked()
        assert {*planned.compared, *planned.others} == plan.keys()
        assert set(planned.others) <= {"who decides"}


def test_a_plan_for_tests_with_decoys_is_not_met_by_one_without(place: Path) -> None:
    key = load_key(place / "k.json")
    opening = make_opening(key, preset("default"), {"n_decoys": 99, "min_pairs": 1})
    entry = next_entry(None, key.key_id, commitment_of(key, opening), datetime.now(UTC))
    options = {"alpha": 1e-6, "score": None, "tokens": False}
    tested = Examined("locate", options, preset("default").fingerprint, {}, {"kind": "segments"})
    with pytest.raises(CommitmentError, match="scored no pairs that are counted"):
        check_opening(entry, key, opening, tested)
    with pytest.raises(CommitmentError, match="n_decoys = 99, the test left it out"):
        check_opening(entry, key, opening, replace(tested, result={"n_scored": 9}))


def test_a_plan_binds_the_inputs_before_the_test_is_run(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = place / "text.txt"
    plan = {"inputs": {"text": "sha256:" + hashlib.sha256(text.read_bytes()).hexdigest()}}
    key = load_key(place / "k.json")
    commit(tmp_path / "log.jsonl", tmp_path / "o.json", key, preset("default"), plan)
    options = ("--commitments", tmp_path / "log.jsonl", "--opening", tmp_path / "o.json")
    case = bundled(place, f"inputs-{tmp_path.name}", "detect", "text.txt", options=options)
    found = verified(case, place, "--opening", tmp_path / "o.json")
    assert "key, config, inputs as committed" in str(found["checks"])
    assert found["verified"]

    def run_nothing(*given: object, **named: object) -> None:
        raise AssertionError

    monkeypatch.setattr(writing, "run_command", run_nothing)
    words = ["bundle", "-o", tmp_path / "case", "--sign", place / "s.pem", *options, "--", "detect"]
    done = run(*words, place / "prompt.txt", "--key", place / "k.json", "--tokenizer",
               place / "tokenizer.json")  # fmt: skip
    assert "the input 'text' is 'sha256:" in done.output


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


def _adopt(case: Path, place: Path, log: Path, created: str | None = None) -> None:
    """Let the signer put a log into a bundle that was made without."""
    (case / "commitments").mkdir()
    for path in log.parent.glob("log.jsonl*"):
        shutil.copy(path, case / "commitments" / path.name)
    entry = read_log(log)[-1]
    said = {"entry": entry.sequence, "commitment": entry.commitment}

    def changed(manifest: dict[str, Any], result: dict[str, Any]) -> None:
        manifest.update(commitment=said, created=created or manifest["created"])

    forged(case, place, changed)


def _log_of(folder: Path, key: Key, time: datetime) -> Path:
    """A plan that fits the test; its writer chooses what the clock says."""
    opening = make_opening(key, preset("default"), {"alpha": 1e-6, "n_decoys": 99})
    save_opening(opening, folder / "o.json")
    append(folder / "log.jsonl", key.key_id, commitment_of(key, opening), now=time)
    return folder / "log.jsonl"


def test_a_commitment_made_after_the_test_is_found(case: Path, place: Path, tmp_path: Path) -> None:
    created = datetime.fromisoformat(json.loads((case / "bundle.json").read_text())["created"])
    log = _log_of(tmp_path, load_key(place / "k.json"), created + timedelta(seconds=1))
    _adopt(case, place, log)
    assert "after the bundle was made" in failed(verified(case, place))["commitment"]


def test_a_commitment_made_after_the_test_and_dated_back_is_found_by_its_stamp(
    case: Path, place: Path, tmp_path: Path, authority: Authority
) -> None:
    log = _log_of(tmp_path, load_key(place / "k.json"), datetime(2020, 1, 1, tzinfo=UTC))
    _stamp(authority, log, 1)
    _adopt(case, place, log, "2021-01-01T00:00:00Z")
    opening = ["--opening", tmp_path / "o.json"]
    found = verified(case, place, *opening)
    # Without the authority there is the signer's word alone, and the line says so.
    assert "commitment of 2020-01-01 by the signer's word, opened" in found["line"]
    found = verified(case, place, *opening, "--tsa-certificate", authority.root)
    assert "after the bundle was made (2021-01-01" in failed(found)["time stamps"]
    assert found["exit_code"] == 1


def test_the_published_head_is_compared_with_the_log(
    bound: Path, place: Path, committed: Path
) -> None:
    digests = [entry.digest for entry in read_log(committed / "log.jsonl")]
    for head in (digests[2], digests[1].removeprefix("sha256:")):
        found = verified(bound, place, "--head", head)
        assert found["exit_code"] == 0
        assert "head as given" in found["line"]
    # Published before the commitment, and of another log.
    assert "does not cover" in failed(verified(bound, place, "--head", digests[0]))["head"]
    found = verified(bound, place, "--head", "0" * 64)
    assert "not the log that was published" in failed(found)["head"]
    assert found["exit_code"] == 1
    assert run("verify", bound, "--head", "x").exit_code == 2
    assert digests[2] in run("verify", bound, "-v").stdout


def test_what_was_asked_for_and_is_not_there_fails(
    case: Path, place: Path, committed: Path
) -> None:
    found = verified(case, place, "--opening", committed / "o.json")
    assert "rests on no commitment" in failed(found)["commitment"]
    assert "commitment" in failed(verified(case, place, "--head", "0" * 64))
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
    assert "commitment stamped 20" in found["line"]
    assert "commitment of" not in found["line"]
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    said = f"made not before {day} by time stamp ({day} by the signer's word), recomputed"
    assert said in found["line"]
    # Without the certificate no time is shown that nothing proves.
    assert "made" not in verified(case, place)["line"]
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


def _made(found: dict[str, Any]) -> tuple[str, str]:
    return next((c["outcome"], c["detail"]) for c in found["checks"] if c["name"] == "made")


def test_when_a_bundle_was_made_is_shown_by_a_stamp_over_it_or_not_at_all(
    case: Path, place: Path, authority: Authority, tmp_path: Path
) -> None:
    created = json.loads((case / "bundle.json").read_text())["created"]
    word = f"{datetime.fromisoformat(created):%Y-%m-%d %H:%M:%S} UTC by the signer's word"
    assert _made(verified(case, place)) == ("not_done", f"{word}, which nothing proves")
    stamp = tmp_path / "case.tsr"
    authority.openssl(
        *("ts", "-query", "-data", str(case / "evidence.dsse.json"), "-sha256", "-cert"),
        *("-out", str(tmp_path / "case.tsq")),
    )
    stamp.write_bytes(authority.answer((tmp_path / "case.tsq").read_bytes()))
    options = ["--stamp", stamp, "--tsa-certificate", authority.root]
    found = verified(case, place, *options)
    outcome, detail = _made(found)
    assert outcome == "passed"
    assert detail.startswith(f"{word}, which is no proof; by time stamps: nothing shows since when")
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    assert f"made by {day} by time stamp ({created[:10]} by the signer's word)" in found["line"]
    assert found["exit_code"] == 0
    assert run("verify", case, "--stamp", stamp).exit_code == 2

    def dated(time: str) -> None:
        forged(case, place, lambda m, r: m.update(created=time))

    # Of another bundle: the same test, signed once more.
    dated(created)
    found = verified(case, place, *options)
    assert "and evidence.dsse.json has the hash" in failed(found)["made"]
    assert found["exit_code"] == 1
    dated("2026-99-99T00:00:00Z")
    assert "is no time" in failed(verified(case, place))["made"]
    dated("2999-01-01T00:00:00Z")
    assert "later than this machine's clock" in _made(verified(case, place))[1]
    authority.openssl(
        *("ts", "-query", "-data", str(case / "evidence.dsse.json"), "-sha256", "-cert"),
        *("-out", str(tmp_path / "case.tsq")),
    )
    stamp.write_bytes(authority.answer((tmp_path / "case.tsq").read_bytes()))
    assert "yet it was stamped at 20" in failed(verified(case, place, *options))["made"]
