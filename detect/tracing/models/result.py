"""Which keys a suspect depends on, and whether its signal is one key's or spread over several.

Four tests, each with its own null hypothesis; `level_of_each` says what each of the first two may
spend of the level that they share:

- of each key: the suspect is independent of it. Exact; Holm over the keys.
- of all keys together, and of all but the best: it is independent of these. Exact; the second pays
  for the choice of the best key.
- of the best key's part: at most what a leak gives it (`detect.tracing.models.concentration`,
  `detect.tracing.models.leaks`). A rigorous bound; pays for the choice.

Revoked keys are tested and paid for. Others may have published text under them, or text that avoids
their marks: they are never the best key, and no sum and no part has them in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, final

from scipy.stats import norm

from detect.multiplicity import bonferroni
from detect.results import Verdict, json_p
from detect.suspect.inheritance import Outcome
from detect.suspect.probe import Access
from detect.tracing.models.findings import Concentrated, PooledControl, TracedKey
from detect.tracing.models.under_keys import Sum
from detect.tracing.models.words import limits_of, sentence_of
from detect.tracing.revoked import revoked_words

__all__ = ["Conclusion", "ModelTrace", "level_of_each"]

Conclusion = Literal["one_key", "several_keys", "no_signal", "undecided"]
_QUIET_ABOVE: Final = math.log10(0.01)
# As one control in a thousand: keys that a model avoids would make another look alone.
_AVOIDED_AT: Final = 1e-3


def level_of_each(alpha: float) -> float:
    """Share the level of the whole trace between its two ways to find a signal.

    The keys one by one (Holm), and all of them together: where no key was used, either finds one
    with a probability of at most half of alpha, and both with at most alpha.
    """
    return alpha / 2


@final
@dataclass(frozen=True)
class ModelTrace:
    """The result of tracing a suspect model.

    Attributes:
        suspect: its name.
        access: what was asked of it.
        alpha: level of any finding where no key was used.
        traced: the keys, in the order given.
        pooled: all keys together, without revoked ones.
        others: the same without the best.
        controls: clean models under the keys of `pooled`; under each key they stand with it.
        concentrated: of the best key; None where no bound is known for the mark's words.
        n_answers: answers or texts looked at.
        least_share: of the suspect's data that a key must have had to be found with 90 % power.
        arithmetic: what naming one of thousands of accounts would take, in words.
        used: what else the test used.
    """

    suspect: str
    access: Access
    alpha: float
    traced: tuple[TracedKey, ...]
    pooled: Sum
    others: Sum
    controls: tuple[PooledControl, ...]
    concentrated: Concentrated | None
    n_answers: int
    least_share: float | None
    arithmetic: str
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> TracedKey:
        """Of the keys that were not revoked, that of the largest statistic and smallest p-value."""
        return max(self.own, key=lambda key: key.z)

    @property
    def own(self) -> list[TracedKey]:
        """Keys that were not revoked, at least two."""
        return [key for key in self.traced if not key.is_revoked]

    @property
    def revoked(self) -> list[TracedKey]:
        """Keys that others may know."""
        return [key for key in self.traced if key.is_revoked]

    @property
    def others_adjusted(self) -> float:
        """log10 p of all keys but the best, the choice paid for."""
        return bonferroni(self.others.tail.log10_p_ceiling, len(self.traced))

    @property
    def significant(self) -> list[TracedKey]:
        """Keys with a signal at the level of the keys, which were not revoked."""
        level = level_of_each(self.alpha)
        return [key for key in self.own if key.verdict(level) is Verdict.SIGNAL]

    @property
    def significant_revoked(self) -> list[TracedKey]:
        """Keys with a signal that others may have caused."""
        level = level_of_each(self.alpha)
        return [key for key in self.revoked if key.verdict(level) is Verdict.SIGNAL]

    @property
    def holds_back(self) -> list[str]:
        """Why nothing is concluded, if anything forbids it."""
        reasons = [
            f"The control {name} fires under {', '.join(where)}: the claim is stopped."
            for name, where in self._firing().items()
        ]
        if avoided := self._avoided():
            reasons.append(
                f"The suspect avoids other keys ({avoided}): their marks may have been "
                "neutralised, and the best key's part would look larger than it was."
            )
        return reasons

    def _avoided(self) -> str:
        """Name the keys whose words a suspect takes too rarely, each and all of them together."""
        others = [key for key in self.own if key is not self.best]
        # Some may be avoided and others followed: their sum alone would show neither.
        least = norm.ppf(_AVOIDED_AT / len(others))
        found = [f"{key.named.name}: z = {key.z:.1f}" for key in others if key.z <= least]
        if self.others.z <= norm.ppf(_AVOIDED_AT):
            found.append(f"all but {self.best.named.name} together: z = {self.others.z:.1f}")
        return ", ".join(found)

    def _firing(self) -> dict[str, list[str]]:
        """List the controls that look guilty, and under what."""
        firing: dict[str, list[str]] = {}
        for key in self.traced:
            for control in key.probed.controls:
                if control.fires:
                    firing.setdefault(control.name, []).append(key.named.name)
        for pooled in self.controls:
            if pooled.fires:
                firing.setdefault(pooled.name, []).append("all keys together")
        return firing

    @property
    def conclusion(self) -> Conclusion:
        """Say what the four tests come to; with `holds_back`, nothing."""
        level = math.log10(level_of_each(self.alpha))
        found = self.significant
        if self.holds_back:
            return "undecided"
        if len(found) > 1 or (found and self.others_adjusted <= level):
            return "several_keys"
        if not found:
            return self._without_any(level)
        alone = self.concentrated
        is_alone = alone is not None and alone.log10_p_adjusted <= math.log10(self.alpha)
        return "one_key" if is_alone and self.others_are_quiet else "undecided"

    @property
    def others_are_quiet(self) -> bool:
        """True unless the other keys together are at least suspicious: p above 0.01."""
        return self.others_adjusted > _QUIET_ABOVE

    def _without_any(self, level: float) -> Conclusion:
        """No single key: a signal spread thinly shows in all of them together."""
        if self.pooled.tail.log10_p_ceiling <= level:
            return "several_keys"
        each = level_of_each(self.alpha)
        # A revoked key that speaks is no silence.
        silent = all(key.verdict(each) is Verdict.NO_SIGNAL for key in self.traced)
        quiet = self.pooled.tail.log10_p > _QUIET_ABOVE
        return "no_signal" if silent and quiet else "undecided"

    @property
    def verdict(self) -> Verdict:
        """Of the best key; a conclusion that was held back is none."""
        if self.holds_back:
            return Verdict.INCONCLUSIVE
        if self.conclusion == "no_signal":
            return Verdict.NO_SIGNAL
        return Verdict.SIGNAL if self.significant else Verdict.INCONCLUSIVE

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        best, n = self.best, len(self.traced)
        tested: Outcome = best.probed.tested
        payload = best.finding.to_dict()
        return {
            "kind": "trace_model",
            "access": self.access,
            "suspect": self.suspect,
            "null_hypothesis": "The suspect is independent of every key under test.",
            **payload,
            "p_value": json_p(bonferroni(payload["log10_p"], n)),
            "log10_p": bonferroni(payload["log10_p"], n),
            "log10_p_ceiling": bonferroni(payload["log10_p_ceiling"], n),
            "verdict": self.verdict.value,
            "alpha": self.alpha,
            "level_of_each": level_of_each(self.alpha),
            "conclusion": self.conclusion,
            "conclusion_in_words": sentence_of(self),
            "best": best.named.name,
            "named_revoked": [key.named.name for key in self.significant_revoked],
            "cohorts": [key.to_dict(level_of_each(self.alpha)) for key in self.traced],
            "spread": self._spread(),
            "controls": [control.to_dict() for control in self.controls],
            "n_tokens": tested.n_tokens,
            "n_answers": self.n_answers,
            "reasons": tested.reasons,
            "reading": tested.spread,
            "used": self.used,
            "warnings": self._warnings(),
            "limits": limits_of(self),
        }

    def _spread(self) -> dict[str, Any]:
        alone = self.concentrated
        if alone is not None and self.holds_back:
            # A bound of a part presumes what held the conclusion back.
            alone = replace(alone, share_at_least=None)
        return {
            "n_significant": len(self.significant),
            "pooled": _sum(self.pooled, self.pooled.tail.log10_p),
            "others": _sum(self.others, self.others_adjusted),
            "concentration": None if alone is None else alone.to_dict(self.alpha),
        }

    def _warnings(self) -> list[str]:
        own = [
            f"{key.named.name}: {warning}"
            for key in self.traced
            for warning in key.finding.warnings
        ]
        missing = [w for w in own if "No control model" in w]
        rest = [w for w in own if w not in missing]
        revoked = revoked_words([key.named for key in self.significant_revoked], "model")
        return [*self.holds_back, *revoked, *rest, *(w.partition(": ")[2] for w in missing[:1])]


def _sum(pooled: Sum, adjusted: float) -> dict[str, Any]:
    return {
        "p_value": json_p(adjusted),
        "log10_p": pooled.tail.log10_p,
        "log10_p_adjusted": adjusted,
        "method": pooled.tail.method,
        "z": round(pooled.z, 4),
    }
