"""Configs: presets, fingerprints, and what cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vectors import regenerate
from watermark.channels import ReasoningChannel
from watermark.config import PRESETS, WatermarkConfig, load_config, preset
from watermark.errors import ConfigError
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str, tmp_path: Path) -> None:
    config = preset(name).bound_to("sha256:00")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_dict()))
    assert load_config(path) == config
    assert load_config(path).fingerprint == config.fingerprint != preset(name).fingerprint


def test_fingerprints_are_frozen() -> None:
    frozen = json.loads((regenerate.FOLDER / "schemes.json").read_text(encoding="utf-8"))
    assert {n: c.fingerprint for n, c in PRESETS.items()} == frozen["fingerprints"]


def test_what_is_spared_is_written_only_where_it_is_set(tmp_path: Path) -> None:
    plain = preset("default")
    spared = replace(plain, min_entropy=0.5, reasoning=ReasoningChannel((7,), (8, 9), False, True))
    assert {"min_entropy", "reasoning"} == set(spared.to_dict()) - set(plain.to_dict())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(spared.to_dict()))
    assert load_config(path) == spared
    fingerprints = {
        config.fingerprint
        for config in (
            plain,
            spared,
            replace(spared, min_entropy=0.0),
            replace(spared, min_entropy=0.6),
            replace(spared, reasoning=None),
            replace(spared, reasoning=ReasoningChannel((7,), (8, 9), True, True)),
        )
    }
    assert len(fingerprints) == 6
    # An integer and a float are the same gate, and have one fingerprint.
    one = {**plain.to_dict(), "min_entropy": 1}
    assert WatermarkConfig.from_dict(one).fingerprint == replace(plain, min_entropy=1.0).fingerprint
    assert replace(plain, min_entropy=0).fingerprint == plain.fingerprint
    assert plain.leaves == ""
    assert spared.leaves == "tokens of less than 0.5 nats and reasoning"


@pytest.mark.parametrize("value", [-0.1, 5.1, 10**400, float("nan"), float("inf"), True, "1", None])
def test_a_gate_is_a_number_of_nats(value: object) -> None:
    with pytest.raises(ConfigError, match="min_entropy must lie in"):
        WatermarkConfig.from_dict({**preset("default").to_dict(), "min_entropy": value})


@pytest.mark.parametrize("width", [-1, 0, 17])
def test_context_width_has_limits(width: int) -> None:
    with pytest.raises(ConfigError, match="context_width"):
        WatermarkConfig(Gumbel(), context_width=width)


def test_only_red_green_goes_without_context() -> None:
    assert WatermarkConfig(RedGreen(), context_width=0).context_width == 0


@pytest.mark.parametrize(
    "change",
    [
        {"format": "heirmark-config-9"},
        {"extra": 1},
        {"context_width": "2"},
        {"context_width": True},
        {"scheme": "gumbel"},
        {"scheme": {"name": "unknown"}},
        {"scheme": {"name": "gumbel", "x": 1}},
        {"tokenizer": 5},
        {"prf": "other"},
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        WatermarkConfig.from_dict({**preset("default").to_dict(), **change})


@pytest.mark.parametrize("missing", ["scheme", "context_width", "tokenizer", "prf"])
def test_a_missing_field_is_named(missing: str) -> None:
    payload = preset("default").to_dict()
    del payload[missing]
    with pytest.raises(ConfigError, match=missing):
        WatermarkConfig.from_dict(payload)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.json")


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tracer"):
        preset("best")
