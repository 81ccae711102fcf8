"""What a probe used besides suspect and key: names and digests, no path and no secret.

Two runs with other references or prompts must be told apart: trying several is a search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from watermark.errors import ConfigError

__all__ = ["is_same", "refuse_own_reference", "what_was_used"]


def is_same(spec: str, other: str) -> bool:
    """Tell whether two names are of one model: spelled alike, or the same place on disk."""
    return spec == other or (
        Path(spec).exists() and Path(other).exists() and Path(spec).samefile(other)
    )


def refuse_own_reference(suspect: str, reference: str | None) -> None:
    """Refuse a suspect that is its own reference: what is left of it is rounding.

    Raises:
        ConfigError: they are the same model.
    """
    if reference and is_same(suspect, reference):
        raise ConfigError(
            "suspect and reference are the same model: nothing would be left of it. Give another "
            "reference, or none"
        )


def what_was_used(
    reference: str | None,
    files: Mapping[str, Path | None],
    prompts: Sequence[str] | None,
    sampling: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe a probe's inputs.

    Args:
        reference: what a person calls the reference model, or None.
        files: by what they are for; None where there is none.
        prompts: user messages, or None where nothing was asked.
        sampling: how answers were drawn.

    Returns:
        JSON values.
    """
    used: dict[str, Any] = {"reference": Path(reference).name if reference else None}
    used |= {name: _digest(path) for name, path in files.items()}
    if prompts is not None:
        content = json.dumps(list(prompts)).encode()
        used |= {"prompts": f"sha256:{hashlib.sha256(content).hexdigest()}"}
        used |= {"sampling": dict(sampling)}
    return used


def _digest(path: Path | None) -> str | None:
    return None if path is None else f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
