"""What a verification found: one check a line, and one line for all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, final

__all__ = ["Check", "Outcome", "Verification"]


@final
class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_DONE = "not_done"


@final
@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: for example "files".
        outcome: how it ended.
        detail: one line for people.
        said: what the verdict's line says of it, if anything.
    """

    name: str
    outcome: Outcome
    detail: str
    said: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"name": self.name, "outcome": self.outcome.value, "detail": self.detail}


@final
@dataclass(frozen=True)
class Verification:
    """All checks of a bundle.

    Attributes:
        finding: the recorded result in a few words, "signal, p = 3.2e-17"; empty if not read.
        checks: in order.
    """

    finding: str
    checks: tuple[Check, ...]

    @property
    def is_intact(self) -> bool:
        """True if nothing failed; that says nothing about what was not done."""
        return all(check.outcome is not Outcome.FAILED for check in self.checks)

    @property
    def is_recomputed(self) -> bool:
        """True if nothing failed and the result was recomputed."""
        return self.is_intact and self._passed("recomputed")

    @property
    def is_verified(self) -> bool:
        """True if the result was recomputed, and what people read is what it gives."""
        return self.is_recomputed and self._passed("words")

    def _passed(self, name: str) -> bool:
        return any(c.name == name and c.outcome is Outcome.PASSED for c in self.checks)

    @property
    def line(self) -> str:
        """The answer in one line."""
        failed = [c for c in self.checks if c.outcome is Outcome.FAILED]
        if failed:
            more = f" (and {len(failed) - 1} more: -v)" if len(failed) > 1 else ""
            return f"NOT verified: {failed[0].name}: {failed[0].detail}{more}"
        said = ", ".join(check.said for check in self.checks if check.said)
        word = "intact, not recomputed"
        if self.is_recomputed:
            word = "verified" if self.is_verified else "recomputed, words not compared"
        return f"{word}: {self.finding}; {said}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "verified": self.is_verified,
            "intact": self.is_intact,
            "line": self.line,
            "checks": [check.to_dict() for check in self.checks],
        }
