"""What a test found: statistic, tail, decoys, verdict and the evidence curve, in one frozen value.

Text, corpus and text-only suspect tests share it: they differ in which pairs they score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.decoys import AUTOMATIC, DecoyResult, run_decoys
from detect.key_floor import with_key_floor
from detect.mark_strength import mark_strength
from detect.results import Tail, Verdict, decide, json_p, n_needed
from detect.scoring.score_tables import Scorer
from detect.tails.layers import layers_tail
from detect.tails.mixed_sums import MixedLaw
from detect.tails.nulls import log_tails, tail
from watermark.config import WatermarkConfig
from watermark.keys import Key
from watermark.schemes.laws import LayeredBits, Tabulated
from watermark.word_sources import Pairs

__all__ = [
    "Curve",
    "Finding",
    "Plan",
    "Sums",
    "assess_scores",
    "conclude",
    "curve_of",
    "curve_points",
    "decoys_of",
    "null_tail",
    "settle",
]

_CURVE_POINTS = 200
# Each point of a table's curve is a convolution of its own.
_TABLE_CURVE_POINTS = 60
# A convolution of so many scores takes up to half a second.
_LONG, _LONG_CURVE_POINTS = 300_000, 15


@final
@dataclass(frozen=True)
class Plan:
    """What was fixed before looking: deployment, key, level, and the effect worth finding.

    Attributes:
        config: the deployment.
        key: the key under test.
        alpha: level of a positive verdict.
        effect: mean shift of a pair's score under the alternative, in null standard deviations;
            it only decides when too little was scored for a negative verdict.
        n_decoys: decoy keys; 0 for none, `detect.decoys.AUTOMATIC` for what the cost allows.
        seed: of the decoy keys.
        scorer: what scores words; None is the scheme itself.
    """

    config: WatermarkConfig
    key: Key
    alpha: float
    effect: float
    n_decoys: int
    seed: int
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")

    @property
    def scoring(self) -> Scorer:
        """What scores words."""
        return self.scorer or self.config.scheme

    @property
    def n_powered(self) -> int:
        """Scored pairs below which finding nothing means nothing."""
        return n_needed(self.effect * mark_strength(self.config), self.alpha)


@final
@dataclass(frozen=True)
class Curve:
    """Evidence against tokens scored, on prefixes in text order: a picture, not a test."""

    n_scored: tuple[int, ...]
    log10_p: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"n_scored": list(self.n_scored), "log10_p": list(self.log10_p)}


@final
@dataclass(frozen=True)
class Finding:
    """The result of one test.

    Attributes:
        plan: what was fixed beforehand.
        statistic: the observed sum.
        n_scored: pairs in it.
        tail: its upper tail under the null.
        decoys: rank among decoy keys, if there were any.
        verdict: SIGNAL, NO_SIGNAL or INCONCLUSIVE.
        curve: evidence against tokens scored.
        warnings: why a verdict was held back, if it was.
    """

    plan: Plan
    statistic: float
    n_scored: int
    tail: Tail
    decoys: DecoyResult | None
    verdict: Verdict
    curve: Curve | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values that every kind of result shares."""
        return {
            "p_value": json_p(self.tail.log10_p),
            "log10_p": self.tail.log10_p,
            "log10_p_ceiling": self.tail.log10_p_ceiling,
            "method": self.tail.method,
            "statistic": self.statistic,
            "n_scored": self.n_scored,
            "verdict": self.verdict.value,
            "alpha": self.plan.alpha,
            "n_powered": self.plan.n_powered,
            "scheme": self.plan.config.scheme.name,
            "score": self.plan.scoring.score_name,
            "context_width": self.plan.config.context_width,
            "key_id": self.plan.key.key_id,
            "config_fingerprint": self.plan.config.fingerprint,
            "decoys": self.decoys.to_dict() if self.decoys else None,
            "curve": self.curve.to_dict() if self.curve else None,
            "warnings": list(self.warnings),
        }


def assess_scores(
    plan: Plan,
    contexts: NDArray[np.int64],
    tokens: NDArray[np.int64],
    scores: NDArray[np.float64],
) -> Finding:
    """Test the unweighted sum of the scores of distinct pairs.

    H0: the text is independent of the key; the scores are then independent with the scheme's law,
    or have the null that the source gives (`null_tail`). Alternative: the writer preferred tokens
    with high scores. Exact (for Gumbel schemes an upper bound within 1e-9, see
    `watermark.schemes.gumbel.upper_tail`). Where only decoy keys tell (`WordSource.null`) the
    p-value is theirs, asked for or not: exact for a uniform key, never below 1 / (decoys + 1).

    Args:
        plan: what was fixed beforehand.
        contexts: int64, shape (n, h), distinct with `tokens`.
        tokens: int64, shape (n,).
        scores: float64, shape (n,), in text order.

    Returns:
        The finding.
    """
    statistic = float(scores.sum())
    null = null_tail(plan, contexts, tokens, statistic)
    decoys = decoys_of(plan, Pairs(contexts, tokens), statistic)
    return conclude(plan, Sums(len(scores), statistic, null), decoys, _curve(plan, scores))


class Sums(NamedTuple):
    """Scored pairs, the sum of their scores, and its tail under the null."""

    n_scored: int
    statistic: float
    null: Tail


