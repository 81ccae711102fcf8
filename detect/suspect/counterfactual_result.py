"""What the paired counterfactual test found, and what that does and does not show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from detect.results import Verdict, json_p
from detect.suspect.logs import Kind
from detect.suspect.ranks import RankSum
from watermark.config import WatermarkConfig

__all__ = ["UNITS", "AccountResult", "CounterfactualResult"]


UNITS: Final = {Kind.SAME_KEY: "answers", Kind.NEVER_ISSUED: "keys"}
_NULLS: Final = {
    Kind.SAME_KEY: "Given the key and the prompts, the suspect is independent of the coins that "
    "the logged answers were drawn with.",
    Kind.NEVER_ISSUED: "The suspect is independent of the secret key of the logs.",
}
_ASSUMPTION: Final = (
    "Exchangeability: the counterfactuals were drawn by the same model with the same settings and "
    "post-processing as the logged answers, these with coins of their own, and no logged answer "
    "was left out for what it says. Key, config and tokens are compared at drawing; lengths, white "
    "space and line breaks are put to the same test as the likelihoods."
)
_LIMITS: Final = {
    Kind.SAME_KEY: (
        "A small p-value shows that the suspect knows logged answers from others that the model "
        "could have given: it saw them, or texts made from them. Through whom they reached it is "
        "not shown; an account's answers may have been published or passed on.",
    ),
    Kind.NEVER_ISSUED: (
        "A small p-value shows that the suspect depends on answers under the key, not that it saw "
        "these ones, and nothing about any account.",
    ),
}
_COMMON_LIMITS: Final = (
    "A large p-value shows nothing: paraphrase, short training or little memory leave no trace.",
    "It rests on the provider's logs: who could write into them could make evidence.",
)


@final
@dataclass(frozen=True)
class AccountResult:
    """What the answers that one account got say, corrected for all accounts by Holm's method."""

    account: str
    n_scored: int
    log10_p: float
    log10_p_adjusted: float
    verdict: Verdict
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "account": self.account,
            "n_scored": self.n_scored,
            "p_value": json_p(self.log10_p),
            "log10_p": self.log10_p,
            "p_value_adjusted": json_p(self.log10_p_adjusted),
            "log10_p_adjusted": self.log10_p_adjusted,
            "verdict": self.verdict.value,
            "warnings": list(self.warnings),
        }


@final
@dataclass(frozen=True)
class CounterfactualResult:
    """The result of the test.

    Attributes:
        kind: which counterfactuals.
        key_ids: public ids of the keys of the logs.
        config: their deployment.
        found: statistic, tail and e-process.
        n_scored: units in the statistic: answers, or keys.
        n_answers: logged answers.
        verdict: after placebos and controls had their say.
        accounts: of the same-key kind, where accounts are named; sorted by p-value.
        controls: each control's name and log10 p.
        reasons: answers that were not scored, by reason.
        warnings: why a verdict was held back, if it was.
        alpha: level.
    """

    kind: Kind
    key_ids: tuple[str, ...]
    config: WatermarkConfig
    found: RankSum
    n_scored: int
    n_answers: int
    verdict: Verdict
    accounts: tuple[AccountResult, ...]
    controls: tuple[tuple[str, float], ...]
    reasons: dict[str, int]
    warnings: tuple[str, ...]
    alpha: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        tail, process = self.found.tail, self.found.process
        return {
            "kind": "counterfactuals",
            "counterfactuals": self.kind.value,
            "null_hypothesis": _NULLS[self.kind],
            "assumption": _ASSUMPTION,
            "p_value": json_p(tail.log10_p),
            "log10_p": tail.log10_p,
            "log10_p_ceiling": tail.log10_p_ceiling,
            "method": tail.method,
            "statistic": self.found.statistic,
            "lowest_log10_p": self.found.lowest,
            "e_process": {"log10_e": process.log10_e, "log10_p": process.log10_p},
            "n_scored": self.n_scored,
            "unit": UNITS[self.kind],
            "n_answers": self.n_answers,
            "reasons": self.reasons,
            "verdict": self.verdict.value,
            "alpha": self.alpha,
            "scheme": self.config.scheme.name,
            "context_width": self.config.context_width,
            "config_fingerprint": self.config.fingerprint,
            "key_id": self.key_ids[0] if len(self.key_ids) == 1 else list(self.key_ids),
            "accounts": [account.to_dict() for account in self.accounts],
            "controls": [
                {"name": name, "p_value": json_p(log10_p), "log10_p": log10_p}
                for name, log10_p in self.controls
            ],
            "warnings": list(self.warnings),
            "limits": [*_LIMITS[self.kind], *_COMMON_LIMITS],
        }
