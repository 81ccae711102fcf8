"""Engines' own settings: what they mean, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from watermark.config import WatermarkConfig
from watermark.engine_settings import ENGINES, engine_config
from watermark.errors import ConfigError
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament

LEAST: dict[str, dict[str, Any]] = {
    "transformers-kgw": {"vocab_size": 49_152},
    "transformers-synthid": {"n_layers": 30, "ngram_len": 5},
    "google-synthid": {"n_layers": 30, "ngram_len": 5},
    "sbw": {"seeding_scheme": "gpu-simple_1"},
    "three-bricks": {"vocab_size": 49_152},
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _least(engine: str) -> dict[str, Any]:
    return dict(LEAST.get(engine, {}))


def test_defaults_give_a_config_that_comes_back(engine: str) -> None:
    config = engine_config(engine, _least(engine))
    assert WatermarkConfig.from_dict(config.to_dict()) == config
    assert config.source.name != "heirmark-1"


def test_unknown_settings_are_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match="settings: colour"):
        engine_config(engine, {**_least(engine), "colour": 1})


@pytest.mark.parametrize("name", ["key", "keys", "hashing_key", "secret_key", "hash_key"])
def test_a_key_among_the_settings_is_refused_unquoted(engine: str, name: str) -> None:
    with pytest.raises(ConfigError, match="keys import") as caught:
        engine_config(engine, {**_least(engine), name: 15485863})
    assert "15485863" not in str(caught.value)


def test_engines_own_defaults() -> None:
    vllm = engine_config("vllm", {})
    assert (vllm.scheme, vllm.context_width) == (Gumbel(), 4)
    dual = engine_config("vllm", {"algorithm": "dual_key_gumbel", "context_width": 2})
    assert (dual.scheme, dual.context_width) == (DualGumbel(0.1), 2)
    kgw = engine_config("transformers-kgw", {"vocab_size": 1001})
    assert (kgw.scheme, kgw.context_width) == (GreenList(250, 1001, 2.0), 1)
    synthid = engine_config("transformers-synthid", {"n_layers": 8, "ngram_len": 4})
    assert (synthid.scheme, synthid.context_width) == (Tournament(8), 3)
    for name, seeding, width in (
        ("gpu-simple_1", "lefthash", 1),
        ("gpu-fused-simple_4", "lefthash", 4),
        ("gpu-ff-additive_prf-3-False", "lefthash", 3),
        ("gpu-selfhash", "selfhash", 3),
        ("gpu-fused-selfhash-fullvocab", "selfhash", 3),
        ("gpu-ff-anchored_minhash_prf-2-True-40", "selfhash", 1),
    ):
        sbw = engine_config("sbw", {"seeding_scheme": name})
        assert (sbw.source.parameters(), sbw.context_width) == ({"seeding": seeding}, width)
    assert engine_config("sglang", {"context_window": 3}).context_width == 3


@pytest.mark.parametrize(
    ("engine", "settings", "said"),
    [
        ("nobody", {}, "unknown engine"),
        ("vllm", {"algorithm": "sbw"}, "engine sbw"),
        ("vllm", {"prf": "aes"}, "philox"),
        ("vllm", {"context_width": "4"}, "must be of the kind of 4"),
        ("vllm", {"context_width": True}, "must be of the kind of 4"),
        ("vllm", {"alpha": 0.9, "algorithm": "dual_key_gumbel"}, "alpha"),
        ("sbw", {"seeding_scheme": "gpu-simple_1", "gamma": math.nan}, "must be finite"),
        ("sbw", {"seeding_scheme": "gpu-simple_1", "gamma": math.inf}, "must be finite"),
        ("transformers-kgw", {}, "need 'vocab_size'"),
        ("transformers-kgw", {"vocab_size": "x"}, "must be of the kind"),
        ("transformers-synthid", {}, "need 'n_layers'"),
        ("google-synthid", {"n_layers": 30}, "need 'ngram_len'"),
        ("sbw", {}, "need 'seeding_scheme'"),
        ("sbw", {"seeding_scheme": "simple_1"}, "not read here"),
        ("sbw", {"seeding_scheme": "gpu-selfhash-cpuhash"}, "not read here"),
        ("sbw", {"seeding_scheme": "gpu-minhash"}, "not read here"),
    ],
)
def test_wrong_settings_are_refused(engine: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        engine_config(engine, settings)
