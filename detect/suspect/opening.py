"""From what a person calls a suspect to the suspect: a folder, a file, a name, or an address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detect.suspect.endpoint_options import EndpointOptions
from detect.suspect.exchanges import Suspect
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.replay import ReplaySuspect
from watermark.errors import ConfigError, MissingExtraError
from watermark.models import is_gguf, resolve_model

if TYPE_CHECKING:
    from detect.suspect.chat_address import Endpoint

__all__ = [
    "check_keys",
    "is_endpoint",
    "is_replay",
    "open_suspect",
    "open_weights",
    "suspect_name",
]


def is_endpoint(spec: str) -> bool:
    """True for the address of a chat API."""
    return spec.startswith(("http://", "https://"))


def is_replay(spec: str) -> bool:
    """True for a file of recorded answers."""
    return spec.endswith(".jsonl")


def suspect_name(spec: str, options: EndpointOptions) -> str:
    """Return the name in results: an endpoint's model, else the last part of a path.

    Args:
        spec: what the suspect is called.
        options: they may name the model.

    Raises:
        ConfigError: an endpoint without the name of a model.
    """
    if not is_endpoint(spec):
        return Path(spec).name
    name = spec.partition("#")[2] or options.model
    if not name:
        raise ConfigError("an endpoint needs the name of a model there: --model NAME or URL#NAME")
    return name


def open_suspect(spec: str, options: EndpointOptions | None = None) -> Suspect:
    """Open whatever can be asked for text.

    Args:
        spec: the folder of a model, a *.gguf file, "smollm2" or a Hub id; a *.jsonl file of
            recorded answers; or the address of an OpenAI-compatible API, http(s)://HOST/v1,
            #MODEL after it if need be.
        options: how endpoints are asked.

    Returns:
        The suspect; an endpoint is not spoken to yet.

    Raises:
        ConfigError: an address that cannot be used, or an API key that is not there.
        DocumentError: recorded answers that cannot be read.
        ModelError: no such model, or one that is unsafe to load.
    """
    options = options or EndpointOptions()
    if is_endpoint(spec):
        return _open_endpoint(spec, options)
    return ReplaySuspect(Path(spec)) if is_replay(spec) else open_weights(spec)


def open_weights(spec: str) -> TransformersSuspect:
    """Open a model whose weights are at hand.

    Args:
        spec: a folder, a *.gguf file, "smollm2" or a Hub id.

    Returns:
        The model; none of its own code is run.

    Raises:
        ConfigError: an endpoint or recorded answers, which show no weights.
        ModelError: no such model, or one that is unsafe to load.
    """
    if is_endpoint(spec) or is_replay(spec):
        raise ConfigError(f"{Path(spec).name} shows no weights; probe it with --access text")
    folder = resolve_model(spec)
    try:
        return TransformersSuspect(
            folder, name=Path(spec).name, tokenizer_is_rebuilt=is_gguf(Path(spec))
        )
    except ImportError as error:
        raise MissingExtraError(error.name or "transformers", "hf") from None


def check_keys(specs: list[str], options: EndpointOptions) -> None:
    """Refuse to guess which host an API key is for.

    Args:
        specs: all that is going to be asked.
        options: they name the keys.

    Raises:
        ConfigError: endpoints of several hosts, and a key without host.
    """
    hosts = {_endpoint(spec, options).netloc for spec in specs if is_endpoint(spec)}
    if len(hosts) > 1 and any("=" not in env for env in options.api_key_envs):
        raise ConfigError(
            f"endpoints at {' and '.join(sorted(hosts))}: say which of them an API key is for, "
            "--api-key-env HOST=NAME"
        )


def _open_endpoint(spec: str, options: EndpointOptions) -> Suspect:
    endpoint = _endpoint(spec, options)
    from detect.suspect.endpoint import EndpointSuspect

    return EndpointSuspect(endpoint, suspect_name(spec, options), options.top_log_probs)


def _endpoint(spec: str, options: EndpointOptions) -> Endpoint:
    try:
        from detect.suspect.chat_address import Endpoint
    except ImportError as error:
        raise MissingExtraError(error.name or "httpx", "api") from None
    return Endpoint.of(spec.partition("#")[0], options)
