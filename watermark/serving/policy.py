"""Which key marks which request: decided by a file on the server, never by who asks.

    {"format": "heirmark-policy-1",
     "config": "config.json",
     "keys": {"shared": "keys/shared.json", "tenant-a": "keys/a.json"},
     "default": "shared",
     "selectable": ["tenant-a"],
     "greedy": "refuse",
     "opt_out": "refuse"}

Paths are relative to the file. A request may name one of the selectable keys, by its name here or
by its public key id; without a name the default marks it, or, if that is null, it is refused. No
request can bring a key of its own. `greedy` and `opt_out` say what becomes of requests that cannot
or do not want to be marked: "refuse", or "unmarked", and then they are counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, final

from watermark.config import WatermarkConfig, load_config
from watermark.errors import ConfigError, RequestError
from watermark.keyring.key_files import load_key
from watermark.keys import Key
from watermark.serving.settings_files import read_settings

__all__ = [
    "KEY_ARGUMENT",
    "OPT_OUT_ARGUMENT",
    "POLICY_VARIABLE",
    "Policy",
    "RequestTerms",
    "Ruling",
    "current_policy",
    "load_policy",
]

POLICY_VARIABLE: Final = "HEIRMARK_POLICY"
KEY_ARGUMENT: Final = "heirmark_key_id"
OPT_OUT_ARGUMENT: Final = "heirmark_opt_out"

_FORMAT: Final = "heirmark-policy-1"
_FIELDS: Final = ("format", "config", "keys", "default", "selectable", "greedy", "opt_out")
_OPTIONAL: Final = frozenset({"selectable", "greedy", "opt_out"})
_ARGUMENTS: Final = "heirmark"
_YES: Final = (True, 1, "true")
_NO: Final = (False, 0, "false")

Otherwise = Literal["refuse", "unmarked"]


class RequestTerms(NamedTuple):
    """What a request says, as far as the policy cares.

    Attributes:
        arguments: the engine's free arguments of the request (vLLM: `vllm_xargs`).
        greedy: True if the likeliest token is taken, nothing drawn.
        unmarkable: why the engine's way to answer it cannot be marked, or an empty string.
        max_tokens: longest response, None if unlimited.
    """

    arguments: Mapping[str, object] = MappingProxyType({})
    greedy: bool = False
    unmarkable: str = ""
    max_tokens: int | None = None


class Ruling(NamedTuple):
    """What becomes of a request that is admitted.

    Attributes:
        status: "marked", "greedy", "opted_out", "unmarkable", or "too_short" (for a context).
        key: the key that marks it; None unless marked.
    """

    status: str
    key: Key | None


@final
@dataclass(frozen=True)
class Policy:
    """Who is marked with which key.

    Attributes:
        config: the deployment.
        keys: the keys by their names.
        default: name of the key for requests that name none; None refuses them.
        selectable: names that a request may use.
        greedy: what becomes of requests whose way of decoding the scheme cannot mark.
        opt_out: what becomes of requests that ask for unmarked text.
    """

    config: WatermarkConfig
    keys: Mapping[str, Key]
    default: str | None
    selectable: frozenset[str] = frozenset()
    greedy: Otherwise = "refuse"
    opt_out: Otherwise = "refuse"

    def __post_init__(self) -> None:
        if not self.keys:
            raise ConfigError("a serving policy needs at least one key, got none")
        named = {*self.selectable, *(() if self.default is None else (self.default,))}
        if unknown := sorted(named - set(self.keys)):
            raise ConfigError(
                f"the policy names keys that it does not list: {', '.join(unknown)}; it lists "
                f"{', '.join(sorted(self.keys))}"
            )
        if self.default is None and not self.selectable:
            raise ConfigError("the policy has neither a default nor a selectable key; give one")
        for name, value in (("greedy", self.greedy), ("opt_out", self.opt_out)):
            if value not in ("refuse", "unmarked"):
                raise ConfigError(
                    f'policy field "{name}" must be "refuse" or "unmarked", got {value!r}'
                )
        reasoning = self.config.reasoning
        if reasoning is not None and not reasoning.is_marked and self.opt_out == "refuse":
            raise ConfigError(
                "the config leaves reasoning unmarked, and a client can keep a whole answer inside "
                "of it (a prompt, or a template's option, by which it never ends): mark reasoning, "
                'or let the policy say "opt_out": "unmarked"'
            )
        ids = {key.key_id for key in self.keys.values()}
        for name, key in self.keys.items():
            if name in ids and key.key_id != name:
                raise ConfigError(f"the policy calls a key {name!r}, which is another key's id")
            self.config.source.key_of(key)

    def rule(self, terms: RequestTerms) -> Ruling:
        """Decide about one request; the same terms always get the same answer.

        Args:
            terms: what the request says.

        Returns:
            The ruling.

        Raises:
            RequestError: refused. The message repeats no value of the request's arguments.
        """
        arguments = {k: v for k, v in terms.arguments.items() if k.startswith(_ARGUMENTS)}
        if unknown := sorted(set(arguments) - {KEY_ARGUMENT, OPT_OUT_ARGUMENT}):
            raise RequestError(
                f"a request cannot set {', '.join(unknown)}: keys are chosen on the server; it "
                f"may name one by {KEY_ARGUMENT}"
            )
        key = self._key(arguments.get(KEY_ARGUMENT))
        if _yes(arguments.get(OPT_OUT_ARGUMENT, False)):
            return self._leave(self.opt_out, "opted_out", "this server marks all of its text")
        if terms.unmarkable:
            return self._leave(self.greedy, "unmarkable", terms.unmarkable)
        if terms.greedy and self.config.scheme.always_samples:
            reason = (
                f"{self.config.scheme.name} marks by drawing the token, so greedy decoding "
                "cannot be marked; set a temperature above 0"
            )
            return self._leave(self.greedy, "greedy", reason)
        if terms.max_tokens is not None and terms.max_tokens <= self.config.context_width:
            return Ruling("too_short", None)
        return Ruling("marked", key)

    def _key(self, name: object) -> Key:
        if name is None:
            if self.default is None:
                raise RequestError(f"a request to this server must name a key by {KEY_ARGUMENT}")
            return self.keys[self.default]
        for own in self.selectable:
            key = self.keys[own]
            if isinstance(name, str) and name in (own, key.key_id):
                return key
        # What was sent is not repeated: it may be a key that somebody mistook for its id.
        raise RequestError(f"{KEY_ARGUMENT} names no key that requests may use on this server")

    @staticmethod
    def _leave(otherwise: Otherwise, status: str, reason: str) -> Ruling:
        if otherwise == "refuse":
            raise RequestError(f"the request would be answered without a watermark: {reason}")
        return Ruling(status, None)


def load_policy(path: str | Path) -> Policy:
    """Read a policy file with its config and its key files.

    Args:
        path: the file.

    Returns:
        The policy.

    Raises:
        ConfigError: missing, damaged, or contradictory.
        KeyFileError: a key file that is missing, damaged, or readable by others.
        FingerprintError: a key that does not belong to the config.
    """
    path = Path(path)
    payload = read_settings(path, "serving policy", _FORMAT, _FIELDS, _OPTIONAL)
    _check_types(path, payload)
    folder = path.parent
    keys = {name: load_key(folder / file) for name, file in payload["keys"].items()}
    return Policy(
        load_config(folder / payload["config"]),
        MappingProxyType(keys),
        payload["default"],
        frozenset(payload.get("selectable", [])),
        payload.get("greedy", "refuse"),
        payload.get("opt_out", "refuse"),
    )


def current_policy() -> Policy:
    """Read the policy that the environment variable HEIRMARK_POLICY names, once.

    Returns:
        The policy.

    Raises:
        ConfigError: no such variable; otherwise as `load_policy`.
    """
    path = os.environ.get(POLICY_VARIABLE)
    if not path:
        raise ConfigError(
            f"the environment variable {POLICY_VARIABLE} must name the serving policy, a JSON file"
        )
    return _loaded(path)


@cache
def _loaded(path: str) -> Policy:
    return load_policy(path)


def _check_types(path: Path, payload: dict[str, Any]) -> None:
    keys, selectable = payload["keys"], payload.get("selectable", [])
    if not isinstance(payload["config"], str):
        raise ConfigError(f'{path}: "config" must be the path of a config file')
    if not isinstance(keys, dict) or not all(isinstance(file, str) for file in keys.values()):
        raise ConfigError(f'{path}: "keys" must map names to the paths of key files')
    if not (payload["default"] is None or isinstance(payload["default"], str)):
        raise ConfigError(f'{path}: "default" must be a name of "keys", or null')
    if not isinstance(selectable, list) or not all(isinstance(name, str) for name in selectable):
        raise ConfigError(f'{path}: "selectable" must be a list of names of "keys"')


def _yes(value: object) -> bool:
    if value in _YES:
        return True
    if value in _NO:
        return False
    raise RequestError(f"{OPT_OUT_ARGUMENT} must be true or false")
