"""`heirmark commitments` through click: from a birth to a reveal, and what does not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.authority import Authority, make_authority
from watermark.cli import heirmark
from watermark.config import preset
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

KEY = SecretKey(bytes(range(32)))
_ADD = ["add", "log", "--key", "k.key.json", "--opening", "k.opening.json"]
_VERIFY = ["verify", "log", "--key", "k.key.json", "--opening", "k.opening.json"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_key(KEY, "k.key.json")
    save_key(SecretKey(bytes(32)), "other.key.json")


def _run(*arguments: str, fails: bool = False) -> str:
    done = CliRunner().invoke(heirmark, ["commitments", *arguments])
    assert (done.exit_code != 0) == fails, done.output
    if fails:
        assert isinstance(done.exception, SystemExit), done.exception
        assert len(done.output.strip().splitlines()) == 1
    return done.output


def _json(*arguments: str) -> dict[str, Any]:
    payload = json.loads(_run(*arguments, "--json"))
    assert isinstance(payload, dict)
    return payload


def test_one_command_verifies_a_reveal() -> None:
    shown = _run(*_ADD, "--alpha", "1e-6", "--score", "typical", "--min-pairs", "1000")
    assert f"entry 0 of log commits to the key {KEY.key_id}" in shown
    shown = _run(*_VERIFY)
    assert len(shown.splitlines()) == 1
    assert shown.startswith(f"verified: entry 0 commits to the key {KEY.key_id}, config sha256:")
    assert 'plan {"alpha":1e-06,"min_pairs":1000,"score":"typical"}' in shown
    assert "is the provider's own word" in shown
    verified = _json(*_VERIFY)
    assert verified["config"] == preset("default").to_dict()
    assert verified["plan"] == {"alpha": 1e-6, "min_pairs": 1000, "score": "typical"}
    assert verified["time_stamp"] is None


def test_a_plan_from_a_file() -> None:
    Path("plan.json").write_text('{"score": "weak", "corpora": ["a", "b"]}')
    shown = _run(*_ADD, "--plan", "plan.json", "--alpha", "0.01", "--preset", "tracer")
    assert "is compared with alpha, score; corpora is for people to read" in shown
    verified = _json(*_VERIFY)
    assert verified["plan"] == {"score": "weak", "corpora": ["a", "b"], "alpha": 0.01}
    assert verified["config"] == preset("tracer").to_dict()


def test_plans_that_are_none() -> None:
    Path("plan.json").write_text('{"alpha": 0.5}')
    Path("list.json").write_text("[1]")
    assert "states at least one thing" in _run(*_ADD, fails=True)
    assert "says alpha, and so does" in _run(
        *_ADD, "--plan", "plan.json", "--alpha", "0.01", fails=True
    )
    assert "is no test plan" in _run(*_ADD, "--plan", "list.json", fails=True)
    assert not Path("log").exists()
    assert not Path("k.opening.json").exists()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"score": "gumbel"}, "one of own, typical, minimax, weak, got 'gumbel'"),
        ({"alpha": "1e-6"}, "alpha of a test plan is a number between 0 and 1, got '1e-6'"),
        ({"alpha": 1}, "between 0 and 1, got 1"),
        ({"n_decoys": 99.0}, "an integer of at least 0, got 99.0"),
        ({"seed": True}, "an integer of at least 0, got True"),
        ({"min_pairs": 0}, "an integer of at least 1, got 0"),
    ],
)
def test_a_plan_that_no_test_could_keep_is_refused(plan: dict[str, Any], message: str) -> None:
    Path("plan.json").write_text(json.dumps(plan))
    assert message in _run(*_ADD, "--plan", "plan.json", fails=True)
    assert not Path("log").exists()
    assert not Path("k.opening.json").exists()


def test_a_score_that_no_command_takes_is_no_option() -> None:
    done = CliRunner().invoke(heirmark, ["commitments", *_ADD, "--score", "gumbel"])
    assert done.exit_code == 2
    assert "'own', 'typical', 'minimax', 'weak'" in done.output


def test_the_scores_are_those_of_the_tests() -> None:
    from detect.scoring.scorers import SCORES
    from watermark.commitments.plans import SCORE_NAMES

    assert tuple(SCORES) == SCORE_NAMES


def test_an_opening_with_a_plan_of_the_wrong_kind_is_not_read() -> None:
    _run(*_ADD, "--alpha", "1e-6")
    opening = json.loads(Path("k.opening.json").read_text())
    opening["plan"]["alpha"] = "1e-6"
    Path("k.opening.json").write_text(json.dumps(opening))
    assert "alpha of a test plan is a number" in _run(*_VERIFY, fails=True)


def test_what_was_changed_is_found() -> None:
    _run(*_ADD, "--alpha", "1e-6")
    opening = json.loads(Path("k.opening.json").read_text())
    opening["plan"]["alpha"] = 1e-3
    Path("k.opening.json").write_text(json.dumps(opening))
    assert "at least one of them was changed" in _run(*_VERIFY, fails=True)
    other = [*_VERIFY[:3], "other.key.json", *_VERIFY[4:]]
    assert "no commitment to the key" in _run(*other, fails=True)
    log = Path("log")
    log.write_bytes(log.read_bytes().replace(b'"sequence":0', b'"sequence":1'))
    assert "sequence number 1" in _run(*_VERIFY, fails=True)
    assert "sequence number 1" in _run("check", "log", fails=True)
    log.write_bytes(b"nonsense\n")
    assert "log, line 1: it is not JSON" in _run("check", "log", fails=True)
    assert "cannot read the log none" in _run("check", "none", fails=True)


def test_a_killed_writers_end_is_mended() -> None:
    _run(*_ADD, "--alpha", "1e-6")
    whole = Path("log").read_bytes()
    Path("log").write_bytes(whole + whole[:30])
    assert "ends in the middle of line 2" in _run("check", "log", fails=True)
    shown = _run("check", "log", "--repair")
    assert "30 bytes taken away" in shown
    assert "holds 1 entries in an unbroken chain" in shown
    assert Path("log").read_bytes() == whole
    Path("log").write_bytes(whole[:-1])
    assert "mended the end of log (its line break was missing)" in _run("check", "log", "--repair")
    assert Path("log").read_bytes() == whole


def test_a_refused_commitment_leaves_no_opening() -> None:
    _run(*_ADD, "--alpha", "1e-6")
    again = ["add", "log", "--key", "k.key.json", "--opening", "again", "--alpha", "1e-6"]
    assert "commits to the key" in _run(*again, fails=True)
    assert not Path("again").exists()
    Path("damaged").write_text("nonsense\n")
    damaged = ["add", "damaged", "--key", "other.key.json", "--opening", "o", "--alpha", "0.1"]
    _run(*damaged, fails=True)
    assert not Path("o").exists()
    # Of an entry that stands, and of an earlier run's, it stays.
    before = Path("k.opening.json").read_bytes()
    _run(*_ADD, "--alpha", "1e-6")
    assert Path("k.opening.json").read_bytes() == before


def test_a_known_head_must_be_there() -> None:
    _run(*_ADD, "--alpha", "1e-6")
    head = _json("check", "log")["head"]
    _run("add", "log", "--key", "other.key.json", "--opening", "o2", "--alpha", "0.1")
    assert "2 entries" in _run("check", "log", "--head", head)
    later = _json("check", "log")["head"]
    content = Path("log").read_bytes().splitlines(keepends=True)
    Path("log").write_bytes(content[0])
    assert "no line of log has the hash" in _run("check", "log", "--head", later, fails=True)


def test_time_stamps(authority: Authority) -> None:
    root = ["--tsa-certificate", str(authority.root)]
    _run(*_ADD, "--alpha", "1e-6")
    _run("add", "log", "--key", "other.key.json", "--opening", "o2", "--alpha", "0.1")
    assert "no time stamp stands beside" in _run("check", "log", *root)
    _run("request", "log", "--output", "r.tsq")
    Path("r.tsr").write_bytes(authority.answer(Path("r.tsq").read_bytes()))
    stamp = ["stamp", "log", *root, "--token"]
    assert "entries up to 1 existed by 20" in _run(*stamp, "r.tsr")
    assert Path("log.1.tsr").read_bytes() == Path("r.tsr").read_bytes()
    assert "has a time stamp already" in _run(*stamp, "r.tsr", fails=True)
    assert "1 time stamps beside it were not verified" in _run("check", "log")
    assert "entries up to 1 existed by 20" in _run("check", "log", *root)
    assert _json("check", "log", *root)["time_stamps"][0]["sequence"] == 1
    # The stamp of a later line covers the key's.
    assert "it existed by 20" in _run(*_VERIFY, *root)
    assert _json(*_VERIFY, *root)["time_stamp"]["sequence"] == 1
    Path("cut.tsr").write_bytes(Path("r.tsr").read_bytes()[:90])
    assert "no intact answer" in _run(*stamp, "cut.tsr", fails=True)
    assert "cannot read none.tsr" in _run(*stamp, "none.tsr", fails=True)
    Path("log").write_bytes(Path("log").read_bytes().splitlines(keepends=True)[0])
    assert "its end was cut off" in _run("check", "log", *root, fails=True)


def test_a_stamp_over_another_log(authority: Authority) -> None:
    _run(*_ADD, "--alpha", "1e-6")
    _run("add", "log2", "--key", "other.key.json", "--opening", "o2", "--alpha", "0.1")
    _run("request", "log2", "--output", "r.tsq", "--no-certificates")
    Path("r.tsr").write_bytes(authority.answer(Path("r.tsq").read_bytes()))
    chain = authority.root.read_bytes() + authority.certificate.read_bytes()
    Path("chain.pem").write_bytes(chain)
    stamp = ["--token", "r.tsr", "--tsa-certificate", "chain.pem"]
    assert "the hash of no line of this log" in _run("stamp", "log", *stamp, fails=True)
    assert "entries up to 0" in _run("stamp", "log2", *stamp)


def test_requests_say_where_to() -> None:
    Path("empty").touch()
    for options in ([], ["--tsa", "http://x"], ["-o", "r", "--tsa", "http://x"]):
        done = CliRunner().invoke(heirmark, ["commitments", "request", "log", *options])
        assert done.exit_code == 2
    assert "no head to stamp" in _run("request", "empty", "-o", "r", fails=True)
    _run(*_ADD, "--alpha", "1e-6")
    Path("root.pem").touch()
    nowhere = ["--tsa", "http://127.0.0.1:9/", "--tsa-certificate", "root.pem"]
    assert "gave no time stamp" in _run("request", "log", *nowhere, fails=True)


def test_a_registry_notes_the_commitment() -> None:
    runner = CliRunner()
    assert runner.invoke(heirmark, ["registry", "init", "-r", "r.db"]).exit_code == 0
    issue = ["registry", "issue", "-r", "r.db", "--master", "k.key.json", "--epoch", "e"]
    issued = json.loads(runner.invoke(heirmark, [*issue, "-o", "e.key.json", "--json"]).stdout)
    entry = _json(
        "add", "log", "--key", "e.key.json", "--opening", "o", "--alpha", "0.1", "-r", "r.db"
    )
    shown = runner.invoke(
        heirmark, ["registry", "show", issued["key_id"], "-r", "r.db", "--json"]
    ).stdout
    assert json.loads(shown)["commitment"] == {
        "commitment": entry["commitment"], "sequence": 0, "committed_at": entry["time"],
    }  # fmt: skip


def test_no_secret_is_printed_or_published(authority: Authority) -> None:
    from tests.watermark.registry.test_secrets import leaks

    shown = _run(*_ADD, "--alpha", "1e-6") + _run(*_VERIFY) + _run(*_VERIFY, "--json")
    shown += _run("check", "log", "--json") + _run(*_ADD, "--alpha", "1e-5", fails=True)
    _run("request", "log", "-o", "r.tsq")
    public = shown.encode() + Path("log").read_bytes() + Path("r.tsq").read_bytes()
    assert not leaks(public, KEY)
    salt = json.loads(Path("k.opening.json").read_text())["salt"]
    assert salt[:12].encode() not in public
    # The opening is revealed with the key or before it, and must not give the key away.
    assert not leaks(Path("k.opening.json").read_bytes(), KEY)
