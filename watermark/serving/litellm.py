"""LiteLLM's proxy: each tenant's text under its own key, whatever its clients send.

    litellm_settings:
      callbacks: watermark.serving.litellm.heirmark_hook

with the environment variable HEIRMARK_GATEWAY naming the file that `watermark.serving.gateway`
describes. The proxy does not start if the file cannot be used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, final

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from watermark.errors import ConfigError, RequestError
from watermark.serving.gateway import GATEWAY_VARIABLE, Gateway, load_gateway
from watermark.serving.requests import Tally

__all__ = ["HeirmarkHook"]

_ATTRIBUTES: Final = ("team_id", "user_id", "org_id", "key_alias")
_TABLES: Final = ("metadata", "team_metadata")


@final
class HeirmarkHook(CustomLogger):  # type: ignore[misc]
    """Sets the key of a request before LiteLLM passes it on.

    Args:
        gateway: which tenant is marked with which key.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self.tally = Tally()

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Prepare one request.

        Args:
            user_api_key_dict: what the proxy knows of the key that the client showed.
            cache: unused.
            data: the request, changed in place.
            call_type: LiteLLM's name of what is asked.

        Returns:
            `data`.

        Raises:
            HTTPException: status 400, refused.
        """
        try:
            removed = self._gateway.admit(data, _who(user_api_key_dict), str(call_type))
        except RequestError as error:
            # A text that is returned instead would be shown as the model's answer.
            raise HTTPException(400, {"error": str(error)}) from None
        for name in removed:
            self.tally.add(f"removed {name}", f"a client's {name} was removed")
        return data


def _who(known: Any) -> dict[str, object]:
    who: dict[str, object] = {name: getattr(known, name, None) for name in _ATTRIBUTES}
    for table in _TABLES:
        values = getattr(known, table, None)
        if isinstance(values, Mapping):
            who.update({f"{table}.{name}": value for name, value in values.items()})
    return who


def __getattr__(name: str) -> HeirmarkHook:
    if name != "heirmark_hook":
        raise AttributeError(name)
    path = os.environ.get(GATEWAY_VARIABLE)
    if not path:
        raise ConfigError(
            f"the environment variable {GATEWAY_VARIABLE} must name the gateway's JSON file"
        )
    return HeirmarkHook(load_gateway(path))
