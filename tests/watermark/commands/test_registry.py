"""`heirmark registry` through click: what it prints, and one line for each error."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from watermark.cli import heirmark
from watermark.config import preset
from watermark.keyring.key_files import load_key, save_key
from watermark.keyring.labels import KeyLabels
from watermark.keys import SecretKey

MASTER = SecretKey(bytes(range(32)))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEIRMARK_REGISTRY", "r.db")
    save_key(MASTER, "m.key.json")
    _run("init")


def _run(*arguments: str, standard_input: str | None = None, fails: bool = False) -> str:
    done = CliRunner().invoke(heirmark, ["registry", *arguments], input=standard_input)
    assert (done.exit_code != 0) == fails, done.output
    if fails:
        assert isinstance(done.exception, SystemExit), done.exception
        assert len(done.output.strip().splitlines()) == 1
    return done.output


def _issue(account: str, *more: str) -> dict[str, Any]:
    shown = _run(
        "issue", "--master", "m.key.json", "--model", "m", "--epoch", "e", "--account", account,
        "--json", *more,
    )  # fmt: skip
    payload = json.loads(shown)
    assert isinstance(payload, dict)
    return payload


def test_issue_and_show() -> None:
    issued = _issue("a-1", "--output", "a.key.json")
    labels = KeyLabels("m", "e", account="a-1")
    assert load_key("a.key.json") == labels.key_from(MASTER)
    assert Path("a.key.json").stat().st_mode & 0o777 == 0o600
    assert issued["key_id"] == labels.key_from(MASTER).key_id
    assert issued["labels"] == labels.to_dict()
    assert issued["config"] == preset("default").fingerprint
    assert json.loads(_run("show", issued["key_id"], "--json")) == issued
    by_labels = ["--model", "m", "--epoch", "e", "--account", "a-1"]
    assert json.loads(_run("show", *by_labels, "--json")) == [issued]
    assert _run("show", *by_labels).split()[:2] == [issued["key_id"], "active"]


def test_a_master_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_MASTER", Path("m.key.json").read_text())
    shown = _run("issue", "--master", "env:A_MASTER", "--account", "a", "--json")
    assert json.loads(shown)["master_key_id"] == MASTER.key_id


def test_import_of_plain_text_and_of_json() -> None:
    Path("a.txt").write_text("a-1\r\n\n  Ärzte & Söhne  \na-1\n", encoding="utf-8")
    common = ["--master", "m.key.json", "--model", "m", "--epoch", "e", "--cohort", "c1"]
    shown = _run("import", "a.txt", *common)
    assert shown == "2 keys issued, 0 were there, 1 lines repeated, 0 accounts moved\n"
    lines = '{"account": "b", "cohort": "c2"}\n{"account": "a-1"}\n'
    done = json.loads(_run("import", "-", *common, "--json", standard_input=lines))
    assert done == {"n_issued": 1, "n_known": 1, "n_repeated": 0, "n_moved": 0}
    exported = [json.loads(line) for line in _run("export").splitlines()]
    common_labels = {"model": "m", "epoch": "e"}
    assert exported == [
        {**common_labels, "cohort": "c1", "account": "a-1"},
        {**common_labels, "cohort": "c1", "account": "Ärzte & Söhne"},
        {**common_labels, "cohort": "c2", "account": "b"},
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "names no accounts"),
        (" \n\n", "names no accounts"),
        ("a\nb\x00\n", "line 2: the account 'b\\x00' holds characters"),
        ('{"account": "a"}\nnonsense', "line 2: not JSON; expected a JSON object"),
        ('{"account": "a"}\n{"cohort": "c"}', 'line 2: expected a text in "account"'),
        ('{"account": 5}', "line 1: the labels of a key are texts"),
        ('{"user": "a"}', "line 1: unknown labels: user"),
        ('{"account": "a", "account": "b"}', "line 1: 'account' stands twice"),
        ('{"account": "a", "state": "revoked"}', "line 1: this key was revoked, and keys are"),
        ("x" * 300, "line 1: the account"),
    ],
)
def test_a_list_that_cannot_be_taken_writes_nothing(content: str, expected: str) -> None:
    Path("a.txt").write_text(content)
    assert expected in _run("import", "a.txt", "--master", "m.key.json", "--model", "m", fails=True)
    assert json.loads(_run("list", "--json")) == []


def test_from_epoch_to_epoch() -> None:
    for account in ("a", "b", "c"):
        _issue(account)
    shown = _run(
        "rotate", "--master", "m.key.json", "--model", "m", "--from", "e", "--to", "f", "--json"
    )
    assert json.loads(shown) == {"n_issued": 3, "n_retired": 3}
    assert "no active key" in _run(
        "rotate", "--master", "m.key.json", "--from", "e", "--to", "f", fails=True
    )
    active = json.loads(_run("list", "--state", "active", "--json"))
    assert [key["labels"]["epoch"] for key in active] == ["f", "f", "f"]
    # What trace will search: every key that ever marked a text.
    assert len(_run("export").splitlines()) == 6
    assert len(_run("export", "--epoch", "f", "--master", "m.key.json").splitlines()) == 3


def test_an_export_says_which_keys_are_out_of_service() -> None:
    for account in ("a", "b", "c"):
        _issue(account)
    _run("retire", "--account", "a", "--reason", "left")
    _run("revoke", "--account", "b", "--reason", "lost")
    revoked_at = json.loads(_run("list", "--account", "b", "--json"))[0]["revoked_at"]
    assert [json.loads(line) for line in _run("export").splitlines()] == [
        {"model": "m", "epoch": "e", "account": "a", "state": "retired"},
        {"model": "m", "epoch": "e", "account": "b", "state": "revoked", "revoked_at": revoked_at,
         "revoked_reason": "lost"},
        {"model": "m", "epoch": "e", "account": "c"},
    ]  # fmt: skip


def test_labels_of_several_masters_are_revoked_if_one_of_the_keys_is() -> None:
    save_key(SecretKey(bytes(32)), "other.key.json")
    _issue("a")
    other = ["--master", "other.key.json"]
    _run("issue", *other, "--model", "m", "--epoch", "e", "--account", "a")
    _run("revoke", *other, "--account", "a", "--reason", "lost")
    assert [json.loads(line).get("state") for line in _run("export").splitlines()] == ["revoked"]
    mine = _run("export", "--master", "m.key.json").splitlines()
    assert [json.loads(line).get("state") for line in mine] == [None]


def test_an_exported_file_is_its_owners_alone() -> None:
    _issue("a")
    assert _run("export", "--output", "out.jsonl") == "wrote out.jsonl: 1 keys\n"
    assert Path("out.jsonl").stat().st_mode & 0o777 == 0o600
    assert KeyLabels.from_dict(json.loads(Path("out.jsonl").read_text())).account == "a"


def test_out_of_service() -> None:
    first, second = _issue("a")["key_id"], _issue("b")["key_id"]
    assert _run("retire", first, "--reason", "closed") == "1 keys retired\n"
    assert _run("revoke", "--account", "b", "--reason", "leaked") == "1 keys revoked\n"
    assert "no active key" in _run("retire", second, "--reason", "x", fails=True)
    assert "say which keys" in _run("revoke", "--reason", "x", fails=True)
    listed = _run("list").splitlines()
    assert listed[0].startswith(f"{first}  retired")
    assert listed[0].endswith("(closed)")
    assert listed[1].endswith("(leaked)")


def test_counting() -> None:
    key_id = _issue("a")["key_id"]
    lines = "".join(
        json.dumps({"key_id": key_id, "n_exchanges": n, "n_tokens": 100 * n}) + "\n" for n in (2, 3)
    )
    shown = _run("count", "-", standard_input=lines)
    assert shown == "5 exchanges counted under 1 keys\n"
    assert "5 exchanges, 500 tokens" in _run("list")
    for wrong in ("[]", "{}", lines.replace("2", "-2"), "x"):
        assert "line 1: expected a JSON object" in _run(
            "count", "-", standard_input=wrong, fails=True
        )
    assert "is empty" in _run("count", "-", standard_input="", fails=True)
    unknown = lines.replace(key_id, "hm1-00")
    assert "never issued" in _run("count", "-", standard_input=unknown, fails=True)
    assert json.loads(_run("show", key_id, "--json"))["n_exchanges"] == 5


def test_an_overview() -> None:
    _issue("a")
    assert json.loads(_run("show", "--json")) == {
        "models": ["m"], "epochs": ["e"], "cohorts": [], "n_accounts": 1, "n_keys": {"active": 1},
    }  # fmt: skip
    assert "accounts  1" in _run("show")


def test_moving_an_account() -> None:
    _issue("a", "--cohort", "c1")
    again = ["issue", "--master", "m.key.json", "--model", "m", "--epoch", "e", "--account", "a"]
    assert "--move" in _run(*again, "--cohort", "c2", fails=True)
    assert "active" in _run(*again, "--cohort", "c2", "--move")


def test_a_move_names_each_account_once() -> None:
    _issue("a", "--cohort", "c1")
    lines = "".join(f'{{"account": "a", "cohort": "{c}"}}\n' for c in ("c1", "c2"))
    common = ["--master", "m.key.json", "--model", "m", "--epoch", "e", "--move"]
    shown = _run("import", "-", *common, standard_input=lines, fails=True)
    assert "the account 'a' is named in two cohorts of one epoch" in shown
    assert [key["state"] for key in json.loads(_run("list", "--json"))] == ["active"]


def test_an_empty_label_of_a_line_counts_before_the_option() -> None:
    common = ["--master", "m.key.json", "--cohort", "c"]
    lines = '{"account": "a", "cohort": ""}\n{"account": "b"}\n'
    _run("import", "-", *common, standard_input=lines)
    labels = [key["labels"] for key in json.loads(_run("list", "--json"))]
    assert labels == [{"account": "a"}, {"account": "b", "cohort": "c"}]


def test_labels_that_no_key_has_are_said() -> None:
    _issue("a")
    for more in ([], ["--json"]):
        assert "no key has exactly the labels 'a'" in _run(
            "show", "--account", "a", *more, fails=True
        )


def test_nothing_is_issued_whose_key_cannot_be_written() -> None:
    Path("taken").touch()
    issue = ["issue", "--master", "m.key.json", "--account", "a", "--output"]
    assert "taken exists already" in _run(*issue, "taken", fails=True)
    assert "no such folder" in _run(*issue, "no/such/folder", fails=True)
    assert json.loads(_run("list", "--json")) == []


def test_no_registry_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIRMARK_REGISTRY", "other.db")
    for command in (["show"], ["list"], ["issue", "--master", "m.key.json", "--account", "a"]):
        assert "make one: heirmark registry init" in _run(*command, fails=True)
    assert not Path("other.db").exists()


def test_another_engines_key_is_no_master() -> None:
    done = CliRunner().invoke(heirmark, ["keys", "import", "e.key.json"], input="15485863\n")
    assert done.exit_code == 0, done.output
    assert "another engine's key" in _run(
        "issue", "--master", "e.key.json", "--account", "a", fails=True
    )


def test_without_sqlalchemy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("watermark.registry.registry"):
            raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install 'heirmark[registry]'" in _run("show", fails=True)
