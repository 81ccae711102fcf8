"""The question and the answer of a power analysis, as plain values; `planning` computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from detect.planning.effects import Effect
from detect.planning.pilots import EffectPilot, TextPilot
from detect.scoring.score_tables import Scorer
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, ResultError
from watermark.schemes.laws import ScoreLaw

__all__ = ["Need", "PowerAccess", "PowerPlan", "PowerRequest", "Prospect", "ShareNeed"]

PowerAccess = Literal["direct", "text", "weights"]

_LIMITS: Final = (
    "A plan, not a promise: effects do not carry over between models, context widths, tokenizers, "
    "languages and training recipes. Measure a pilot of your own where you can.",
    "Paraphrase, later training and filtering weaken a mark; nothing here allows for them.",
)


@final
@dataclass(frozen=True, slots=True)
class PowerRequest:
    """The question.

    Attributes:
        config: the deployment.
        access: a text itself, or a suspect model by its answers or by its weights.
        alpha: level.
        power: wanted.
        share: marked share: of the text's tokens, or of the suspect's training data; with a
            pilot, against the pilot's.
        entropy: direct only: nats a token; ignored with a pilot.
        answer_tokens: length of an answer.
        budget: tokens that can be had.
        pilot: what was measured, or None; it brings its own score.
        scorer: without a pilot: what scores words; None is the scheme itself. Of a suspect, the
            one that its effect was measured with.
    """

    config: WatermarkConfig
    access: PowerAccess
    alpha: float
    power: float
    share: float
    entropy: float
    answer_tokens: int
    budget: int
    pilot: TextPilot | EffectPilot | None = None
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in (0, 1), got {getattr(self, name)}")
        if not self.alpha < self.power:
            raise ConfigError(f"a power of {self.power} is reached by chance at {self.alpha}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"the marked share must lie in (0, 1], got {self.share}")
        if self.answer_tokens <= self.config.context_width:
            raise ConfigError(
                f"an answer of {self.answer_tokens} tokens has none to score with h = "
                f"{self.config.context_width}; give --answer-tokens above it"
            )
        if isinstance(self.pilot, EffectPilot) != (self.access == "weights") and self.pilot:
            raise ResultError(
                f"the pilot is {self.pilot.source}; it says nothing of --access {self.access}"
            )

    @property
    def score_name(self) -> str:
        """How results call the score."""
        if isinstance(self.pilot, TextPilot):
            return self.pilot.score_name
        return (self.scorer or self.config.scheme).score_name

    @property
    def null(self) -> ScoreLaw:
        """Law of one score under H0."""
        if isinstance(self.pilot, TextPilot):
            return self.pilot.null
        return (self.scorer or self.config.scheme).law


@final
@dataclass(frozen=True, slots=True)
class Need:
    """How much of something; None is more than can ever be had.

    Attributes:
        value: by the best estimate.
        low: where the pilot understates the mark (2.5 % of its resamples).
        high: where it overstates it.
    """

    value: int | None
    low: int | None = None
    high: int | None = None

    def scaled(self, to_units: Callable[[int], int]) -> Need:
        """Count in other units."""
        values = (self.value, self.low, self.high)
        return Need(*(None if v is None else to_units(v) for v in values))


@final
@dataclass(frozen=True, slots=True)
class Prospect:
    """A neighbouring case, and whether the budget reaches it."""

    what: str
    n_tokens: int | None
    detectable: bool


@final
@dataclass(frozen=True, slots=True)
class ShareNeed:
    """What one marked share needs, all else being equal; None is more than can ever be had."""

    share: float
    n_tokens: int | None
    n_answers: int | None


@final
@dataclass(frozen=True, slots=True)
class PowerPlan:
    """The answer.

    Attributes:
        request: the question.
        effect: mean shift of a scored pair in null standard deviations.
        basis: the published row, if one was used.
        assumptions: what the numbers rest on.
        pairs: scored pairs needed (by weights: tokens read).
        tokens: tokens needed, in one text (direct) or in all answers.
        answers: answers of the requested length, pooled into one test.
        has_range: True if a pilot gave low and high.
        first_order: pairs by the normal formula, for comparison.
        stopping: expected scored pairs of a sequential test; None where there is none.
        least_share: smallest marked share that the budget reaches.
        by_share: needs along the marked share, from 1 down.
        prospects: neighbouring cases.
    """

    request: PowerRequest
    effect: float
    basis: Effect | None
    assumptions: tuple[str, ...]
    pairs: Need
    tokens: Need
    answers: Need
    has_range: bool
    first_order: float | None
    stopping: float | None
    least_share: float | None
    by_share: tuple[ShareNeed, ...]
    prospects: tuple[Prospect, ...]

    @property
    def detectable(self) -> bool:
        """True if the budget suffices."""
        return self.tokens.value is not None and self.tokens.value <= self.request.budget

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        asked = self.request
        needs = {"n_scored": self.pairs, "n_tokens": self.tokens, "n_answers": self.answers}
        ranges = {f"{k}_range": [n.low, n.high] for k, n in needs.items() if self.has_range}
        return {
            "kind": "power",
            "access": asked.access,
            "scheme": asked.config.scheme.name,
            "score": asked.score_name,
            "context_width": asked.config.context_width,
            "config_fingerprint": asked.config.fingerprint,
            "alpha": asked.alpha,
            "power": asked.power,
            "share": asked.share,
            "effect": self.effect,
            "basis": self.basis.to_dict() if self.basis else None,
            "assumptions": list(self.assumptions),
            **{name: need.value for name, need in needs.items()},
            **ranges,
            "answer_tokens": asked.answer_tokens,
            "first_order_n_scored": self.first_order,
            "expected_stopping_n_scored": self.stopping,
            "budget": asked.budget,
            "detectable": self.detectable,
            "least_share": self.least_share,
            "by_share": [
                {"share": n.share, "n_tokens": n.n_tokens, "n_answers": n.n_answers}
                for n in self.by_share
            ],
            "prospects": [
                {"what": p.what, "n_tokens": p.n_tokens, "detectable": p.detectable}
                for p in self.prospects
            ],
            "limits": list(_LIMITS),
        }
