"""What a verification found: one check a line, and one line for all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self, final

__all__ = ["Check", "Outcome", "Verification"]


@final
class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_DONE = "not_done"
    STOPPED = "stopped"  # by a limit, or by a crash


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

    def plus(self, *checks: Check) -> Self:
        """Return it with more checks."""
        return replace(self, checks=(*self.checks, *checks))

    @property
    def is_intact(self) -> bool:
        """True if all was checked and nothing failed; what was not done is not counted."""
        return not self.has_failed and self.is_finished

    @property
    def has_failed(self) -> bool:
        """True if a check failed, whatever was not done or stopped beside it."""
        return bool(self._with(Outcome.FAILED))

    @property
    def is_finished(self) -> bool:
        """True if nothing was stopped half way."""
        return not self._with(Outcome.STOPPED)

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

    def _with(self, outcome: Outcome) -> list[Check]:
        return [check for check in self.checks if check.outcome is outcome]

    @property
    def line(self) -> str:
        """The answer in one line."""
        if failed := self._with(Outcome.FAILED):
            more = f" (and {len(failed) - 1} more: -v)" if len(failed) > 1 else ""
            return f"NOT verified: {failed[0].name}: {failed[0].detail}{more}"
        if stopped := self._with(Outcome.STOPPED):
            # Without the finding, for which nothing speaks yet.
            return f"not finished: {stopped[0].name}: {stopped[0].detail}"
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
            "finished": self.is_finished,
            "line": self.line,
            "checks": [check.to_dict() for check in self.checks],
        }
