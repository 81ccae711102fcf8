"""Secrets: derivation, files, and what never shows."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vectors import regenerate
from watermark.errors import ConfigError, DocumentError, KeyFileError
from watermark.keyring.key_files import load_key, load_secret, save_key
from watermark.keys import EngineKey, Key, SecretKey
from watermark.storage.files import atomic_writer

SECRET = bytes(range(32))
KEY = SecretKey(SECRET)
SPELLINGS = (SECRET.hex(), base64.b64encode(SECRET).decode(), repr(SECRET)[2:20])


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    save_key(KEY, tmp_path / "k.json")
    assert (tmp_path / "k.json").stat().st_mode & 0o777 == 0o600
    assert load_key(tmp_path / "k.json") == KEY
    assert [p.name for p in tmp_path.iterdir()] == ["k.json"]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    save_key(KEY, tmp_path / "k.json")
    with pytest.raises(KeyFileError, match="exists already"):
        save_key(SecretKey.generate(), tmp_path / "k.json")
    assert load_key(tmp_path / "k.json") == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    save_key(KEY, tmp_path / "k.json")
    (tmp_path / "k.json").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(tmp_path / "k.json")


def _damage(text: str) -> dict[str, bytes]:
    payload = json.loads(text)
    return {
        "empty": b"",
        "truncated": text[:40].encode(),
        "binary": bytes(range(128, 256)),
        "list": b"[1, 2]",
        "wrong format": json.dumps({**payload, "format": "other"}).encode(),
        "bad base64": json.dumps({**payload, "secret": "!!"}).encode(),
        "short secret": json.dumps({**payload, "secret": "AAEC"}).encode(),
        "number": json.dumps({**payload, "secret": 7}).encode(),
        "other key id": json.dumps({**payload, "key_id": "hm1-00"}).encode(),
    }


@pytest.mark.parametrize("damage", list(_damage('{"format":"","key_id":"","secret":"        "}')))
def test_a_damaged_file_is_refused_without_quoting_it(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "k.json"
    save_key(KEY, path)
    path.write_bytes(_damage(path.read_text())[damage])
    with pytest.raises(KeyFileError) as caught:
        load_key(path)
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value).format(chain=False)
    ) + str(caught.value)
    assert not any(spelling in shown for spelling in SPELLINGS)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="heirmark keys new"):
        load_key(tmp_path / "none.json")


def test_the_secret_never_shows() -> None:
    shown = f"{KEY!r} {KEY} {KEY.derive(epoch='e')!r} {vars(type(KEY)).keys()}"
    assert not any(spelling in shown for spelling in SPELLINGS)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)
    assert copy.deepcopy(KEY) is KEY
    assert copy.copy(KEY) is KEY


def test_derivation_is_hkdf_expand() -> None:
    """RFC 5869, section 2.3, one block: HMAC-SHA256(secret, info | 0x01)."""
    parts = [b"subkey", b"prf heirmark-1"]
    info = b"heirmark-1" + b"".join(len(p).to_bytes(4, "little") + p for p in parts)
    expected = hmac.new(SECRET, info + b"\x01", hashlib.sha256).digest()[:16]
    assert KEY.subkey("prf heirmark-1", 16) == expected


def test_frozen_key_ids() -> None:
    frozen = json.loads((regenerate.FOLDER / "prf_heirmark_1.json").read_text(encoding="utf-8"))
    assert KEY.key_id == frozen["key_id"]
    derived = KEY.derive(model="m", epoch="2026-11", cohort="c", account="a", purpose="p")
    assert derived.key_id == frozen["derived_key_id"]


labels = st.text(max_size=6)


@given(a=st.tuples(labels, labels, labels), b=st.tuples(labels, labels, labels))
def test_different_labels_give_different_keys(
    a: tuple[str, str, str], b: tuple[str, str, str]
) -> None:
    if not any(a) or not any(b):
        return
    first = KEY.derive(model=a[0], epoch=a[1], account=a[2])
    second = KEY.derive(model=b[0], epoch=b[1], account=b[2])
    assert (first == second) == (a == b)
    assert (first.key_id == second.key_id) == (a == b)


def test_derivation_without_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one of"):
        KEY.derive()
    with pytest.raises(ConfigError, match="32 bytes"):
        SecretKey(b"short")


def test_a_secret_in_the_wrong_field_is_not_printed(tmp_path: Path) -> None:
    path = tmp_path / "swapped.key.json"
    save_key(SecretKey(bytes(range(32))), path)
    payload = json.loads(path.read_text())
    payload["key_id"] = payload["secret"]
    path.write_text(json.dumps(payload))
    with pytest.raises(KeyFileError) as caught:
        load_key(path)
    assert payload["secret"] not in str(caught.value)


@pytest.mark.parametrize("key", [SecretKey(bytes(range(32))), EngineKey([5])])
def test_no_output_takes_a_key_files_place(tmp_path: Path, key: Key) -> None:
    path = tmp_path / "a.key.json"
    save_key(key, path)
    before = path.read_bytes()
    with (
        pytest.raises(DocumentError, match="is a key file or an opening"),
        atomic_writer(path) as file,
    ):
        file.write("{}")
    assert path.read_bytes() == before


ENGINE_KEY = EngineKey([15485863, 2**64 - 1])


def test_an_engines_key_survives_its_file(tmp_path: Path) -> None:
    save_key(ENGINE_KEY, tmp_path / "e.key.json")
    assert (tmp_path / "e.key.json").stat().st_mode & 0o777 == 0o600
    read = load_key(tmp_path / "e.key.json")
    assert read == ENGINE_KEY
    assert read.key_id == ENGINE_KEY.key_id


def test_an_engines_key_id_cannot_be_guessed() -> None:
    """The same short key has another key id each time: trying all keys finds none."""
    assert EngineKey([42]).key_id != EngineKey([42]).key_id
    assert EngineKey([42]) == EngineKey([42])
    assert hash(EngineKey([42])) == hash(EngineKey([42]))


def test_an_engines_key_never_shows() -> None:
    shown = f"{ENGINE_KEY!r} {ENGINE_KEY}"
    assert not any(str(i) in shown for i in ENGINE_KEY.integers)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ENGINE_KEY)
    assert copy.deepcopy(ENGINE_KEY) is ENGINE_KEY


@pytest.mark.parametrize("integers", [[], [-1], [2**64], [3, -2]])
def test_an_engines_key_out_of_range_is_refused(integers: list[int]) -> None:
    with pytest.raises(ConfigError, match="2\\^64") as caught:
        EngineKey(integers)
    assert not any(str(i) in str(caught.value) for i in integers if abs(i) > 3)


@pytest.mark.parametrize(
    "damage",
    [
        {"integers": []},
        {"integers": ["x"]},
        {"integers": None},
        {"salt": "AA=="},
        {"integers": ["15485863", "7"]},
    ],
)
def test_a_damaged_engine_key_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    path = tmp_path / "e.key.json"
    save_key(ENGINE_KEY, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    with pytest.raises(KeyFileError) as caught:
        load_key(path)
    assert "15485863" not in str(caught.value)


def test_nothing_is_derived_from_an_engines_key(tmp_path: Path) -> None:
    save_key(ENGINE_KEY, tmp_path / "e.key.json")
    with pytest.raises(KeyFileError, match="another engine's key"):
        load_secret(tmp_path / "e.key.json")
