"""What a deployment does, in one frozen value: scheme, context width, tokenizer, PRF.

The provider embeds with it and the investigator detects with it, so that a parameter has its
default in one place. It holds no secret. Its fingerprint travels with the outputs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, final

from watermark.channels import ReasoningChannel
from watermark.errors import ConfigError
from watermark.interop import make_source
from watermark.prf import NATIVE
from watermark.schemes import Scheme, make_scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament
from watermark.storage.canonical import canonical_json
from watermark.word_sources import WordSource

__all__ = ["PRESETS", "WatermarkConfig", "load_config", "preset"]

_FORMAT: Final = "heirmark-config-1"
_FIELDS: Final = frozenset({"format", "scheme", "context_width", "tokenizer", "prf"})
# Written only where they are set, so that no other config's fingerprint changes.
_OPTIONAL: Final = frozenset({"min_entropy", "reasoning"})
_MAX_CONTEXT_WIDTH: Final = 16
# Hardly any token of a model has more: such a gate would leave all text unmarked, in silence.
_MAX_MIN_ENTROPY: Final = 5.0


@final
@dataclass(frozen=True)
class WatermarkConfig:
    """A watermark deployment.

    Attributes:
        scheme: the scheme with its parameters.
        context_width: h, from the scheme's least (0 for red-green, which is then Unigram) to 16.
        tokenizer: fingerprint of the provider's tokenizer ("sha256:..."), or None if it is not
            bound to one.
        source: what makes the words: our PRF, or another system's (`watermark.interop`).
        min_entropy: tokens whose final distribution, temperature and truncation done, has less
            entropy are not marked; in nats, 0 marks all.
        reasoning: the borders of the model's reasoning, at which contexts begin anew; None is a
            model without.
    """

    scheme: Scheme
    context_width: int = 2
    tokenizer: str | None = None
    source: WordSource = NATIVE
    min_entropy: float = 0.0
    reasoning: ReasoningChannel | None = None

    def __post_init__(self) -> None:
        least = self.scheme.min_context_width
        if not least <= self.context_width <= _MAX_CONTEXT_WIDTH:
            raise ConfigError(
                f"context_width must lie in {least} to {_MAX_CONTEXT_WIDTH} for "
                f"{self.scheme.name}, got {self.context_width}"
            )
        self.source.check(self.scheme, self.context_width)
        _check_min_entropy(self.min_entropy)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal exactly when marks are interchangeable."""
        canonical = canonical_json(self.to_dict())
        return "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()

    @property
    def leaves(self) -> str:
        """What the deployment means to leave unmarked, in words; empty if nothing."""
        return " and ".join(
            what
            for what, is_left in (
                (f"tokens of less than {self.min_entropy:g} nats", self.min_entropy > 0),
                ("reasoning", self.reasoning is not None and not self.reasoning.is_marked),
            )
            if is_left
        )

    def bound_to(self, tokenizer_fingerprint: str) -> Self:
        """Return the same config bound to one tokenizer."""
        return replace(self, tokenizer=tokenizer_fingerprint)

    def check_vocabulary(self, n_tokens: int) -> None:
        """Refuse borders that a model can never write; see `ReasoningChannel.check_vocabulary`."""
        if self.reasoning is not None:
            self.reasoning.check_vocabulary(n_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that `from_dict` reads back."""
        payload = {
            "format": _FORMAT,
            "scheme": {"name": self.scheme.name, **self.scheme.parameters()},
            "context_width": self.context_width,
            "tokenizer": self.tokenizer,
            "prf": _named(self.source),
        }
        if self.min_entropy:
            payload["min_entropy"] = float(self.min_entropy)
        if self.reasoning is not None:
            payload["reasoning"] = self.reasoning.to_dict()
        return payload

    @classmethod
    def from_dict(cls, payload: Any) -> Self:
        """Read a config back.

        Args:
            payload: what `to_dict` gave.

        Returns:
            The config.

        Raises:
            ConfigError: wrong format, unknown or missing field, value out of range. Unknown
                fields are refused, since one that changes the mark must not be ignored.
        """
        if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
            raise ConfigError(f"expected a config with format {_FORMAT!r}")
        if unknown := sorted(set(payload) - _FIELDS - _OPTIONAL):
            raise ConfigError(
                f"unknown config fields {', '.join(unknown)}; a newer heirmark may have written "
                "them: upgrade"
            )
        if missing := sorted(_FIELDS - set(payload)):
            raise ConfigError(f"the config lacks {', '.join(missing)}")
        return cls._from_fields(payload)

    @classmethod
    def _from_fields(cls, payload: dict[str, Any]) -> Self:
        scheme, width, tokenizer = (payload[k] for k in ("scheme", "context_width", "tokenizer"))
        if not isinstance(scheme, dict) or not isinstance(scheme.get("name"), str):
            raise ConfigError('config field "scheme" must be an object with a "name"')
        if not isinstance(width, int) or isinstance(width, bool):
            raise ConfigError(f'config field "context_width" must be an integer, got {width!r}')
        if not (tokenizer is None or isinstance(tokenizer, str)):
            raise ConfigError('config field "tokenizer" must be a fingerprint or null')
        parameters = {k: v for k, v in scheme.items() if k != "name"}
        made = make_scheme(scheme["name"], parameters)
        reasoning = payload.get("reasoning")
        return cls(
            made,
            width,
            tokenizer,
            _source(payload["prf"]),
            payload.get("min_entropy", 0.0),
            None if reasoning is None else ReasoningChannel.from_dict(reasoning),
        )


def _check_min_entropy(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= _MAX_MIN_ENTROPY:
        raise ConfigError(
            f"min_entropy must lie in 0 to {_MAX_MIN_ENTROPY:g} nats, got {value!r}; 0 marks all "
            "tokens"
        )


def _named(source: WordSource) -> str | dict[str, Any]:
    parameters = source.parameters()
    return {"name": source.name, **parameters} if parameters else source.name


def _source(prf: Any) -> WordSource:
    payload = {"name": prf} if isinstance(prf, str) else prf
    if not isinstance(payload, dict) or not isinstance(payload.get("name"), str):
        raise ConfigError('config field "prf" must be a name, or an object with a "name"')
    return make_source(payload["name"], {k: v for k, v in payload.items() if k != "name"})


# Why dual-key with h = 2: inheritance falls steeply with h, one key alone repeats its answers.
PRESETS: Final = MappingProxyType(
    {
        "default": WatermarkConfig(DualGumbel(alpha=0.1), context_width=2),
        "tracer": WatermarkConfig(DualGumbel(alpha=0.1), context_width=1),
        "gumbel": WatermarkConfig(Gumbel(), context_width=2),
        "red-green": WatermarkConfig(RedGreen(gamma=0.5, delta=2.0), context_width=2),
        "unigram": WatermarkConfig(RedGreen(gamma=0.5, delta=2.0), context_width=0),
        "tournament": WatermarkConfig(Tournament(n_layers=30), context_width=2),
    }
)


def preset(name: str) -> WatermarkConfig:
    """Look a preset up.

    Args:
        name: a name in `PRESETS`.

    Returns:
        The config, not yet bound to a tokenizer.

    Raises:
        ConfigError: unknown name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def load_config(path: str | Path) -> WatermarkConfig:
    """Read a config file (the JSON of `WatermarkConfig.to_dict`).

    Args:
        path: the file.

    Returns:
        The config.

    Raises:
        ConfigError: missing, not JSON, or not a config.
    """
    try:
        payload = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the config {path} is not JSON: {error}") from None
    return WatermarkConfig.from_dict(payload)
