"""Which deployment made this text? Every profile that could have is tested, and paid for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from detect.multiplicity import bonferroni
from detect.results import ALPHA, Tail, Verdict, decide, json_p
from detect.text import TextResult, assess_text
from watermark.errors import ConfigError, WatermarkError
from watermark.profiles import Profile, ServedProfile
from watermark.tokens import TextTokenizer

__all__ = ["ProfileSearch", "SearchedProfile", "search_profiles"]

_LIMITS: Final = (
    "The p-value at the top is the smallest of all profiles, multiplied by their number; the "
    "decoys and the scores are those of that profile alone.",
    "Deployments that share a key and a mark cannot be told apart.",
)


@final
@dataclass(frozen=True)
class SearchedProfile:
    """One profile's own result.

    Attributes:
        profile: the deployment.
        result: the test of the text under it, at alpha over the number of profiles.
    """

    profile: Profile
    result: TextResult

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        finding, profile = self.result.finding, self.profile
        return {
            "name": profile.name,
            "engine": profile.engine,
            "served": profile.period,
            "prf": profile.config.source.name,
            "scheme": profile.config.scheme.name,
            "key_id": profile.key_id,
            "n_scored": finding.n_scored,
            "p_value": json_p(finding.tail.log10_p),
            "log10_p": finding.tail.log10_p,
            "verdict": finding.verdict.value,
        }


@final
@dataclass(frozen=True)
class ProfileSearch:
    """The result of a search.

    Attributes:
        profiles: every profile's result, in the order given.
        alpha: level, over all profiles.
    """

    profiles: tuple[SearchedProfile, ...]
    alpha: float

    @property
    def best(self) -> SearchedProfile:
        """The profile with the smallest p-value, of those with SIGNAL if any; the first of equals.

        One whose p-value its decoys contradict must not be named in another's place.
        """

        def rank(searched: SearchedProfile) -> tuple[bool, float]:
            finding = searched.result.finding
            return finding.verdict is not Verdict.SIGNAL, finding.tail.log10_p

        return min(self.profiles, key=rank)

    @property
    def tail(self) -> Tail:
        """The best profile's tail, paid for by Bonferroni's method."""
        own, n = self.best.result.finding.tail, len(self.profiles)
        ceiling = bonferroni(own.log10_p_ceiling, n)
        return Tail(bonferroni(own.log10_p, n), ceiling, own.method)

    @property
    def verdict(self) -> Verdict:
        """SIGNAL if any profile has it; NO_SIGNAL only where every one had enough to show it."""
        findings = [searched.result.finding for searched in self.profiles]
        if any(finding.verdict is Verdict.SIGNAL for finding in findings):
            return Verdict.SIGNAL
        if any(finding.warnings for finding in findings):
            return Verdict.INCONCLUSIVE
        n_scored = min(finding.n_scored for finding in findings)
        n_powered = max(finding.plan.n_powered for finding in findings)
        return decide(self.tail, n_scored, alpha=self.alpha, n_powered=n_powered)

    def to_dict(self, *, tokens: bool) -> dict[str, Any]:
        """Return the JSON result.

        Args:
            tokens: whether to list every token with its score under the best profile.
        """
        own, tail = self.best.result.to_dict(tokens=tokens), self.tail
        # Beside a corrected p-value the best profile's own curve would mislead.
        return {
            **own,
            "kind": "profiles",
            "p_value": json_p(tail.log10_p),
            "log10_p": tail.log10_p,
            "log10_p_ceiling": tail.log10_p_ceiling,
            "verdict": self.verdict.value,
            "alpha": self.alpha,
            "curve": None,
            "warnings": [
                f"{searched.profile.name}: {warning}"
                for searched in self.profiles
                for warning in searched.result.finding.warnings
            ],
            "profile": self.best.profile.name,
            "profiles": [profile.to_dict() for profile in self.profiles],
            "limits": [*own["limits"], *_LIMITS],
        }


def search_profiles(
    text: str,
    served: Sequence[ServedProfile],
    *,
    tokenizer_of: Callable[[str], TextTokenizer],
    prompt: str | None = None,
    alpha: float = ALPHA,
    n_decoys: int = 0,
    seed: int = 0,
    score: str | None = None,
) -> ProfileSearch:
    """Test one text under every profile.

    H0 of a profile: the text is independent of its key. The chance that any wrong profile is named
    is at most alpha, however their statistics depend on each other (Bonferroni).

    Args:
        text: the text, without the prompt.
        served: the profiles with their keys: all that could be named.
        tokenizer_of: loads the tokenizer that a profile names.
        prompt: what the text answers, if known.
        alpha: level, over all profiles.
        n_decoys: decoy keys for each; 0 for none, or `detect.decoys.AUTOMATIC`.
        seed: of the decoy keys.
        score: name of the score; None is each scheme's default.

    Returns:
        The search.

    Raises:
        ConfigError: no profile, or one that cannot be tested (a tokenizer or key that is not its
            own, a score that its scheme does not have); names it.
    """
    if not served:
        raise ConfigError("no profile to search; give at least one")
    searched = []
    for profile, key in served:
        try:
            result = assess_text(
                text,
                tokenizer=tokenizer_of(profile.tokenizer),
                config=profile.config,
                key=key,
                prompt=prompt,
                alpha=alpha / len(served),
                n_decoys=n_decoys,
                seed=seed,
                score=score,
            )
        except WatermarkError as error:
            raise ConfigError(f"profile {profile.name!r}: {error}") from error
        searched.append(SearchedProfile(profile, result))
    return ProfileSearch(tuple(searched), alpha)
