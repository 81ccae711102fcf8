"""Where a chat API is, how hard it may be asked, and the key that it is sent."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import final

import httpx

from detect.suspect.endpoint_options import EndpointOptions
from watermark.errors import ConfigError

__all__ = ["Endpoint", "read_key"]


@final
@dataclass(frozen=True)
class Endpoint:
    """Where a chat API is, and how hard it may be asked.

    Attributes:
        url: its address, up to and without /chat/completions.
        api_key_env: the environment variable that holds the API key; None sends none.
        concurrency: requests under way at the same time.
        requests_per_minute: None for no limit.
        timeout: seconds for one attempt, from connecting to the last byte.
        max_attempts: of one request.
    """

    url: str
    api_key_env: str | None
    concurrency: int
    requests_per_minute: float | None
    timeout: float
    max_attempts: int = 8

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"the endpoint's address cannot be read: {error}") from None
        if url.userinfo or url.query or url.fragment:
            # Not shown: what stands there is often a secret, and the address is written down.
            raise ConfigError(
                f"the address of {url.host} must hold no user, password or query; "
                "put the API key into an environment variable and name it with --api-key-env"
            )
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"expected an http(s) address, got {self.url[:200]!r}")

    @property
    def netloc(self) -> str:
        """Host, and port where the address names one."""
        return httpx.URL(self.url).netloc.decode("ascii")

    @classmethod
    def of(cls, url: str, options: EndpointOptions) -> Endpoint:
        """Take what a person chose for an address.

        Args:
            url: the address.
            options: the choices.

        Raises:
            ConfigError: an address that cannot be used, or no telling which key it is sent.
        """
        endpoint = cls(url, None, options.concurrency, options.requests_per_minute, options.timeout)
        return replace(endpoint, api_key_env=options.key_env(endpoint.netloc))


def read_key(endpoint: Endpoint) -> str:
    """Read an endpoint's API key from the environment.

    Args:
        endpoint: it names the variable.

    Returns:
        The key; empty if none is to be sent.

    Raises:
        ConfigError: the variable is not set, or holds no key.
    """
    name = endpoint.api_key_env
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {name} is not set; put the API key into it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"the environment variable {name} holds no API key: expected printable ASCII "
            "characters without blanks"
        )
    return key
