"""What the benchmarks of serving share: a policy file, and speeds with and without the mark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from watermark.config import WatermarkConfig
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey

__all__ = ["PairedSpeeds", "paired_speeds", "write_policy"]


def write_policy(
    folder: Path, config: WatermarkConfig, keys: Mapping[str, SecretKey], *, default: str | None
) -> Path:
    """Write a serving policy with its config and keys, any of which a request may name.

    Args:
        folder: where.
        config: the deployment.
        keys: by name.
        default: marks who names none; None refuses them.

    Returns:
        The policy's file.
    """
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    for name, key in keys.items():
        save_key(key, folder / f"{name}.json")
    policy = {
        "format": "heirmark-policy-1",
        "config": "config.json",
        "keys": {name: f"{name}.json" for name in keys},
        "default": default,
        "selectable": list(keys),
    }
    (folder / "policy.json").write_text(json.dumps(policy))
    return folder / "policy.json"


class PairedSpeeds(NamedTuple):
    """Tokens a second of rounds without and with the mark, in the order in which they ran."""

    plain: list[float]
    marked: list[float]

    @property
    def ratios(self) -> list[float]:
        """Marked to plain, of neighbouring rounds."""
        return [m / p for m, p in zip(self.marked, self.plain, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "plain_tokens_per_second": median(self.plain),
            "marked_tokens_per_second": median(self.marked),
            "ratio_of_pairs": self.ratios,
        }


def paired_speeds(rounds: Sequence[Mapping[str, Any]], clock: str) -> PairedSpeeds:
    """Compare rounds of one load by one clock.

    Args:
        rounds: each with "kind" ("plain" or "marked"), "n_tokens" and the clock's seconds.
        clock: name of the field with the seconds.

    Returns:
        The speeds.
    """
    plain, marked = (
        [r["n_tokens"] / r[clock] for r in rounds if r["kind"] == kind]
        for kind in ("plain", "marked")
    )
    return PairedSpeeds(plain, marked)
