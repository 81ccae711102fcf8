"""A gateway's rules; `tests/engines/test_litellm.py` runs them in the real proxy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.errors import ConfigError, RequestError
from watermark.serving.gateway import Gateway, load_gateway

TENANTS = {"team_id": {"t1": "a"}, "user_id": {"u1": "b", "t1": "c"}}
VLLM = Gateway("vllm", TENANTS, None)
TEAM = {"team_id": "t1", "user_id": "u1"}
SECRET = "31337" * 8


def _admitted(gateway: Gateway, body: dict[str, Any], who: Any = TEAM) -> dict[str, Any]:
    gateway.admit(body, who, "acompletion")
    return body


@pytest.mark.parametrize(
    ("who", "key"),
    [
        ({"team_id": "t1", "user_id": "u1"}, "a"),
        ({"team_id": "unknown", "user_id": "u1"}, "b"),
        ({"team_id": None, "user_id": "t1"}, "c"),
    ],
)
def test_the_first_attribute_that_is_known_decides(who: dict[str, object], key: str) -> None:
    body = _admitted(VLLM, {}, who)
    assert body == {"extra_body": {"vllm_xargs": {"heirmark_key_id": key}}}


@pytest.mark.parametrize("who", [{}, {"team_id": "u1"}, {"team_id": ["t1"]}, {"user_id": 1}])
def test_without_a_default_strangers_are_refused(who: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="knows no watermark key"):
        _admitted(VLLM, {}, who)
    shared = Gateway("vllm", TENANTS, "shared")
    body = _admitted(shared, {}, who)
    assert body["extra_body"]["vllm_xargs"] == {"heirmark_key_id": "shared"}


_VALUES = st.sampled_from([False, SECRET, {"key": SECRET}, {"heirmark_key": SECRET, "a": 1}])
_NAMES = st.sampled_from(
    ["watermarking", "watermark", "custom_logit_processor", "heirmark_key_id", "heirmark_x"]
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=3)
_ARGUMENTS = st.fixed_dictionaries({}, optional={"vllm_xargs": _OBJECTS, "custom_params": _OBJECTS})
_PARTS = st.tuples(_OBJECTS, _ARGUMENTS).map(lambda pair: {**pair[0], **pair[1]})
_BODIES = st.tuples(_PARTS, st.fixed_dictionaries({}, optional={"extra_body": _PARTS})).map(
    lambda pair: {**pair[0], **pair[1]}
)


@given(body=_BODIES, model=st.sampled_from(["m", "other"]))
def test_nothing_of_the_clients_gets_through(body: dict[str, Any], model: str) -> None:
    """Wherever it stands; arguments of other names keep what is theirs."""
    gateway = Gateway("vllm", TENANTS, None, frozenset({"other"}))
    asked = {**body, "model": model}
    gateway.admit(asked, TEAM, "acompletion")
    arguments = asked.get("extra_body", {}).get("vllm_xargs", {})
    assert arguments.pop("heirmark_key_id", None) == ("a" if model == "m" else None)
    for place in (asked, asked.get("extra_body", {})):
        assert not {"watermarking", "watermark", "custom_logit_processor"} & set(place)
        for inner in (place, place.get("vllm_xargs", {}), place.get("custom_params", {})):
            assert not any(name.startswith("heirmark") for name in inner)


@pytest.mark.parametrize(
    "field", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "user_config"]
)
@pytest.mark.parametrize("value", [["m"], [{"other": ["m"]}], [{"model": "m"}], 5, {"a": 1}, "m"])
@pytest.mark.parametrize("model", ["m", "other"])
def test_ways_around_the_model_that_was_asked_for_are_refused(
    field: str, value: object, model: str
) -> None:
    gateway = Gateway("vllm", TENANTS, "shared", frozenset({"other"}))
    with pytest.raises(RequestError, match=f'"{field}"'):
        gateway.admit({"model": model, field: value}, TEAM, "acompletion")


def test_the_clients_own_dictionary_stays_as_it_was() -> None:
    arguments = {"heirmark_key_id": "x", "a": 1}
    _admitted(VLLM, {"vllm_xargs": arguments})
    assert arguments == {"heirmark_key_id": "x", "a": 1}


def test_removed_fields_are_named_but_never_repeated() -> None:
    removed = VLLM.admit(
        {f"heirmark{SECRET}": 1, "watermark": {"key": SECRET}}, TEAM, "acompletion"
    )
    assert removed == ["watermark", "heirmark*"]


def test_sglang_gets_the_processor_and_the_key() -> None:
    gateway = Gateway("sglang", TENANTS, None, processor="dill")
    body = {"custom_logit_processor": "theirs", "custom_params": {"n": 1, "heirmark_key_id": "z"}}
    assert _admitted(gateway, body) == {
        "extra_body": {
            "custom_params": {"n": 1, "heirmark_key_id": "a"},
            "custom_logit_processor": "dill",
        }
    }


def test_an_engine_with_a_mark_of_its_own_only_loses_the_clients_fields() -> None:
    gateway = Gateway("own", {}, None)
    body = {"watermarking": False, "extra_body": {"watermark": {"key": "1f"}}, "n": 2}
    gateway.admit(body, {}, "aresponses")
    assert body == {"extra_body": {}, "n": 2}


def test_models_that_may_answer_unmarked_are_let_through() -> None:
    gateway = Gateway("vllm", TENANTS, None, frozenset({"other"}))
    body = {"model": "other", "vllm_xargs": {"heirmark_key_id": "x", "a": 1}}
    assert _admitted(gateway, body, {}) == {"model": "other", "vllm_xargs": {"a": 1}}


@pytest.mark.parametrize("model", ["m", "other,m", "openai/m", " other", None, 1, ["other"], {}])
def test_every_other_model_needs_a_key(model: object) -> None:
    """Broken, a name that is spelled otherwise would reach the engine without a key."""
    gateway = Gateway("vllm", TENANTS, None, frozenset({"other"}))
    with pytest.raises(RequestError, match="knows no watermark key"):
        _admitted(gateway, {"model": model}, {})
    marked = _admitted(gateway, {"model": model})
    assert marked["extra_body"]["vllm_xargs"] == {"heirmark_key_id": "a"}


@pytest.mark.parametrize("call_type", ["aembedding", "moderation", "arerank", "acreate_file"])
def test_calls_without_text_pass(call_type: str) -> None:
    body: dict[str, Any] = {"input": "x"}
    VLLM.admit(body, {}, call_type)
    assert body == {"input": "x"}


@pytest.mark.parametrize(
    "call_type", ["aresponses", "anthropic_messages", "acreate_batch", "pass_through_endpoint", "?"]
)
def test_calls_that_carry_no_key_are_refused(call_type: str) -> None:
    with pytest.raises(RequestError, match="do not carry a key"):
        VLLM.admit({}, TEAM, call_type)


@pytest.mark.parametrize("field", ["extra_body", "vllm_xargs", "custom_params"])
@pytest.mark.parametrize("value", ["x", 1, ["heirmark_key_id"], True])
def test_arguments_that_are_no_objects_are_refused(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=f'"{field}" must be an object'):
        VLLM.admit({field: value}, TEAM, "acompletion")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"engine": "tgi"}, "must be"),
        ({"tenants": {"end_user_id": {}}}, "not by 'end_user_id'"),
        ({"tenants": {"metadata": {}}}, "not by 'metadata'"),
        ({"tenants": {"team_id": {"a": 1}}}, "tables of names"),
        ({"tenants": []}, "tables of names"),
        ({"default": 1}, "text or null"),
        ({"unmarked_models": "m"}, "list of names"),
        ({"models": ["m"]}, "unknown fields models"),
        ({"engine": "own"}, "one key"),
        ({"engine": "sglang"}, '"processor" belongs'),
        ({"processor": "x"}, '"processor" belongs'),
        ({"format": "x"}, "expected a gateway's file"),
        ({"keys": {}}, "unknown fields keys"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    file = {
        "format": "heirmark-gateway-1", "engine": "vllm", "tenants": {"team_id": {"t": "a"}},
        "default": None,
    }  # fmt: skip
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(file))
    assert load_gateway(path) == Gateway("vllm", {"team_id": {"t": "a"}}, None)
    path.write_text(json.dumps({**file, **change}))
    with pytest.raises(ConfigError, match=says):
        load_gateway(path)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"format": "heirmark-gateway-1"}'])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_gateway(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_gateway(tmp_path / "nowhere.json")
