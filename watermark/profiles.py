"""Profiles: which engine served what, with which mark, under which key, and when.

A provider keeps one file for each deployment that it ever ran, so that text in the wild can be
asked which of them made it. A profile holds no secret: it names its key by key id.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, final

from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, WatermarkError
from watermark.keyring.key_files import load_key
from watermark.keys import Key
from watermark.storage.files import read_json

__all__ = ["Profile", "ServedProfile", "load_profile", "load_profiles"]

_FORMAT: Final = "heirmark-profile-1"
_FIELDS: Final = frozenset(
    {"format", "name", "engine", "tokenizer", "key_id", "config", "served_from", "served_until"}
)
_OPTIONAL: Final = frozenset({"served_from", "served_until"})


@final
@dataclass(frozen=True)
class Profile:
    """One deployment.

    Attributes:
        name: how results call it.
        engine: what served it, with its version, in words: "vLLM 0.33.0".
        tokenizer: where the tokenizer is found: tokenizer.json, folder, Hub id or "smollm2".
        key_id: of the key it was served under.
        config: the mark.
        served_from: first day, or None if unknown.
        served_until: last day, or None if unknown or still served.
    """

    name: str
    engine: str
    tokenizer: str
    key_id: str
    config: WatermarkConfig
    served_from: datetime.date | None = None
    served_until: datetime.date | None = None

    def __post_init__(self) -> None:
        first, last = self.served_from, self.served_until
        if first and last and last < first:
            raise ConfigError(f"profile {self.name!r}: served until {last}, but from {first}")

    @property
    def period(self) -> str:
        """When it was served, in words: "from 2026-11-01 until 2026-11-30"; empty if unknown."""
        first, last = self.served_from, self.served_until
        return " ".join([f"from {first}"] * bool(first) + [f"until {last}"] * bool(last))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that `from_dict` reads back."""
        return {
            "format": _FORMAT,
            "name": self.name,
            "engine": self.engine,
            "tokenizer": self.tokenizer,
            "key_id": self.key_id,
            "config": self.config.to_dict(),
            "served_from": self.served_from.isoformat() if self.served_from else None,
            "served_until": self.served_until.isoformat() if self.served_until else None,
        }

    @classmethod
    def from_dict(cls, payload: Any) -> Self:
        """Read a profile back.

        Args:
            payload: what `to_dict` gave.

        Returns:
            The profile.

        Raises:
            ConfigError: wrong format, unknown or missing field, value of the wrong kind.
        """
        if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
            raise ConfigError(f"expected a profile with format {_FORMAT!r}")
        if unknown := sorted(set(payload) - _FIELDS):
            raise ConfigError(f"unknown profile fields: {', '.join(unknown)}")
        if missing := sorted(_FIELDS - _OPTIONAL - set(payload)):
            raise ConfigError(f"the profile lacks {', '.join(missing)}")
        texts = {field: payload[field] for field in ("name", "engine", "tokenizer", "key_id")}
        if not all(isinstance(text, str) and text for text in texts.values()):
            raise ConfigError("name, engine, tokenizer and key_id of a profile must be text")
        return cls(
            **texts,
            config=WatermarkConfig.from_dict(payload["config"]),
            served_from=_day(payload.get("served_from")),
            served_until=_day(payload.get("served_until")),
        )


class ServedProfile(NamedTuple):
    """A profile with its key."""

    profile: Profile
    key: Key


def load_profile(path: str | Path) -> Profile:
    """Read a profile's file.

    Args:
        path: JSON as `Profile.to_dict` gives it.

    Returns:
        The profile.

    Raises:
        ConfigError: missing, not JSON, or not a profile; names the file.
    """
    try:
        return Profile.from_dict(read_json(path))
    except (WatermarkError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from None


def load_profiles(folder: str | Path) -> list[ServedProfile]:
    """Read every profile of a folder with its key.

    Args:
        folder: holds *.profile.json, and their keys as *.key.json, there or in folders below.

    Returns:
        The profiles by file name.

    Raises:
        ConfigError: no profile, a damaged one, two of one name, or a key that is not there.
        KeyFileError: a key file that is damaged or readable by others.
    """
    folder = Path(folder)
    paths = sorted(folder.rglob("*.profile.json"))
    if not paths:
        raise ConfigError(f"the folder {folder} holds no *.profile.json")
    profiles = [load_profile(path) for path in paths]
    names = [profile.name for profile in profiles]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"several profiles of {folder} are called {', '.join(twice)}")
    keys = {key.key_id: key for key in _keys(folder)}
    for profile in profiles:
        if profile.key_id not in keys:
            raise ConfigError(
                f"profile {profile.name!r} was served under key {profile.key_id}, of which "
                f"{folder} holds no *.key.json; put the key file there"
            )
    return [ServedProfile(profile, keys[profile.key_id]) for profile in profiles]


def _keys(folder: Path) -> Iterator[Key]:
    for path in sorted(folder.rglob("*.key.json")):
        yield load_key(path)


def _day(value: Any) -> datetime.date | None:
    if value is None:
        return None
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ConfigError(
            f"a day of a profile is written 2026-11-30, got {json.dumps(value)}"
        ) from None
