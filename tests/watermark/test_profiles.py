"""Profile files: what comes back, and what is refused."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from watermark.config import preset
from watermark.errors import ConfigError
from watermark.keyring.key_files import save_key
from watermark.keys import EngineKey, SecretKey
from watermark.profiles import Profile, load_profile, load_profiles

KEY = SecretKey(bytes(range(32)))
PROFILE = Profile(
    "november",
    "vLLM 0.33.0",
    "smollm2",
    KEY.key_id,
    preset("gumbel"),
    datetime.date(2026, 11, 1),
    datetime.date(2026, 11, 30),
)


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.profile.json").write_text(json.dumps(PROFILE.to_dict()))
    assert load_profile(tmp_path / "a.profile.json") == PROFILE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "x"}, "expected a profile"),
        ({"colour": 1}, "unknown profile fields: colour"),
        ({"name": ""}, "must be text"),
        ({"engine": 3}, "must be text"),
        ({"config": {}}, "expected a config"),
        ({"served_from": "yesterday"}, "is written 2026-11-30"),
        ({"served_from": 7}, "is written 2026-11-30"),
        ({"served_until": "2025-01-01"}, "served until"),
    ],
)
def test_a_damaged_profile_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "bad.profile.json"
    path.write_text(json.dumps({**PROFILE.to_dict(), **change}))
    with pytest.raises(ConfigError, match=said) as caught:
        load_profile(path)
    assert "bad.profile.json" in str(caught.value)


def test_a_folder_gives_each_profile_its_key(tmp_path: Path) -> None:
    engine = EngineKey([15485863])
    other = Profile("december", "transformers 5", "smollm2", engine.key_id, preset("gumbel"))
    for profile in (PROFILE, other):
        (tmp_path / f"{profile.name}.profile.json").write_text(json.dumps(profile.to_dict()))
    (tmp_path / "keys").mkdir()
    save_key(KEY, tmp_path / "keys" / "a.key.json")
    save_key(engine, tmp_path / "keys" / "b.key.json")
    served = load_profiles(tmp_path)
    assert [p.name for p, _ in served] == ["december", "november"]
    assert [k for _, k in served] == [engine, KEY]


def test_two_profiles_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.profile.json").write_text(json.dumps(PROFILE.to_dict()))
    with pytest.raises(ConfigError, match="several profiles"):
        load_profiles(tmp_path)


def test_no_secret_stands_in_a_profile() -> None:
    written = json.dumps(PROFILE.to_dict())
    assert bytes(range(32)).hex() not in written
    assert PROFILE.key_id in written
