"""A claim about a suspect, with its controls beside it.

Every control runs through the same pipeline. One that fires stops the claim: then something other
than the key explains the signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, final

from detect.finding import Finding
from detect.results import CONTROL_FIRES_AT, Verdict, format_p
from detect.suspect.inheritance import Outcome
from detect.suspect.marked_reading import MARKED_READING_LIMITS
from detect.text import binding_limits

__all__ = ["Access", "Control", "ProbeResult", "conclude"]

Access = Literal["text", "logprobs", "weights"]

_LIMITS: Final = (
    "A small p-value shows that the suspect depends on the key. It does not show who queried the "
    "provider, with what intent, or in breach of what; marked text that stands in public is a "
    "rival explanation.",
    "A large p-value shows nothing: paraphrase, short training, a wide context or too few queries "
    "leave no trace that could be found.",
    "It does not show what share of the suspect's ability came from the marked answers.",
)
_LIMITS_OF_ACCESS: Final = {
    "text": (
        "It holds for prompts that were chosen without the key and without looking at the "
        "answers; contexts that the prompt shows are not scored.",
    ),
    "logprobs": (
        "It holds for prompts that were chosen without the key; contexts that the prompt or the "
        "answer itself showed before are not scored. What an endpoint reports is taken as it is.",
    ),
    "weights": (
        "It holds for unmarked reading texts and a reference that were chosen without the key: "
        "then the weights are fixed before any word is looked at.",
    ),
}
_LIMITS_OF_REFERENCE: Final = (
    "The reference must not have learned from answers under the key, nor have been chosen for the "
    "result: choosing among references is a search that this p-value does not pay for.",
)
_LIMITS_OF_OWN_TEXTS: Final = (
    "The own texts must not depend on the key under test: unmarked, or marked under other keys.",
)
_NULL: Final = "The suspect is independent of the secret key."


@final
@dataclass(frozen=True)
class Control:
    """A model that cannot have learned from marked answers, tested like the suspect.

    Attributes:
        name: the model's name.
        role: why it is clean, for example "base" or "clean twin".
        tested: its finding.
        note: what differed from the suspect's test, if anything.
    """

    name: str
    role: str
    tested: Outcome
    note: str = ""

    @property
    def fires(self) -> bool:
        """True if the control looks guilty: parametric or decoy p at most 0.001."""
        finding = self.tested.finding
        by_decoys = finding.decoys.p_value if finding.decoys else 1.0
        # "At most": the best rank among 999 decoys, the fewest by default, is 0.001 itself.
        return min(finding.tail.p_value, by_decoys) <= CONTROL_FIRES_AT

    @property
    def is_empty(self) -> bool:
        """True if nothing was scored, so that it could not have fired."""
        return self.tested.finding.n_scored == 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        payload = self.tested.finding.to_dict()
        kept = ("p_value", "log10_p", "log10_p_ceiling", "n_scored", "verdict", "decoys")
        return {
            "name": self.name,
            "role": self.role,
            **{k: payload[k] for k in kept},
            "fires": self.fires,
            "note": self.note,
        }


@final
@dataclass(frozen=True)
class ProbeResult:
    """The result of probing a suspect.

    Attributes:
        suspect: its name.
        access: what was asked of it.
        tested: its finding, after the controls had their say.
        controls: the controls.
        n_answers: answers or texts looked at.
        marked_texts: True if the texts that were read carry the mark.
        used: what else the test used: the reference, digests of prompts and texts, sampling.
    """

    suspect: str
    access: Access
    tested: Outcome
    controls: tuple[Control, ...]
    n_answers: int
    marked_texts: bool = False
    used: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        finding = self.tested.finding
        return {
            "kind": "probe",
            "access": self.access,
            "suspect": self.suspect,
            "null_hypothesis": _NULL,
            **finding.to_dict(),
            "n_tokens": self.tested.n_tokens,
            "n_answers": self.n_answers,
            "reasons": self.tested.reasons,
            "spread": self.tested.spread,
            "used": self.used,
            "controls": [control.to_dict() for control in self.controls],
            "limits": [
                *_LIMITS,
                *(MARKED_READING_LIMITS if self.marked_texts else _LIMITS_OF_ACCESS[self.access]),
                *(_LIMITS_OF_REFERENCE if self.used.get("reference") else ()),
                *(_LIMITS_OF_OWN_TEXTS if self.used.get("own_texts") else ()),
                *binding_limits(finding.plan.config),
            ],
        }


def _p_values(control: Control) -> str:
    finding = control.tested.finding
    by_decoys = f", by decoys {finding.decoys.p_value:.2g}" if finding.decoys else ""
    return f"p = {format_p(finding.tail.log10_p)}{by_decoys}"


def _avoids(finding: Finding, controls: Sequence[Control]) -> list[str]:
    """Warn of a statistic that is lower than chance allows.

    H0: the suspect is independent of the key. Exact, by decoys. Alternative: it avoids what the key
    prefers, as a model does from whose output the mark is being subtracted (Pan et al., ACL 2025).
    At this level one innocent in a thousand is named: a doubt about a negative verdict, no claim.
    """
    low = [c.name for c in controls if _is_low(c.tested.finding)]
    if low:
        return [
            f"The statistic of {' and '.join(low)} is lower than chance allows: reference or test "
            "are at fault, and that the suspect shows nothing says nothing."
        ]
    if not _is_low(finding):
        return []
    decoys = finding.decoys
    assert decoys is not None
    return [
        f"The statistic is lower than chance allows ({decoys.n_at_most} of {decoys.n_decoys} decoy "
        f"keys are as low, p = {decoys.lower_p_value:.2g}). That is no sign of innocence: the mark "
        "may have been neutralised, or the reference may have learned it. One innocent in a "
        "thousand looks like that."
    ]


def _is_low(finding: Finding) -> bool:
    return finding.decoys is not None and finding.decoys.lower_p_value <= CONTROL_FIRES_AT


def conclude(
    suspect: str,
    access: Access,
    tested: Outcome,
    controls: Sequence[Control],
    n_answers: int,
    *,
    marked_texts: bool = False,
) -> ProbeResult:
    """Set a suspect's finding beside its controls.

    Args:
        suspect: its name.
        access: what was asked of it.
        tested: its finding.
        controls: the controls, tested the same way.
        n_answers: answers or texts looked at.
        marked_texts: True if the texts that were read carry the mark.

    Returns:
        The result. If a control fires the verdict is INCONCLUSIVE, a negative one too: what
        makes an innocent model look guilty may also hide a guilty one. Controls that scored
        nothing do not count; without any that counts a warning says so. A statistic that is too
        low for an innocent model is named, and is no "no signal".
    """
    warnings = [
        f"The control {c.name} ({c.role}) fires as well ({_p_values(c)}): the claim is stopped."
        for c in controls
        if c.fires
    ]
    finding = tested.finding
    avoids = _avoids(finding, controls)
    is_held_back = warnings or (avoids and finding.verdict is Verdict.NO_SIGNAL)
    verdict = Verdict.INCONCLUSIVE if is_held_back else finding.verdict
    warnings += avoids
    warnings += [
        f"The control {c.name} ({c.role}) scored nothing, so that it controls nothing."
        for c in controls
        if c.is_empty
    ]
    if all(c.is_empty for c in controls):
        warnings.append("No control model was tested: add at least one with --control.")
    finding = replace(finding, verdict=verdict, warnings=(*finding.warnings, *warnings))
    return ProbeResult(
        suspect,
        access,
        tested._replace(finding=finding),
        tuple(controls),
        n_answers,
        marked_texts,
    )
