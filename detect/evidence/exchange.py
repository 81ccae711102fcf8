"""What the process that verifies tells the one that started it: JSON, one line a step."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final, NamedTuple, final

from detect.evidence.checks import Check, Outcome, Verification

__all__ = ["MOST_BYTES", "NOTHING", "Heard", "Told", "hear", "tell"]

# Of all lines together: a check's detail names a few files.
MOST_BYTES: Final = 16 << 20


@final
class Told(StrEnum):
    """What a line means."""

    SO_FAR = "so far"
    DONE = "done"
    ERROR = "error"  # of what the verifier himself gave


@final
class Heard(NamedTuple):
    """What was told.

    Attributes:
        told: what the last line means.
        found: what was found by then.
        words: of the error; empty without one.
    """

    told: Told
    found: Verification
    words: str = ""


NOTHING: Final = Heard(Told.SO_FAR, Verification("", ()))


def tell(heard: Heard) -> bytes:
    """Write a line."""
    found = heard.found
    checks = [[c.name, c.outcome.value, c.detail, c.said] for c in found.checks]
    line = {"told": heard.told.value, "finding": found.finding, "checks": checks}
    return json.dumps({**line, "words": heard.words}).encode("ascii") + b"\n"


def hear(content: bytes) -> Heard:
    """Read the last whole line.

    Args:
        content: all that was told, the last line perhaps torn off.

    Returns:
        What it says; `NOTHING` if there is no whole line, or none that can be read.
    """
    line = content[: content.rfind(b"\n") + 1].rstrip(b"\n").rpartition(b"\n")[2]
    try:
        payload: dict[str, Any] = json.loads(line)
        checks = tuple(
            Check(str(name), Outcome(outcome), str(detail), str(said))
            for name, outcome, detail, said in payload["checks"]
        )
        found = Verification(str(payload["finding"]), checks)
        return Heard(Told(payload["told"]), found, str(payload["words"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return NOTHING
