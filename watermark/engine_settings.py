"""Engines' own settings, read into our configs: what an operator has is the engine's JSON.

Defaults are those of the engine; a setting that this reader does not know is refused, since it may
change the mark. The engine's key is never read here: `heirmark keys import` takes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop import make_source
from watermark.interop.sbw import sbw_green_list
from watermark.interop.textseal import N_CELLS as TEXTSEAL_CELLS
from watermark.interop.textseal import green_cells
from watermark.schemes import make_scheme

__all__ = ["ENGINES", "engine_config"]

_SECRETS: Final = frozenset(
    {
        "key",
        "key_b",
        "keys",
        "hash_key",
        "hashing_key",
        "secret_key",
        "secret_key_b",
        "salt_key",
        "seed",
    }
)


class _Settings:
    """Settings that are taken one by one; what is left at the end was not understood."""

    def __init__(self, engine: str, settings: Mapping[str, Any]) -> None:
        self._engine, self._left = engine, dict(settings)
        if secret := sorted(set(self._left) & _SECRETS):
            raise ConfigError(
                f"the settings hold the engine's key ({', '.join(secret)}), which a config must "
                "not; import it with: heirmark keys import, and leave it out here"
            )

    def take(self, name: str, default: Any) -> Any:
        """Take one setting; its kind must be that of the default."""
        value = self._left.pop(name, default)
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if default is not None and (
            not isinstance(value, kinds) or isinstance(value, bool) is not isinstance(default, bool)
        ):
            raise ConfigError(
                f"{self._engine} setting {name!r} must be of the kind of {default!r}, got {value!r}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{self._engine} setting {name!r} must be finite, got {value!r}")
        return value

    def need(self, name: str, why: str) -> int:
        """Take a whole number that has no default."""
        if name not in self._left:
            raise ConfigError(f"{self._engine} settings need {name!r}: {why}")
        return int(self.take(name, 0))

    def need_text(self, name: str, why: str) -> str:
        """Take a text that has no default."""
        if name not in self._left:
            raise ConfigError(f"{self._engine} settings need {name!r}: {why}")
        return str(self.take(name, ""))

    def ignore(self, *names: str) -> None:
        """Drop settings that do not change which words mark a token."""
        for name in names:
            self._left.pop(name, None)

    def finish(self) -> None:
        """Refuse what is left."""
        if self._left:
            raise ConfigError(
                f"unknown {self._engine} settings: {', '.join(sorted(self._left))}; leave out what "
                "does not change the mark"
            )


def _vllm(settings: _Settings) -> WatermarkConfig:
    settings.ignore("deduplicate_contexts_max_history", "allow_target_only_watermarking")
    algorithm = settings.take("algorithm", "gumbel")
    alpha = settings.take("alpha", 0.1)
    width = settings.take("context_width", 4)
    scope = settings.take("deduplicate_contexts", "single_turn")
    if (prf := settings.take("prf", "philox")) != "philox":
        raise ConfigError(f"unknown vLLM prf {prf!r}; this version knows 'philox'")
    if algorithm not in ("gumbel", "dual_key_gumbel"):
        raise ConfigError(
            f"unknown vLLM algorithm {algorithm!r}; expected gumbel or dual_key_gumbel (settings "
            "of vllm-sbw are those of the engine sbw)"
        )
    dual = algorithm == "dual_key_gumbel"
    source = make_source("vllm-philox", {"dual": dual, "deduplicate_contexts": scope})
    scheme = make_scheme("dual-gumbel", {"alpha": alpha}) if dual else make_scheme("gumbel", {})
    return WatermarkConfig(scheme, width, None, source)


def _green_list(n_green: int, n_cells: int, delta: float) -> Any:
    return make_scheme("green-list", {"n_green": n_green, "n_cells": n_cells, "delta": delta})


def _transformers_kgw(settings: _Settings) -> WatermarkConfig:
    size = settings.need("vocab_size", "the model's config.vocab_size, of which lists are drawn")
    ratio, bias = settings.take("greenlist_ratio", 0.25), settings.take("bias", 2.0)
    seeding = settings.take("seeding_scheme", "lefthash")
    width = settings.take("context_width", 1)
    source = make_source(
        "transformers-kgw",
        {"seeding_scheme": seeding, "vocab_size": size, "greenlist_ratio": ratio},
    )
    # lefthash reads the last token whatever the width; selfhash counts the candidate as one.
    h = 1 if seeding == "lefthash" else width - 1
    return WatermarkConfig(_green_list(int(size * ratio), size, bias), h, None, source)


def _transformers_synthid(settings: _Settings) -> WatermarkConfig:
    settings.ignore("context_history_size", "skip_first_ngram_calls", "debug_mode")
    n_layers = settings.need("n_layers", "how many integers `keys` has")
    width = settings.need("ngram_len", "it has no default there") - 1
    table = {
        "table_size": settings.take("sampling_table_size", 1 << 16),
        "table_seed": settings.take("sampling_table_seed", 0),
    }
    source = make_source("transformers-synthid", {"n_layers": n_layers, **table})
    scheme = make_scheme("tournament", {"n_layers": n_layers})
    return WatermarkConfig(scheme, width, None, source)


def _google_synthid(settings: _Settings) -> WatermarkConfig:
    settings.ignore(
        "context_history_size", "temperature", "top_k", "num_leaves", "skip_first_ngram_calls"
    )
    n_layers = settings.need("n_layers", "how many integers `keys` has")
    width = settings.need("ngram_len", "it has no default there") - 1
    source = make_source("google-synthid", {"n_layers": n_layers})
    return WatermarkConfig(make_scheme("tournament", {"n_layers": n_layers}), width, None, source)


def _sglang(settings: _Settings) -> WatermarkConfig:
    settings.ignore("max_probability", "default_enabled", "enforce_all")
    width = settings.take("context_window", 4)
    probability = settings.take("mixing_probability", None)
    source = make_source("sglang-gumbel", {"mixing_probability": probability})
    return WatermarkConfig(make_scheme("gumbel", {}), width, None, source)


# SBW's own names of what `interop.sbw` reads; the rest are shuffled lists, or seeds of other kinds.
_SBW_SUMS: Final = re.compile(
    r"gpu-simple_(1)|gpu-fused-simple_(4)(?:-.*)?|gpu-ff-additive_prf-(\d+)-False"
)
_SBW_MINIMA: Final = re.compile(
    r"gpu-(?:fused-)?selfhash(?:-fullvocab(?:-cudagraphs)?|-\d+)?"
    r"|gpu-ff-anchored_minhash_prf-(\d+)-True(?:-fullvocab|-\d+)?"
)


def _sbw(settings: _Settings) -> WatermarkConfig:
    name = settings.need_text("seeding_scheme", "SBW's name, for example gpu-fused-simple_4")
    gamma, delta = settings.take("gamma", 0.5), settings.take("delta", 2.0)
    if sums := _SBW_SUMS.fullmatch(name):
        seeding, width = "lefthash", int(next(filter(None, sums.groups())))
    elif minima := _SBW_MINIMA.fullmatch(name):
        # SBW's width of self-hashing counts the token itself.
        seeding, width = "selfhash", int(minima.group(1) or 4) - 1
    else:
        raise ConfigError(
            f"SBW's seeding_scheme {name!r} is not read here; expected gpu-simple_1, "
            "gpu-fused-simple_4, gpu-selfhash, gpu-fused-selfhash, or gpu-ff-... of additive_prf "
            "or anchored_minhash_prf (those without gpu- are KGW's shuffled lists)"
        )
    source = make_source("sbw", {"seeding": seeding})
    return WatermarkConfig(sbw_green_list(gamma, delta), width, None, source)


def _textseal(settings: _Settings) -> WatermarkConfig:
    kind, width = settings.take("watermark_type", "gumbelmax"), settings.take("ngram", 1)
    gamma, delta = settings.take("gamma", 0.5), settings.take("delta", 2.0)
    share = settings.take("mixing_alpha", 0.5)
    if kind == "greenlist":
        source = make_source("textseal", {"method": "binary"})
        return WatermarkConfig(
            _green_list(green_cells(gamma), TEXTSEAL_CELLS, delta), width, None, source
        )
    if kind == "gumbelmax":
        return WatermarkConfig(make_scheme("gumbel", {}), width, None, make_source("textseal", {}))
    if kind == "textseal":
        source = make_source("textseal", {"dual_key": True})
        # Below 1/2 the keys are given in the other order: see the source.
        alpha = min(share, 1 - share)
        return WatermarkConfig(make_scheme("dual-gumbel", {"alpha": alpha}), width, None, source)
    raise ConfigError(
        f"unknown TextSeal watermark_type {kind!r}; expected gumbelmax, greenlist or textseal"
    )


def _three_bricks(settings: _Settings) -> WatermarkConfig:
    size = settings.need("vocab_size", "the model's, of which lists and numbers are drawn")
    method, width = settings.take("method", "openai"), settings.take("ngram", 1)
    gamma, delta = settings.take("gamma", 0.5), settings.take("delta", 2.0)
    payload = settings.take("payload", 0)
    source = make_source(
        "three-bricks",
        {"method": method, "vocab_size": size, "gamma": gamma, "payload": payload},
    )
    if method == "maryland":
        return WatermarkConfig(_green_list(int(size * gamma), size, delta), width, None, source)
    return WatermarkConfig(make_scheme("gumbel", {}), width, None, source)


ENGINES: Final[Mapping[str, Callable[[_Settings], WatermarkConfig]]] = MappingProxyType(
    {
        "vllm": _vllm,
        "transformers-kgw": _transformers_kgw,
        "transformers-synthid": _transformers_synthid,
        "google-synthid": _google_synthid,
        "sglang": _sglang,
        "sbw": _sbw,
        "textseal": _textseal,
        "three-bricks": _three_bricks,
    }
)


def engine_config(engine: str, settings: Mapping[str, Any]) -> WatermarkConfig:
    """Read an engine's settings.

    Args:
        engine: a name in `ENGINES`.
        settings: the engine's own settings, without its key; some need `vocab_size` or `n_layers`
            besides.

    Returns:
        The config, not yet bound to a tokenizer.

    Raises:
        ConfigError: unknown engine or setting, a value of the wrong kind or out of range, or a
            key among the settings; never quotes one.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}; expected one of {', '.join(ENGINES)}")
    taken = _Settings(engine, settings)
    config = ENGINES[engine](taken)
    taken.finish()
    return config
