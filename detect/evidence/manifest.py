"""`bundle.json`: what was tested, with which options, inputs and versions; what it claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from detect.evidence.inputs import Input
from detect.evidence.schemas import validate
from watermark.errors import EvidenceError

__all__ = ["LIMITS", "MANIFEST_NAME", "Claim", "Manifest", "claim_of", "read_manifest"]

FORMAT: Final = "heirmark-bundle-1"
MANIFEST_NAME: Final = "bundle.json"
LIMITS: Final = (
    "The bundle shows that this result follows from these inputs under this key. It does not show "
    "where the inputs came from, nor that what they were said to be is what they are.",
    "It does not show how many tests were run before this one was kept: a choice among results "
    "is a search that the p-value does not pay for, unless a commitment fixed the test before.",
    "Recorded answers, and the choice of inputs and accounts, are the signer's word, unless a "
    "commitment names them by their hashes. Whoever holds the key can write text that carries the "
    "mark.",
    "A signature shows who vouches for the bundle. It adds nothing to the p-value.",
)


@final
class Claim(NamedTuple):
    """The claim and the null hypothesis in one sentence each, and what the result does not show."""

    claim: str
    null_hypothesis: str
    limits: tuple[str, ...]


def claim_of(result: Mapping[str, Any], key_id: str) -> Claim:
    """Say what a result claims.

    Args:
        result: a command's JSON result.
        key_id: of the key that the test was run with.

    Returns:
        The claim.
    """
    from detect.reporting.words import NULL_HYPOTHESES, headline
    from detect.results import format_p

    kind = result["kind"]
    limits = (*result.get("limits", ()), *LIMITS)
    if kind == "calibration":
        own = format_p(result["this_key"]["log10_p_pooled"])
        return Claim(
            f"On this clean text the test's false positives are as counted; pooled under the key "
            f"{key_id} p = {own}.",
            "The text is independent of the key, as it is of fresh keys.",
            limits,
        )
    null = result.get("null_hypothesis") or NULL_HYPOTHESES[kind]
    said = headline(kind, result["verdict"]).rstrip(".")
    claim = f"{said}: p = {format_p(result['log10_p'])} under the key {key_id}."
    return Claim(claim, null, limits)


@final
@dataclass(frozen=True)
class Manifest:
    """The content of `bundle.json`.

    Attributes:
        created: when, UTC, as ISO 8601; nobody vouches for it but the signer.
        claim: what the result says, and what it does not.
        command: name of the command, as in `detect.evidence.recordable`.
        options: of the command.
        rerun: the command line for people; KEY stands for the revealed key file.
        key_id: of the key under test.
        config_fingerprint: of the deployment.
        tokenizer_fingerprint: of the provider's tokenizer.
        inputs: what was tested.
        environment: versions and machine, and a hash of heirmark's code.
        commitment: which entry of the bundle's commitment log the opening opens, or None.
    """

    created: str
    claim: Claim
    command: str
    options: Mapping[str, Any]
    rerun: str
    key_id: str
    config_fingerprint: str
    tokenizer_fingerprint: str
    inputs: tuple[Input, ...]
    environment: Mapping[str, Any]
    commitment: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "format": FORMAT,
            "created": self.created,
            "claim": self.claim.claim,
            "null_hypothesis": self.claim.null_hypothesis,
            "limits": list(self.claim.limits),
            "command": self.command,
            "options": dict(self.options),
            "rerun": self.rerun,
            "key_id": self.key_id,
            "config_fingerprint": self.config_fingerprint,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
            "inputs": [one.to_dict() for one in self.inputs],
            "environment": dict(self.environment),
            "commitment": None if self.commitment is None else dict(self.commitment),
        }


def read_manifest(payload: Any) -> Manifest:
    """Read a manifest.

    Args:
        payload: the JSON value of `bundle.json`.

    Returns:
        The manifest.

    Raises:
        EvidenceError: it does not fit its schema.
    """
    validate(payload, "bundle-1", MANIFEST_NAME)
    fields = {k: v for k, v in payload.items() if k not in ("format", "null_hypothesis", "limits")}
    fields["claim"] = Claim(payload["claim"], payload["null_hypothesis"], tuple(payload["limits"]))
    fields["inputs"] = tuple(Input.from_dict(one) for one in payload["inputs"])
    names = [one.name for one in fields["inputs"]]
    if len(set(names)) < len(names):
        raise EvidenceError(f"{MANIFEST_NAME} names an input twice")
    return Manifest(**fields)
