"""What the registry says, as values. None holds a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self, final

from watermark.errors import RegistryError
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import STATES

__all__ = [
    "ALL_KEYS",
    "STATES",
    "Commitment",
    "Exchanges",
    "Imported",
    "IssuedKey",
    "KeyFilter",
    "Rotated",
    "utc_text",
    "utc_time",
]

# Sums of thousands of these still fit 64 bits.
_MAX_COUNT: Final = 10**15


def utc_text(time: datetime) -> str:
    """Write a time as the tables keep it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_time(text: str | None) -> datetime | None:
    """Read what `utc_text` wrote."""
    return datetime.fromisoformat(text) if text else None


class Exchanges(NamedTuple):
    """How much was served under a key.

    Attributes:
        n_exchanges: requests answered.
        n_tokens: tokens in the answers.
    """

    n_exchanges: int
    n_tokens: int

    def checked(self) -> Self:
        """Return the same; raises `RegistryError` if a number is negative or beyond 10^15."""
        for number in self:
            if type(number) is not int or not 0 <= number <= _MAX_COUNT:
                raise RegistryError("counts of exchanges and tokens are integers from 0 to 10^15")
        return self


class Commitment(NamedTuple):
    """Where a key was committed; see `watermark.commitments.log`.

    Attributes:
        commitment: "sha256:...".
        sequence: number of the log's entry.
        committed_at: the entry's time.
    """

    commitment: str
    sequence: int
    committed_at: datetime


class Imported(NamedTuple):
    """What an import did.

    Attributes:
        n_issued: new keys.
        n_known: keys that were issued before, under the same config.
        n_repeated: lines that named a key of the same import again.
        n_moved: accounts whose earlier key was retired, since they changed their cohort.
    """

    n_issued: int
    n_known: int
    n_repeated: int
    n_moved: int


class Rotated(NamedTuple):
    """What a rotation did.

    Attributes:
        n_issued: keys of the new epoch that were not there before.
        n_retired: keys of the old epoch.
    """

    n_issued: int
    n_retired: int


@final
@dataclass(frozen=True, slots=True)
class IssuedKey:
    """One key's record.

    Attributes:
        key_id: the key's public handle.
        master_key_id: of the secret that it was derived from.
        labels: under which it was derived.
        config: fingerprint of the config that it is served with; `Registry.config` has the config.
        issued_at: when, UTC.
        state: one of `STATES`.
        retired_at: when it was taken out of service, or None.
        retired_reason: why, or None.
        revoked_at: when it was known to be known to others, or None.
        revoked_reason: why, or None.
        served: how much was counted under it.
        served_from: time of the first count, or None.
        served_until: time of the last count, or None.
        commitment: its commitment, or None.
    """

    key_id: str
    master_key_id: str
    labels: KeyLabels
    config: str
    issued_at: datetime
    state: str
    retired_at: datetime | None
    retired_reason: str | None
    revoked_at: datetime | None
    revoked_reason: str | None
    served: Exchanges
    served_from: datetime | None
    served_until: datetime | None
    commitment: Commitment | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; fields without a value are left out."""
        times = ("issued_at", "retired_at", "revoked_at", "served_from", "served_until")
        payload: dict[str, Any] = {
            "key_id": self.key_id,
            "master_key_id": self.master_key_id,
            "labels": self.labels.to_dict(),
            "config": self.config,
            "state": self.state,
            "retired_reason": self.retired_reason,
            "revoked_reason": self.revoked_reason,
            **self.served._asdict(),
            **{name: utc_text(time) for name in times if (time := getattr(self, name))},
        }
        if self.commitment:
            payload["commitment"] = {
                **self.commitment._asdict(),
                "committed_at": utc_text(self.commitment.committed_at),
            }
        return {name: value for name, value in payload.items() if value is not None}


class KeyFilter(NamedTuple):
    """Which keys are meant; None means any, "" means those without that label.

    Attributes:
        model: model label.
        epoch: epoch label.
        cohort: cohort label.
        account: account label.
        purpose: purpose label.
        master_key_id: of the secret that the keys were derived from.
        key_id: the public handle.
        state: one of `STATES`; by default all, since a key that is out of service is still in
            the texts that it marked.
    """

    model: str | None = None
    epoch: str | None = None
    cohort: str | None = None
    account: str | None = None
    purpose: str | None = None
    master_key_id: str | None = None
    key_id: str | None = None
    state: str | None = None

    def checked(self) -> Self:
        """Return the same; raises `RegistryError` if the state is none of `STATES`."""
        if self.state is not None and self.state not in STATES:
            raise RegistryError(f"unknown state {self.state!r}; expected {', '.join(STATES)}")
        return self


ALL_KEYS: Final = KeyFilter()