def decoys_of(plan: Plan, pairs: Pairs, statistic: float) -> DecoyResult | None:
    """Rank a sum of scores among decoy keys, where these were asked for or alone tell.

    Args:
        plan: what was fixed beforehand.
        pairs: the scored pairs, distinct.
        statistic: the sum of their scores.

    Returns:
        The rank, or None.
    """
    n = len(pairs.tokens)
    n_decoys = plan.n_decoys or (AUTOMATIC if plan.config.source.null == "decoys" else 0)
    if not n_decoys or not n:
        return None
    return run_decoys(
        plan.scoring,
        pairs.contexts,
        pairs.tokens,
        statistic - n * plan.scoring.law.mean,
        n_decoys=n_decoys,
        seed=plan.seed,
        source=plan.config.source,
    )


def conclude(
    plan: Plan,
    sums: Sums,
    decoys: DecoyResult | None,
    curve: Curve | None,
    *,
    decoys_null: Tail | None = None,
) -> Finding:
    """Put a finding together; see `assess_scores`.

    Args:
        plan: what was fixed beforehand.
        sums: the statistic and its tail.
        decoys: the decoys' word, if there were any.
        curve: evidence against tokens scored.
        decoys_null: tail of the pairs that the decoys ranked, where they are a sample.

    Returns:
        The finding.
    """
    n, statistic, null = sums
    by_decoys = plan.config.source.null == "decoys"
    if by_decoys and decoys:
        null = _ranked(null, decoys)
    null = with_key_floor(null, plan.config.source)
    verdict, warnings = settle(plan, null, decoys, n, decoys_null)
    if by_decoys and decoys and decoys.is_best and decoys.p_value > plan.alpha:
        warnings += (
            f"The words of {plan.config.source.name} depend on each other, so that only decoy keys "
            f"give a p-value, and {decoys.n_decoys} of them none below {decoys.p_value:.1g}; for "
            f"the level {plan.alpha:g} ask for {math.ceil(1 / plan.alpha)}.",
        )
    return Finding(plan, statistic, n, null, decoys, verdict, curve, warnings)


def _ranked(null: Tail, decoys: DecoyResult) -> Tail:
    log10_p = math.log10(decoys.p_value)
    return Tail(max(null.log10_p, log10_p), max(null.log10_p_ceiling, log10_p), "decoys")


def null_tail(
    plan: Plan, contexts: NDArray[np.int64], tokens: NDArray[np.int64], statistic: float
) -> Tail:
    """Compute the tail of a sum of scores, by the law of one or by what the source knows better.

    Args:
        plan: what was fixed beforehand.
        contexts: int64, shape (n, h), distinct with `tokens`.
        tokens: int64, shape (n,).
        statistic: the sum of the scores.

    Returns:
        The tail.
    """
    law, source, n = plan.scoring.law, plan.config.source, len(tokens)
    if source.null != "layers" or not n:
        return tail(law, statistic, n)
    if not isinstance(law, LayeredBits):
        raise TypeError(f"no null is known for {type(law).__name__} with words of {source.name}")
    layers = source.layers(source.key_of(plan.key), Pairs(contexts, tokens), plan.seed)
    return layers_tail(law.weights, layers, round(statistic))


def settle(
    plan: Plan,
    null: Tail,
    decoys: DecoyResult | None,
    n_scored: int,
    decoys_null: Tail | None = None,
) -> tuple[Verdict, tuple[str, ...]]:
    """Decide, unless the decoys contradict the parametric p-value: then they win.

    Args:
        plan: what was fixed beforehand.
        null: the tail.
        decoys: the decoys' word, if there were any.
        n_scored: pairs in the statistic.
        decoys_null: tail of the pairs that the decoys ranked, where they are a sample.

    Returns:
        The verdict, and warnings.
    """
    verdict = decide(null, n_scored, alpha=plan.alpha, n_powered=plan.n_powered)
    if decoys and decoys.contradicts((decoys_null or null).log10_p):
        return Verdict.INCONCLUSIVE, (
            f"{decoys.n_at_least} of {decoys.n_decoys} decoy keys reach the statistic, which the "
            "parametric p-value rules out: some pairs are not independent. The decoys' p-value "
            f"({decoys.p_value:.2g}) is the one to trust.",
        )
    return verdict, ()


def _curve(plan: Plan, scores: NDArray[np.float64]) -> Curve | None:
    n_points = curve_points(plan, len(scores))
    if not n_points:
        return None
    ends = np.unique(np.linspace(1, len(scores), n_points).round().astype(np.int64))
    return curve_of(plan, ends, np.cumsum(scores)[ends - 1])


def curve_points(plan: Plan, n_scored: int) -> int:
    """Choose how many points a curve has; 0 where there is none.

    Args:
        plan: what was fixed beforehand.
        n_scored: pairs in the statistic.

    Returns:
        At most `n_scored`.
    """
    # Sums of scores with laws of their own have no prefixes here; nor have dependent words.
    if isinstance(plan.scoring.law, MixedLaw) or plan.config.source.null != "independent":
        return 0
    if not isinstance(plan.scoring.law, Tabulated):
        return min(n_scored, _CURVE_POINTS)
    return min(n_scored, _TABLE_CURVE_POINTS if n_scored < _LONG else _LONG_CURVE_POINTS)


def curve_of(plan: Plan, ends: NDArray[np.int64], statistics: NDArray[np.float64]) -> Curve:
    """Compute the evidence of growing numbers of pairs.

    Args:
        plan: what was fixed beforehand.
        ends: int64, numbers of pairs, ascending.
        statistics: float64, their sums of scores.

    Returns:
        The curve.
    """
    logs = log_tails(plan.scoring.law, statistics, ends) / math.log(10)
    return Curve(tuple(ends.tolist()), tuple(np.round(logs, 4).tolist()))
