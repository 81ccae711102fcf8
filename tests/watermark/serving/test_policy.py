"""Who is marked with which key, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from watermark.channels import ReasoningChannel
from watermark.config import preset
from watermark.errors import ConfigError, FingerprintError, KeyFileError, RequestError
from watermark.keyring.key_files import save_key
from watermark.keys import EngineKey, SecretKey
from watermark.serving.policy import (
    KEY_ARGUMENT,
    OPT_OUT_ARGUMENT,
    Policy,
    RequestTerms,
    load_policy,
)

SHARED, TENANT, RETIRED = (SecretKey(bytes([i]) * 32) for i in (1, 2, 3))
KEYS = {"shared": SHARED, "tenant": TENANT, "retired": RETIRED}


def _policy(**more: Any) -> Policy:
    chosen = {"default": "shared", "selectable": frozenset({"tenant"}), **more}
    return Policy(chosen.pop("config", preset("default")), KEYS, **chosen)


def _asks(**arguments: object) -> RequestTerms:
    return RequestTerms(arguments)


def test_the_default_marks_who_names_none() -> None:
    assert _policy().rule(RequestTerms()) == ("marked", SHARED)


@pytest.mark.parametrize("name", ["tenant", TENANT.key_id])
def test_a_selectable_key_is_named_by_name_or_id(name: str) -> None:
    assert _policy().rule(_asks(**{KEY_ARGUMENT: name})).key == TENANT


@pytest.mark.parametrize("name", ["retired", RETIRED.key_id, "shared", "nobody", "", 7, ["tenant"]])
def test_any_other_key_is_refused_and_never_repeated(name: object) -> None:
    with pytest.raises(RequestError) as caught:
        _policy().rule(_asks(**{KEY_ARGUMENT: name}))
    assert not str(name) or str(name) not in str(caught.value).replace(KEY_ARGUMENT, "")


def test_a_key_in_the_request_is_refused() -> None:
    secret = SHARED.secret.hex()
    with pytest.raises(RequestError, match="keys are chosen on the server") as caught:
        _policy().rule(_asks(heirmark_key=secret))
    assert secret not in str(caught.value)


def test_arguments_of_others_do_not_matter() -> None:
    assert _policy().rule(_asks(priority=3, key="x")).status == "marked"


def test_without_a_default_a_name_is_needed() -> None:
    policy = _policy(default=None)
    with pytest.raises(RequestError, match=KEY_ARGUMENT):
        policy.rule(RequestTerms())
    assert policy.rule(_asks(**{KEY_ARGUMENT: "tenant"})).key == TENANT


def test_greedy_is_refused_unless_the_policy_lets_it_be_or_the_scheme_can() -> None:
    greedy = RequestTerms(greedy=True)
    with pytest.raises(RequestError, match="temperature above 0"):
        _policy().rule(greedy)
    assert _policy(greedy="unmarked").rule(greedy) == ("greedy", None)
    assert _policy(config=preset("red-green")).rule(greedy).status == "marked"


def test_what_an_engine_cannot_mark_is_refused_with_its_reason() -> None:
    beams = RequestTerms(unmarkable="beam search cannot be marked")
    with pytest.raises(RequestError, match="beam search cannot be marked"):
        _policy(config=preset("red-green")).rule(beams)
    assert _policy(greedy="unmarked").rule(beams) == ("unmarkable", None)


@pytest.mark.parametrize("value", [True, 1, 1.0, "true"])
def test_opting_out_is_for_the_policy_to_allow(value: object) -> None:
    asks = _asks(**{OPT_OUT_ARGUMENT: value})
    with pytest.raises(RequestError, match="marks all of its text"):
        _policy().rule(asks)
    assert _policy(opt_out="unmarked").rule(asks) == ("opted_out", None)


def test_opting_out_of_opting_out_is_marked_and_nonsense_is_refused() -> None:
    assert _policy().rule(_asks(**{OPT_OUT_ARGUMENT: False})).status == "marked"
    with pytest.raises(RequestError, match="true or false"):
        _policy().rule(_asks(**{OPT_OUT_ARGUMENT: "yes please"}))


def test_responses_too_short_for_a_context_are_told_apart() -> None:
    assert _policy().rule(RequestTerms(max_tokens=2)) == ("too_short", None)
    assert _policy().rule(RequestTerms(max_tokens=3)).status == "marked"


def test_contradictions_are_refused() -> None:
    for wrong in (
        {"default": "nobody"},
        {"selectable": frozenset({"nobody"})},
        {"default": None, "selectable": frozenset()},
        {"greedy": "maybe"},
        {"opt_out": "allow"},
    ):
        with pytest.raises(ConfigError):
            _policy(**wrong)
    with pytest.raises(ConfigError, match="another key's id"):
        Policy(preset("default"), {"a": SHARED, SHARED.key_id: TENANT}, "a")
    with pytest.raises(ConfigError, match="at least one key"):
        Policy(preset("default"), {}, None)
    with pytest.raises(FingerprintError):
        Policy(preset("default"), {"a": EngineKey([5])}, "a")


def _write(folder: Path, **changes: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(preset("default").to_dict()))
    if not (folder / "shared.json").exists():
        save_key(SHARED, folder / "shared.json")
    payload = {
        "format": "heirmark-policy-1",
        "config": "config.json",
        "keys": {"shared": "shared.json"},
        "default": "shared",
        **changes,
    }
    path = folder / "policy.json"
    path.write_text(json.dumps({k: v for k, v in payload.items() if v != "absent"}))
    return path


def test_a_policy_file_is_read_with_what_lies_beside_it(tmp_path: Path) -> None:
    policy = load_policy(_write(tmp_path))
    assert policy.config == preset("default")
    assert policy.rule(RequestTerms()) == ("marked", SHARED)
    assert policy.selectable == frozenset()
    assert (policy.greedy, policy.opt_out) == ("refuse", "refuse")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "heirmark-policy-2"},
        {"keys": "absent"},
        {"surprise": 1},
        {"keys": ["shared.json"]},
        {"keys": {"shared": 5}},
        {"default": 5},
        {"selectable": "shared"},
        {"config": None},
        {"config": "missing.json"},
        {"greedy": ["unmarked"]},
    ],
)
def test_damaged_policy_files_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load_policy(_write(tmp_path, **changes))


def test_missing_files_and_open_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_policy(tmp_path / "nowhere.json")
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_policy(tmp_path / "torn.json")
    path = _write(tmp_path)
    (tmp_path / "shared.json").chmod(0o644)
    with pytest.raises(KeyFileError, match="can be read by others"):
        load_policy(path)


def test_unmarked_reasoning_is_a_way_to_opt_out() -> None:
    """A client whose reasoning never ends would have an answer without a mark, called marked."""
    reasoning = ReasoningChannel((7,), (8,), is_marked=False)
    config = replace(preset("default"), reasoning=reasoning)
    with pytest.raises(ConfigError, match="opt_out"):
        _policy(config=config)
    assert _policy(config=config, opt_out="unmarked").config is config
    assert _policy(config=replace(config, reasoning=replace(reasoning, is_marked=True)))
