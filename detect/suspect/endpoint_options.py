"""How chat endpoints are asked: the options of a person, before any address is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from watermark.errors import ConfigError

__all__ = ["EndpointOptions"]


@final
@dataclass(frozen=True)
class EndpointOptions:
    """How endpoints are asked.

    Attributes:
        model: the model's name there, where the address does not say it (URL#MODEL).
        api_key_envs: environment variables with API keys: NAME, or HOST=NAME.
        concurrency: requests under way at the same time.
        requests_per_minute: None for no limit.
        timeout: seconds for one attempt.
        top_log_probs: candidates to ask for at each position; 0 for no log-probabilities.
    """

    model: str | None = None
    api_key_envs: tuple[str, ...] = ()
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout: float = 120.0
    top_log_probs: int = 20  # the most that OpenAI and vLLM offer

    def key_env(self, netloc: str) -> str | None:
        """Choose the environment variable whose key may be sent to a host.

        Args:
            netloc: HOST or HOST:PORT of the address.

        Returns:
            Its name; None if no key is sent there.

        Raises:
            ConfigError: several keys without a host.
        """
        named = dict(env.split("=", 1) for env in self.api_key_envs if "=" in env)
        plain = [env for env in self.api_key_envs if "=" not in env]
        if len(plain) > 1:
            raise ConfigError(
                "several API keys: say which host each is for, --api-key-env HOST=NAME"
            )
        host = netloc.rpartition(":")[0] or netloc
        return named.get(netloc, named.get(host, plain[0] if plain else None))
