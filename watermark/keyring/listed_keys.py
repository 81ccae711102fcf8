"""Keys as lists name them: labels, and whether others may know the key.

A registry's export has one a line. `heirmark trace` must know what was revoked: whoever has a key
can write text with its mark, so that such text is no evidence about the key's account.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from watermark.errors import ConfigError
from watermark.keyring.labels import KeyLabels

__all__ = ["STATES", "ListedKey", "Revocation"]

# A retired key is no longer served; a revoked one is known to others. Both can still be found.
STATES: Final = ("active", "retired", "revoked")
_MORE: Final = ("state", "revoked_at", "revoked_reason")


class Revocation(NamedTuple):
    """When and why a key was declared known to others.

    Attributes:
        at: ISO 8601 in UTC, or None if that is not known.
        reason: in the provider's words, or None.
    """

    at: str | None = None
    reason: str | None = None

    @property
    def day(self) -> str | None:
        """The day, "2026-11-26"."""
        return self.at[:10] if self.at else None


class ListedKey(NamedTuple):
    """One key of a list. No secret.

    Attributes:
        labels: under which it was derived.
        state: one of `STATES`; a list that does not say means "active".
        revocation: of a revoked key, else None.
    """

    labels: KeyLabels
    state: str = "active"
    revocation: Revocation | None = None

    @classmethod
    def from_line(cls, line: str, common: KeyLabels) -> Self:
        """Read what `to_dict` gave, from one line of JSON.

        Args:
            line: a JSON object of labels, with "state", "revoked_at" and "revoked_reason" if need
                be.
            common: labels that count where the line does not have them; "" in the line means none.

        Returns:
            The key.

        Raises:
            ConfigError: not JSON, a name that stands twice, an unknown one, or a value that cannot
                be.
        """
        try:
            payload = json.loads(line, object_pairs_hook=_once)
        except ConfigError:
            raise
        except (ValueError, RecursionError):
            raise ConfigError("not JSON; expected a JSON object of the labels of one key") from None
        more: dict[str, Any] = {}
        if isinstance(payload, dict):
            more = {name: payload.pop(name) for name in _MORE if name in payload}
        KeyLabels.from_dict(payload)
        return cls(common._replace(**payload), *_state(more))

    def to_dict(self) -> dict[str, str]:
        """Return what `from_line` reads: the labels, and the state of a key out of service."""
        payload = self.labels.to_dict()
        if self.state != "active":
            payload["state"] = self.state
        if self.revocation and self.revocation.at:
            payload["revoked_at"] = self.revocation.at
        if self.revocation and self.revocation.reason:
            payload["revoked_reason"] = self.revocation.reason
        return payload


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    payload = dict(pairs)
    if len(payload) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{twice[:40]!a} stands twice in one object; which one is meant?")
    return payload


def _state(more: dict[str, Any]) -> tuple[str, Revocation | None]:
    if not all(isinstance(value, str) for value in more.values()):
        raise ConfigError(f"{', '.join(_MORE)} of a key are texts")
    state = more.get("state", "active")
    if state not in STATES:
        raise ConfigError(f"unknown state {state[:40]!a}; expected {', '.join(STATES)}")
    at, reason = more.get("revoked_at") or None, more.get("revoked_reason") or None
    if state != "revoked":
        if at or reason:
            raise ConfigError(
                f'"revoked_at" and "revoked_reason" go with a revoked key, not {state}'
            )
        return state, None
    if at is not None:
        try:
            datetime.fromisoformat(at)
        except ValueError:
            raise ConfigError(f'"revoked_at" is a time in ISO 8601, got {at[:40]!a}') from None
    return state, Revocation(at, reason)
