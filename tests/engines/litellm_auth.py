"""Who shows which key to the proxy of `test_litellm.py`: LiteLLM's `custom_auth`."""

from __future__ import annotations

from typing import Any

from litellm.proxy._types import UserAPIKeyAuth

_KNOWN: dict[str, dict[str, Any]] = {
    "sk-north": {"team_id": "team-north", "user_id": "alice"},
    "sk-alice": {"user_id": "alice"},
    "sk-meta": {"metadata": {"tenant": "m1"}, "end_user_id": "alice"},
    "sk-nobody": {"user_id": "nobody"},
}


async def authenticate(request: Any, api_key: str) -> UserAPIKeyAuth:
    if api_key not in _KNOWN:
        raise ValueError("no such key")
    return UserAPIKeyAuth(api_key=api_key, **_KNOWN[api_key])
