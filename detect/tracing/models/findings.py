"""What tracing a model finds: each key's test with its controls, and how much one key has of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from detect.finding import Finding
from detect.multiplicity import bonferroni, holm
from detect.results import CONTROL_FIRES_AT, Tail, Verdict, decide, json_p
from detect.suspect.probe import ProbeResult
from detect.tracing.models.concentration import Increments
from detect.tracing.models.leaks import Leak, Traffic
from detect.tracing.models.under_keys import Sum
from detect.tracing.named_keys import NamedKey

__all__ = ["Concentrated", "PooledControl", "TracedKey", "adjusted_over"]

_LN10: Final = math.log(10)


@final
@dataclass(frozen=True)
class TracedKey:
    """One key of the family.

    Attributes:
        named: the key and its name.
        probed: the suspect and its controls under it, at the family's level shared out.
        log10_p_adjusted: log10 p by Holm's method over the keys.
        ceiling_adjusted: the same of the rigorous ceilings.
        z: statistic in null standard deviations.
    """

    named: NamedKey
    probed: ProbeResult
    log10_p_adjusted: float
    ceiling_adjusted: float
    z: float

    @property
    def is_revoked(self) -> bool:
        """True if others may know the key: what shows under it concludes nothing."""
        return self.named.revocation is not None

    @property
    def finding(self) -> Finding:
        """The test of this key."""
        return self.probed.tested.finding

    def verdict(self, alpha: float) -> Verdict:
        """Decide at the family's level; what stopped the probe's claim stops this one."""
        own = self.finding.verdict
        if own is not Verdict.INCONCLUSIVE or self.is_stopped:
            return own
        adjusted = Tail(self.log10_p_adjusted, self.ceiling_adjusted, "exact")
        found = decide(adjusted, self.finding.n_scored, alpha=alpha, n_powered=2**63)
        return Verdict.SIGNAL if found is Verdict.SIGNAL else own

    @property
    def is_stopped(self) -> bool:
        """True if controls or decoys hold the claim back."""
        decoys, tail = self.finding.decoys, self.finding.tail
        contradicted = decoys is not None and decoys.contradicts(tail.log10_p)
        return contradicted or any(control.fires for control in self.probed.controls)

    def to_dict(self, alpha: float) -> dict[str, Any]:
        """Return JSON values."""
        finding, decoys = self.finding, self.finding.decoys
        labels, revocation = self.named.labels, self.named.revocation
        verdict = self.verdict(alpha)
        is_there = self.is_revoked and verdict is Verdict.SIGNAL
        return {
            "name": self.named.name,
            "labels": None if labels is None else labels.to_dict(),
            "key_id": self.named.key.key_id,
            "p_value": json_p(finding.tail.log10_p),
            "log10_p": finding.tail.log10_p,
            "log10_p_ceiling": finding.tail.log10_p_ceiling,
            "log10_p_adjusted": self.log10_p_adjusted,
            "statistic": finding.statistic,
            "z": round(self.z, 4),
            "n_scored": finding.n_scored,
            "verdict": (Verdict.INCONCLUSIVE if is_there else verdict).value,
            "named_revoked": is_there,
            "revoked": self.is_revoked,
            "revoked_at": revocation.at if revocation else None,
            "revoked_reason": revocation.reason if revocation else None,
            "decoys": decoys.to_dict() if decoys else None,
            "controls": [control.to_dict() for control in self.probed.controls],
        }


@final
@dataclass(frozen=True)
class PooledControl:
    """A control under all keys together."""

    name: str
    pooled: Sum

    @property
    def fires(self) -> bool:
        """True if it looks guilty of learning from any of them."""
        return self.pooled.tail.log10_p <= math.log10(CONTROL_FIRES_AT)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "role": "control",
            "log10_p": self.pooled.tail.log10_p,
            "z": round(self.pooled.z, 4),
            "fires": self.fires,
        }


@final
@dataclass(frozen=True)
class Concentrated:
    """How much of the signal is the best key's.

    Attributes:
        log10_p: log10 p of "at most what a leak gives it", before the choice is paid for.
        n_keys: keys among which the best was chosen.
        leak: what a leak gives it.
        z: own sum less the others' times the odds, in null standard deviations.
        share_at_least: lower bound of its part, right in 95 of 100 cases, the choice paid for;
            None where none is given.
    """

    log10_p: float
    n_keys: int
    leak: Leak
    z: float
    share_at_least: float | None = None

    @classmethod
    def of(
        cls,
        increments: Increments,
        name: str,
        traffic: Traffic,
        alpha: float,
        *,
        n_keys: int | None = None,
        among: Sequence[str] | None = None,
    ) -> Concentrated:
        """Test whether more of the signal is the best key's than a leak would give it.

        Args:
            increments: of the best key.
            name: the key's name.
            traffic: what was served under the keys.
            alpha: level of the test, the choice of the key paid for.
            n_keys: keys that are paid for; None means those of the increments.
            among: names of the keys of the increments, where others are not compared.

        Returns:
            The test, without a bound of the share.
        """
        n = n_keys or 1 + len(increments.others)
        # Half of the level is the test's, half is what chance may do to a leak; each key has its
        # part.
        level = alpha / (2 * n)
        leak = traffic.leak(name, n, level, among)
        z = increments.difference(leak.odds) if leak.share < 1 else 0.0
        return cls(increments.log10_p(leak.odds, level), n, leak, z)

    @property
    def by_traffic(self) -> bool:
        """True if the leak is one by counted traffic, False for "at most half"."""
        return self.leak.log10_chance > -math.inf

    @property
    def log10_p_adjusted(self) -> float:
        """With the choice of the key paid for, and with what chance does to a leak."""
        both = float(np.logaddexp(self.log10_p * _LN10, self.leak.log10_chance * _LN10))
        return bonferroni(both / _LN10, self.n_keys)

    def to_dict(self, alpha: float) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "p_value": json_p(self.log10_p_adjusted),
            "log10_p": self.log10_p,
            "log10_p_adjusted": self.log10_p_adjusted,
            "method": "e-value",
            "z": round(self.z, 4),
            "share_at_least": self.share_at_least,
            "by_traffic": self.by_traffic,
            **self.leak.to_dict(alpha),
        }


def adjusted_over(findings: Sequence[Finding]) -> tuple[list[float], list[float]]:
    """Adjust the keys' log10 p-values and ceilings by Holm's method."""
    tails = [finding.tail for finding in findings]
    logs = holm(np.array([tail.log10_p for tail in tails]))
    ceilings = holm(np.array([tail.log10_p_ceiling for tail in tails]))
    return logs.tolist(), ceilings.tolist()
