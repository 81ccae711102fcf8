"""Families of keys: read, derived, refused, and never shown."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from detect.tracing.named_keys import derived_keys, keys_of_folder, read_labels
from detect.tracing.texts.families import Account, KeyFamily, family_of
from watermark.errors import ConfigError, DocumentError, FingerprintError, KeyFileError
from watermark.keyring.key_files import save_key
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import ListedKey, Revocation
from watermark.keys import EngineKey, SecretKey
from watermark.prf import NATIVE

MASTER = SecretKey(bytes(range(32)))
NONE = KeyLabels()


def _labels(path: Path, common: KeyLabels) -> list[KeyLabels]:
    return [key.labels for key in read_labels(path, common)]


def test_labels_come_as_json_lines_or_as_one_account_a_line(tmp_path: Path) -> None:
    full = [KeyLabels("m", "e", "c", name) for name in ("ann", "bob", "cy\u2028d")]
    lines = [json.dumps(one.to_dict(), ensure_ascii=False) for one in full]
    (tmp_path / "a.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    assert _labels(tmp_path / "a.jsonl", NONE) == full
    (tmp_path / "a.txt").write_text("ann\r\n\n bob\n", encoding="utf-8")
    assert _labels(tmp_path / "a.txt", KeyLabels("m", "e", "c")) == full[:2]
    # What a line leaves open is filled in, what it says stays.
    (tmp_path / "c.jsonl").write_text('{"account": "ann"}\n{"account": "bob", "epoch": "f"}')
    assert _labels(tmp_path / "c.jsonl", KeyLabels(epoch="e")) == [
        KeyLabels(epoch="e", account="ann"), KeyLabels(epoch="f", account="bob"),
    ]  # fmt: skip
    # JSON under another name is not a list of accounts called '{"account": "ann"}'.
    (tmp_path / "b.txt").write_text(lines[0], encoding="utf-8")
    assert _labels(tmp_path / "b.txt", NONE) == full[:1]


def test_keys_are_those_that_the_provider_derives() -> None:
    labels = [KeyLabels("m", "e", "", f"a{i}") for i in range(3)]
    family = family_of(derived_keys(MASTER, labels), NATIVE)
    keys = [MASTER.derive(model="m", epoch="e", account=f"a{i}") for i in range(3)]
    assert [account.key_id for account in family.accounts] == [key.key_id for key in keys]
    assert [account.name for account in family.accounts] == ["m/e/a0", "m/e/a1", "m/e/a2"]
    assert np.array_equal(family.integers, np.stack([NATIVE.key_of(key) for key in keys]))


def test_a_folder_of_key_files_is_a_family(tmp_path: Path) -> None:
    keys = [SecretKey(bytes([i]) * 32) for i in range(3)]
    (tmp_path / "below").mkdir()
    for key, name in zip(keys, ("a", "b", "below/c"), strict=True):
        save_key(key, tmp_path / f"{name}.key.json")
    family = family_of(keys_of_folder(tmp_path), NATIVE)
    assert family.accounts == tuple(
        Account(name, key.key_id) for name, key in zip(("a", "b", "below/c"), keys, strict=True)
    )


def test_bad_lists_of_accounts_are_refused_by_line(tmp_path: Path) -> None:
    def read(name: str, content: bytes, common: KeyLabels = NONE) -> list[KeyLabels]:
        (tmp_path / name).write_bytes(content)
        return _labels(tmp_path / name, common)

    with pytest.raises(ConfigError, match=r"a\.jsonl, line 2: unknown labels: user"):
        read("a.jsonl", b'{"account": "x"}\n{"user": "y"}\n')
    with pytest.raises(ConfigError, match=r"line 3: not JSON"):
        read("a.jsonl", b'{"account": "x"}\n\n{"account"\n')
    with pytest.raises(ConfigError, match=r"line 1: .*texts"):
        read("a.jsonl", b'{"account": 3}\n')
    with pytest.raises(DocumentError, match="not UTF-8"):
        read("a.txt", b"ann\n\xff\n")
    with pytest.raises(DocumentError, match="cannot read"):
        read_labels(tmp_path / "none.txt", NONE)
    for content in (b"", b"\n \n"):
        with pytest.raises(ConfigError, match="at least one"):
            family_of(derived_keys(MASTER, read("empty.txt", content)), NATIVE)


def test_what_a_line_says_counts_before_what_is_common(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"account": "x", "cohort": ""}\n{"account": "y"}\n')
    assert _labels(tmp_path / "a.jsonl", KeyLabels(cohort="c")) == [
        KeyLabels(account="x"), KeyLabels(cohort="c", account="y"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"account": "x", "account": "y"}', "'account' stands twice"),
        ('{"account": "x", "state": "gone"}', "unknown state 'gone'"),
        ('{"account": "x", "state": true}', "are texts"),
        ('{"account": "x", "revoked_at": "2026-11-26"}', "go with a revoked key, not active"),
        ('{"account": "x", "state": "revoked", "revoked_at": "soon"}', "ISO 8601, got 'soon'"),
        ('{"state": "revoked"}', "needs at least one of"),
    ],
)
def test_states_that_cannot_be_are_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(ConfigError, match=rf"a\.jsonl, line 1: .*{message}"):
        read_labels(tmp_path / "a.jsonl", NONE)


def test_a_family_knows_which_keys_were_revoked(tmp_path: Path) -> None:
    gone = ListedKey(KeyLabels(account="b"), "revoked", Revocation("2026-11-26T05:00:00Z", "lost"))
    listed = [ListedKey(KeyLabels(account="a"), "retired"), gone]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(k.to_dict()) + "\n" for k in listed))
    read = read_labels(tmp_path / "a.jsonl", NONE)
    assert read == listed
    family = family_of(derived_keys(MASTER, read), NATIVE)
    assert family.is_revoked.tolist() == [False, True]
    assert family.accounts[1].revocation == gone.revocation


def test_who_stands_there_twice_is_refused() -> None:
    labels = [KeyLabels(account="a"), KeyLabels(account="b"), KeyLabels(account="a")]
    with pytest.raises(ConfigError, match="1 accounts are listed more than once, the first is 'a'"):
        family_of(derived_keys(MASTER, labels), NATIVE)


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        keys_of_folder(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no \*\.key\.json"):
        family_of(keys_of_folder(tmp_path), NATIVE)
    save_key(MASTER, tmp_path / "a.key.json")
    save_key(MASTER, tmp_path / "b.key.json")
    with pytest.raises(ConfigError, match="'b' and 'a' have the same key"):
        family_of(keys_of_folder(tmp_path), NATIVE)
    damaged = (tmp_path / "b.key.json").read_text().replace('"secret": "A', '"secret": "B')
    (tmp_path / "b.key.json").write_text(damaged)
    with pytest.raises(KeyFileError, match=r"b\.key\.json is damaged"):
        family_of(keys_of_folder(tmp_path), NATIVE)
    (tmp_path / "b.key.json").chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by others"):
        family_of(keys_of_folder(tmp_path), NATIVE)
    (tmp_path / "b.key.json").unlink()
    save_key(EngineKey([7]), tmp_path / "b.key.json")
    with pytest.raises(FingerprintError, match="another engine"):
        family_of(keys_of_folder(tmp_path), NATIVE)


def test_a_family_shows_no_secret() -> None:
    family = family_of(derived_keys(MASTER, [KeyLabels(account="a")]), NATIVE)
    secret = str(int(family.integers[0, 0]))
    for shown in (repr(family), str(family), repr(family.accounts), f"{family}"):
        assert secret not in shown
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            copied(family)
    assert not hasattr(family, "__dict__")


def test_no_keys_are_no_family() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        KeyFamily([], np.empty((0, 2), np.uint64))
