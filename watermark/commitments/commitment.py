"""Commitments: what binds a provider, at a key's birth, to the key and to how it will be tested.

A commitment is a hash that is published before anything is tested (`watermark.commitments.log`).
Until its opening is revealed it says nothing about key, config or plan; afterwards it shows that
neither the key nor the thresholds were chosen to fit the evidence.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, final

from watermark.commitments.plans import check_new_plan, check_plan
from watermark.config import WatermarkConfig
from watermark.errors import CommitmentError
from watermark.keys import EngineKey, Key
from watermark.storage import canonical

__all__ = ["OPENING_SALT_BYTES", "Opening", "canonical_json", "commitment_of", "make_opening"]

OPENING_SALT_BYTES: Final = 32
_DOMAIN: Final = b"heirmark-commitment-1"
_FORMAT: Final = "heirmark-opening-1"
_FIELDS: Final = frozenset({"format", "key_id", "salt", "config", "plan"})
_MAX_PLAN_BYTES: Final = 1 << 16


@final
@dataclass(frozen=True)
class Opening:
    """What, beside the key, a commitment was made of. Private until it is revealed.

    Attributes:
        key_id: of the key that was committed.
        salt: 32 random bytes, without which the hash would let config and plan be guessed.
        config: canonical JSON of the config (`WatermarkConfig.to_dict`), as it was committed.
        plan: canonical JSON of the test plan and its thresholds, as it was committed.
    """

    key_id: str
    salt: bytes = field(repr=False)
    config: str
    plan: str

    def __post_init__(self) -> None:
        if len(self.salt) != OPENING_SALT_BYTES:
            raise CommitmentError(
                f"the salt of an opening has {OPENING_SALT_BYTES} bytes, got {len(self.salt)}"
            )

    @property
    def watermark_config(self) -> WatermarkConfig:
        """The config; raises `ConfigError` if this version cannot read it."""
        return WatermarkConfig.from_dict(json.loads(self.config))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that `from_dict` reads back: for private files only."""
        return {
            "format": _FORMAT,
            "key_id": self.key_id,
            "salt": base64.b64encode(self.salt).decode("ascii"),
            "config": json.loads(self.config),
            "plan": json.loads(self.plan),
        }

    @classmethod
    def from_dict(cls, payload: Any) -> Self:
        """Read an opening back.

        Args:
            payload: what `to_dict` gave.

        Returns:
            The opening.

        Raises:
            CommitmentError: wrong format, unknown or missing field, value of the wrong kind.
        """
        if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
            raise CommitmentError(f"expected an opening with format {_FORMAT!r}")
        if set(payload) != _FIELDS:
            raise CommitmentError(
                f"an opening has the fields {', '.join(sorted(_FIELDS))} and no others"
            )
        try:
            salt = base64.b64decode(payload["salt"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise CommitmentError('"salt" of the opening is not base64') from None
        if not isinstance(payload["key_id"], str) or not isinstance(payload["config"], dict):
            raise CommitmentError('an opening needs a text "key_id" and an object "config"')
        return cls(payload["key_id"], salt, canonical_json(payload["config"]), _plan(payload))


def _plan(payload: dict[str, Any]) -> str:
    plan = payload["plan"]
    if not isinstance(plan, dict) or not plan:
        raise CommitmentError(
            "a test plan is a JSON object that states at least one thing, for example "
            '{"alpha": 1e-6, "score": "typical", "min_pairs": 1000}'
        )
    check_plan(plan)
    written = canonical_json(plan)
    if len(written) > _MAX_PLAN_BYTES:
        raise CommitmentError(
            f"a test plan has at most {_MAX_PLAN_BYTES} bytes of JSON, got {len(written)}; "
            "commit to the SHA-256 of longer documents"
        )
    return written


def canonical_json(payload: Any) -> str:
    """Write JSON in the one way that is hashed; see `watermark.storage.canonical.canonical_json`.

    Args:
        payload: JSON values.

    Returns:
        ASCII.

    Raises:
        CommitmentError: NaN, an infinity, or what is no JSON value.
    """
    try:
        return canonical.canonical_json(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise CommitmentError(f"this cannot be committed to as JSON: {error}") from None


def make_opening(key: Key, config: WatermarkConfig, plan: Mapping[str, Any]) -> Opening:
    """Draw the salt of a new commitment.

    Args:
        key: the key to commit to.
        config: the mark.
        plan: test plan and thresholds, JSON values. Those of
            `watermark.commitments.plans.COMPARED` are compared with the test; others are for
            people.

    Returns:
        The opening; `commitment_of` makes the commitment from it and the key.

    Raises:
        CommitmentError: the plan is empty, too long, no JSON, or says what no test can do.
    """
    check_new_plan(plan)
    salt = secrets.token_bytes(OPENING_SALT_BYTES)
    written = _plan({"plan": dict(plan)})
    return Opening(key.key_id, salt, canonical_json(config.to_dict()), written)


def commitment_of(key: Key, opening: Opening) -> str:
    """Compute a commitment.

    Hiding: SHA-256 over 32 random bytes that nobody else has. Binding: another key, config or plan
    with the same commitment is a collision of SHA-256; a key id alone, of 80 bits, would let its
    maker find two keys with one id. What stands for the key is one-way, so that a published
    opening without its key still gives nothing away, however short an engine's key is.

    Args:
        key: the key.
        opening: what else was committed.

    Returns:
        "sha256:" and 64 hexadecimal digits.

    Raises:
        CommitmentError: the opening is another key's.
    """
    if key.key_id != opening.key_id:
        raise CommitmentError(
            f"the opening belongs to the key {opening.key_id!r}, and the key given is "
            f"{key.key_id!r}"
        )
    texts = (opening.key_id, opening.config, opening.plan)
    key_id, config, plan = (text.encode("utf-8") for text in texts)
    parts = (_DOMAIN, key_id, _key_material(key), opening.salt, config, plan)
    # Every part carries its length, so that no two lists of parts have one encoding.
    message = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return "sha256:" + hashlib.sha256(message).hexdigest()


def _key_material(key: Key) -> bytes:
    """Return 32 bytes that only the key gives, and that do not give the key."""
    if isinstance(key, EngineKey):
        integers = b"".join(i.to_bytes(8, "little") for i in key.integers)
        return hmac.digest(key.salt, b"commitment heirmark-1" + integers, "sha256")
    return key.subkey("commitment heirmark-1", 32)
