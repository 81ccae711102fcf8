"""Commitments: what they bind, what they hide, and what never shows."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.commitments.commitment import Opening, canonical_json, commitment_of, make_opening
from watermark.config import preset
from watermark.errors import CommitmentError
from watermark.keys import EngineKey, Key, SecretKey

KEY = SecretKey(bytes(range(32)))
ENGINE_KEY = EngineKey([15485863], bytes(16))
CONFIG = preset("default")
PLAN = {"alpha": 1e-6, "score": "typical", "min_pairs": 1000}
OPENING = Opening(KEY.key_id, bytes(range(32)), '{"a":1}', '{"alpha":1e-06}')


def test_the_frozen_commitment() -> None:
    """SHA-256 over parts with their lengths; the key's part is HKDF-Expand (RFC 5869), in words."""
    info = [b"subkey", b"commitment heirmark-1"]
    salted = b"heirmark-1" + b"".join(len(p).to_bytes(4, "little") + p for p in info)
    material = hmac.new(KEY.secret, salted + b"\x01", hashlib.sha256).digest()
    parts = [
        b"heirmark-commitment-1", KEY.key_id.encode(), material, OPENING.salt, b'{"a":1}',
        b'{"alpha":1e-06}',
    ]  # fmt: skip
    message = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    expected = "sha256:" + hashlib.sha256(message).hexdigest()
    assert commitment_of(KEY, OPENING) == expected
    assert expected == "sha256:e951b5d52fe0b0f7ab5349c39f13f05124b27f93c937f5fe29ad4c3cbdc7fdf4"


def test_an_engine_keys_commitment_needs_the_salt_of_its_key_id() -> None:
    """Else a published opening would let the few bits of such a key be tried out."""
    opening = make_opening(ENGINE_KEY, CONFIG, PLAN)
    message = b"commitment heirmark-1" + (15485863).to_bytes(8, "little")
    material = hmac.digest(bytes(16), message, "sha256")
    parts = [
        b"heirmark-commitment-1", ENGINE_KEY.key_id.encode(), material, opening.salt,
        opening.config.encode(), opening.plan.encode(),
    ]  # fmt: skip
    joined = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    assert commitment_of(ENGINE_KEY, opening) == "sha256:" + hashlib.sha256(joined).hexdigest()
    other_salt = EngineKey([15485863], bytes(15) + b"\x01")
    moved = dataclasses.replace(opening, key_id=other_salt.key_id)
    assert commitment_of(other_salt, moved) != commitment_of(ENGINE_KEY, opening)


@pytest.mark.parametrize(
    "change",
    [
        {"salt": bytes(32)},
        {"config": '{"a":2}'},
        {"plan": '{"alpha":1e-05}'},
        # The same bytes in another place.
        {"config": '{"a":1}{', "plan": '"alpha":1e-06}'},
    ],
)
def test_each_part_counts(change: dict[str, Any]) -> None:
    assert commitment_of(KEY, dataclasses.replace(OPENING, **change)) != commitment_of(KEY, OPENING)


def test_a_key_id_alone_does_not_bind() -> None:
    """Two keys with one id, which their maker can find, have two commitments."""
    other = SecretKey(bytes(32))
    other._key_id = KEY.key_id
    assert commitment_of(other, OPENING) != commitment_of(KEY, OPENING)


def test_another_keys_opening_is_refused() -> None:
    with pytest.raises(CommitmentError, match="belongs to the key"):
        commitment_of(ENGINE_KEY, OPENING)


@pytest.mark.parametrize("key", [KEY, ENGINE_KEY], ids=["ours", "an engine's"])
def test_the_same_twice_looks_different(key: Key) -> None:
    """Nobody can try out configs and plans, or see that two keys share them."""
    made = [make_opening(key, CONFIG, PLAN) for _ in range(2)]
    assert made[0].salt != made[1].salt
    assert commitment_of(key, made[0]) != commitment_of(key, made[1])


def test_an_opening_survives_json() -> None:
    opening = make_opening(
        KEY, CONFIG, {"note": "Ä \u2028", "levels": [1e-6, 0.05, 3], "deep": {"z": 1, "a": None}}
    )
    again = Opening.from_dict(json.loads(json.dumps(opening.to_dict(), indent=3)))
    assert again == opening
    assert commitment_of(KEY, again) == commitment_of(KEY, opening)
    assert again.watermark_config == CONFIG


def test_an_opening_does_not_show_its_salt() -> None:
    opening = make_opening(KEY, CONFIG, PLAN)
    shown = repr(opening)
    assert opening.key_id in shown
    for spelling in (
        repr(opening.salt)[2:12],
        opening.salt.hex(),
        base64.b64encode(opening.salt).decode(),
    ):
        assert spelling not in shown


@pytest.mark.parametrize(
    "plan", [{}, {"alpha": float("nan")}, {"x": object()}, {"x": "y" * 70_000}]
)
def test_plans_that_say_nothing_or_too_much(plan: dict[str, Any]) -> None:
    with pytest.raises(CommitmentError):
        make_opening(KEY, CONFIG, plan)


GOOD = make_opening(KEY, CONFIG, PLAN).to_dict()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "heirmark-opening-2"}, "format"),
        ({"extra": 1}, "no others"),
        ({"salt": "!"}, "not base64"),
        ({"salt": 7}, "not base64"),
        ({"salt": base64.b64encode(bytes(16)).decode()}, "32 bytes, got 16"),
        ({"key_id": None}, "key_id"),
        ({"config": "x"}, "config"),
        ({"plan": []}, "test plan"),
        ({"plan": {}}, "test plan"),
    ],
)
def test_damaged_openings(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(CommitmentError, match=expected):
        Opening.from_dict(GOOD | change)


@pytest.mark.parametrize("payload", [None, [], "x", {}, {"format": "heirmark-opening-1"}])
def test_what_is_no_opening(payload: Any) -> None:
    with pytest.raises(CommitmentError):
        Opening.from_dict(payload)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(values)
def test_canonical_json_is_one_writing(value: Any) -> None:
    written = canonical_json(value)
    assert written.isascii()
    assert json.loads(written) == value
    assert canonical_json(json.loads(written)) == written
