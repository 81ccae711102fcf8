"""Whose key: the labels under which a provider derives the keys in use from one master secret."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from watermark.errors import ConfigError
from watermark.keys import LABELS, SecretKey

__all__ = ["KeyLabels"]


class KeyLabels(NamedTuple):
    """The labels of one derived key; see `SecretKey.derive`. No secret.

    Attributes:
        model: model name as the provider knows it.
        epoch: key period, for example "2026-11".
        cohort: group of accounts.
        account: one account.
        purpose: anything else that must have a key of its own.
    """

    model: str = ""
    epoch: str = ""
    cohort: str = ""
    account: str = ""
    purpose: str = ""

    @classmethod
    def from_dict(cls, payload: Any) -> Self:
        """Read labels.

        Args:
            payload: a JSON object of texts by label; missing ones are empty.

        Returns:
            The labels.

        Raises:
            ConfigError: not an object of texts, an unknown label, or no label that is not empty.
        """
        if not isinstance(payload, dict):
            raise ConfigError(f"the labels of a key are a JSON object of {', '.join(LABELS)}")
        if unknown := sorted(set(payload) - set(LABELS)):
            raise ConfigError(
                f"unknown labels: {', '.join(unknown)}; expected some of {', '.join(LABELS)}"
            )
        if not all(isinstance(value, str) for value in payload.values()):
            raise ConfigError("the labels of a key are texts; write numbers in quotes")
        labels = cls(**payload)
        if not any(labels):
            raise ConfigError(f"a key needs at least one of {', '.join(LABELS)}; got none")
        return labels

    def to_dict(self) -> dict[str, str]:
        """Return the labels that are not empty."""
        return {label: value for label, value in self._asdict().items() if value}

    @property
    def name(self) -> str:
        """How results call the key: its labels that are not empty, "smollm2/2026-11/c3"."""
        return "/".join(value for value in self if value)

    def key_from(self, master: SecretKey) -> SecretKey:
        """Derive the key."""
        return master.derive(**self._asdict())
