"""What a gateway does to a request on its way to an engine: whose key, and nothing of the client's.

    {"format": "heirmark-gateway-1",
     "engine": "vllm",
     "tenants": {"team_id": {"research": "tenant-a"}, "user_id": {"u-17": "tenant-b"}},
     "default": null,
     "unmarked_models": ["embeddings-small", "another-vendors"]}

Every model is the marked engine's, unless the file says that it may answer without a mark: a name
that is spelled otherwise, or a list of names, is not let through. The file names keys; the keys
themselves lie with the engine (`watermark.serving.policy`). Tenants are told apart by what the
gateway itself knows of who asks, in the order of the file, never by a field of the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final, get_args

from watermark.errors import ConfigError, RequestError
from watermark.serving.policy import KEY_ARGUMENT
from watermark.serving.settings_files import read_settings

__all__ = ["GATEWAY_VARIABLE", "Gateway", "load_gateway"]

GATEWAY_VARIABLE: Final = "HEIRMARK_GATEWAY"
Engine = Literal["vllm", "sglang", "own"]

_FORMAT: Final = "heirmark-gateway-1"
_FIELDS: Final = ("format", "engine", "tenants", "default", "unmarked_models", "processor")
_OPTIONAL: Final = frozenset({"unmarked_models", "processor"})
_ATTRIBUTES: Final = re.compile(r"team_id|user_id|org_id|key_alias|(team_)?metadata\.\w+")
_PREFIX: Final = "heirmark"
# vLLM's and SGLang's own marks, and code that SGLang would run.
_CLIENTS_NEVER_SET: Final = ("watermarking", "watermark", "custom_logit_processor")
_ARGUMENTS: Final = {"vllm": "vllm_xargs", "sglang": "custom_params"}
# What is named here would be dropped on the way.
_DROPS: Final = "additional_drop_params"
# Other ways to name a model, with settings of its own, that the key would not reach.
_ROUTES: Final = (
    "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "user_config",
)  # fmt: skip
_TEXT: Final = frozenset({"completion", "acompletion", "text_completion", "atext_completion"})
_WITHOUT_TEXT: Final = re.compile(
    r"a?(embedding|image_\w+|moderation|transcription|speech|rerank|search|ocr|vector_store\w*)"
    r"|a?(create|retrieve)_file|call_mcp_tool|list_mcp_tools"
)


@final
@dataclass(frozen=True)
class Gateway:
    """Which tenant is marked with which key.

    Attributes:
        engine: how the engine behind is told: "vllm" and "sglang" run heirmark's adapters; "own"
            is an engine with a mark of its own, whose clients only lose the fields to switch it
            off or to bring keys.
        tenants: by what they are told apart (team_id, user_id, org_id, key_alias, metadata.NAME,
            team_metadata.NAME), then from its value to the name of a key.
        default: the key of everybody else; None refuses them.
        unmarked_models: the gateway's names of models that answer without a mark.
        processor: for "sglang", `HeirmarkLogitProcessor.to_str()`.
    """

    engine: Engine
    tenants: Mapping[str, Mapping[str, str]]
    default: str | None
    unmarked_models: frozenset[str] = frozenset()
    processor: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise ConfigError(
                f'the gateway\'s engine must be "vllm", "sglang" or "own", got {self.engine!r}'
            )
        for attribute in self.tenants:
            if not _ATTRIBUTES.fullmatch(attribute):
                raise ConfigError(
                    "the gateway tells tenants apart by team_id, user_id, org_id, key_alias, "
                    f"metadata.NAME or team_metadata.NAME, not by {attribute!r} (an end user's id "
                    "is what the client says it is)"
                )
        if self.engine == "own" and (self.tenants or self.default):
            raise ConfigError(
                'an engine with a mark of its own has one key: with "engine": "own", "tenants" '
                'must be empty and "default" null'
            )
        if (self.engine == "sglang") != (self.processor is not None):
            raise ConfigError(
                '"processor" belongs to "engine": "sglang" and only there: what '
                'python -c "from watermark.serving.sglang import HeirmarkLogitProcessor; '
                'print(HeirmarkLogitProcessor.to_str())" prints on the server'
            )

    def admit(self, body: dict[str, Any], who: Mapping[str, object], call_type: str) -> list[str]:
        """Prepare one request, in place.

        Args:
            body: what the client sent.
            who: what the gateway knows of the client, by the attributes of `tenants`.
            call_type: LiteLLM's name of what is asked.

        Returns:
            The client's fields that were removed.

        Raises:
            RequestError: a tenant without a key, or a way to answer that carries no key. Nothing
                of what the client sent is repeated.
        """
        removed = _strip(body)
        model = body.get("model")
        may_be_unmarked = isinstance(model, str) and model in self.unmarked_models
        if self.engine == "own" or _WITHOUT_TEXT.fullmatch(call_type):
            return removed
        if routes := [name for name in _ROUTES if body.get(name)]:
            raise RequestError(
                f'the field "{routes[0]}" would lead to a model that no key reaches; fallbacks '
                "belong to the proxy's own configuration"
            )
        if may_be_unmarked:
            return removed
        if call_type not in _TEXT:
            raise RequestError(
                f"calls of the kind {call_type} do not carry a key to the engine, so that their "
                "text would be unmarked; use /chat/completions or /completions"
            )
        self._place(body, self._key(who))
        return removed

    @property
    def _field(self) -> str:
        return _ARGUMENTS[self.engine]

    def _key(self, who: Mapping[str, object]) -> str:
        for attribute, keys in self.tenants.items():
            value = who.get(attribute)
            if isinstance(value, str) and value in keys:
                return keys[value]
        if self.default is None:
            raise RequestError("this gateway knows no watermark key for who asks; ask its operator")
        return self.default

    def _place(self, part: dict[str, Any], key: str) -> None:
        field = self._field
        extra = part.setdefault("extra_body", {})
        # Where a client has put its own arguments, they are moved, since one place would win.
        extra[field] = {**extra.get(field, {}), **part.pop(field, {}), KEY_ARGUMENT: key}
        if self.processor is not None:
            extra["custom_logit_processor"] = self.processor


def _strip(part: dict[str, Any]) -> list[str]:
    removed = []
    places = [part]
    if part.get("extra_body") is not None:
        places.append(_object(part, "extra_body"))
    else:
        part.pop("extra_body", None)
    for place in places:
        removed += [name for name in _CLIENTS_NEVER_SET if place.pop(name, None) is not None]
        removed += _strip_ours(place)
        for field in _ARGUMENTS.values():
            if place.get(field) is not None:
                removed += [f"{field}.{name}" for name in _strip_ours(_object(place, field))]
            else:
                place.pop(field, None)
    if part.pop(_DROPS, None) is not None:
        removed.append(_DROPS)
    return removed


def _strip_ours(place: dict[str, Any]) -> list[str]:
    names = [name for name in place if str(name).startswith(_PREFIX)]
    for name in names:
        del place[name]
    # A name may be a secret that somebody mistook for a field.
    return [name if name == KEY_ARGUMENT else _PREFIX + "*" for name in names]


def _object(place: dict[str, Any], field: str) -> dict[str, Any]:
    value = place[field]
    if not isinstance(value, dict):
        raise RequestError(f'the field "{field}" must be an object')
    # A copy, so that what is removed is not removed from something shared.
    place[field] = dict(value)
    return place[field]  # type: ignore[no-any-return]


def load_gateway(path: str | Path) -> Gateway:
    """Read a gateway's file.

    Args:
        path: the file.

    Returns:
        The gateway.

    Raises:
        ConfigError: missing, damaged, or contradictory.
    """
    path = Path(path)
    payload = read_settings(path, "gateway's file", _FORMAT, _FIELDS, _OPTIONAL)
    _check_types(path, payload)
    return Gateway(
        payload["engine"],
        payload["tenants"],
        payload["default"],
        frozenset(payload.get("unmarked_models", ())),
        payload.get("processor"),
    )


def _check_types(path: Path, payload: dict[str, Any]) -> None:
    tenants, models = payload["tenants"], payload.get("unmarked_models", [])
    tables = tenants.values() if isinstance(tenants, dict) else [None]
    if not all(isinstance(t, dict) and _all_text(t.values()) for t in tables):
        raise ConfigError(f'{path}: "tenants" must map attributes to tables of names of keys')
    for name in ("default", "processor"):
        if not (payload.get(name) is None or isinstance(payload[name], str)):
            raise ConfigError(f'{path}: "{name}" must be a text or null')
    if not (isinstance(models, list) and _all_text(models)):
        raise ConfigError(f'{path}: "unmarked_models" must be a list of names')


def _all_text(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)
