"""Did a model learn from marked answers? By its next-token distributions.

H0: the suspect is independent of the key. Alternative: it gives, in contexts that it met in
training, more probability to the tokens that the mark preferred.

Its next-token probabilities on unmarked texts, less those of a clean reference
(`detect.suspect.reading`, `detect.suspect.foreign_reading`), or what it reports of its own answers
(`detect.suspect.reported`), place a bet on each pair (`detect.scoring.bets`). Exact. Red-green and
tournament keep their own scores, weighted by roots: a saddlepoint under a rigorous ceiling.
Reading texts that carry the mark themselves are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.decoys import run_decoys
from detect.finding import Curve, Finding, Plan, assess_scores, settle
from detect.key_floor import with_key_floor
from detect.multiplicity import holm
from detect.scoring.scores import Selection, join_pairs, score_pairs, select_text
from detect.suspect.exchanges import ReadingText
from detect.suspect.foreign_reading import ForeignReader, foreign_pairs
from detect.suspect.inheritance import Outcome
from detect.suspect.reading import PairWeights, Reader, read_pairs
from detect.suspect.weighing import Weighed, weigh
from detect.tails.mixed_sums import MixedLaw
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig
from watermark.contexts import group_rows
from watermark.errors import ResultError
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.laws import ScoreLaw
from watermark.tokens import TextTokenizer, check_fingerprint
from watermark.word_sources import Pairs

__all__ = [
    "WEIGHTS_EFFECT",
    "assess_foreign_reading",
    "assess_pairs",
    "assess_reading",
    "assess_reports",
    "effect_on",
    "refuse_marked",
    "refuse_without_context",
    "spread_of",
]

# Published inheritance by open weights, all training data marked, h = 2, full fine-tuning, in null
# standard deviations a distinct context (Sander et al. 2024).
WEIGHTS_EFFECT: Final = 0.119
_CURVE_POINTS = 16
# A reading text this unlikely under the null is marked, and must not be read here.
_MARKED_BELOW = 1e-4


def assess_reading(
    plan: Plan,
    tokenizer: TextTokenizer,
    suspect: Reader,
    reference: Reader | None,
    texts: Sequence[ReadingText],
    on_positions: Callable[[int], object] = lambda n: None,
) -> Outcome:
    """Test a suspect's next-token distributions for inherited signal.

    Args:
        plan: what was fixed beforehand.
        tokenizer: the provider's tokenizer, which the suspect shares.
        suspect: the model under test.
        reference: a clean model, often the public base that the suspect started from, or None.
        texts: unmarked reading texts, chosen without regard to the key.
        on_positions: called with the number of positions read since the last call.

    Returns:
        The finding over distinct pairs with their weights; left-out positions by reason.

    Raises:
        FingerprintError: another tokenizer or vocabulary.
        ResultError: the reading texts are marked under the key themselves.
    """
    check_fingerprint(tokenizer, plan.config.tokenizer)
    refuse_without_context(plan.config)
    refuse_marked(plan, tokenizer, texts)
    pairs = read_pairs(
        suspect,
        reference,
        texts,
        context_width=plan.config.context_width,
        special_ids=tokenizer.special_ids,
        on_positions=on_positions,
    )
    n_tokens = sum(len(t.token_ids) for t in texts)
    finding = assess_pairs(plan, pairs)
    return Outcome(finding, n_tokens, pairs.reasons, spread_of(pairs, finding.plan.scoring.law))


def assess_foreign_reading(
    plan: Plan,
    tokenizer: TextTokenizer,
    suspect: ForeignReader,
    reference: Reader | None,
    exchanges: Sequence[tuple[str, str]],
    on_positions: Callable[[int], object] = lambda n: None,
) -> Outcome:
    """Test the next-token distributions of a suspect with a tokenizer of its own.

    Args:
        plan: what was fixed beforehand.
        tokenizer: the provider's tokenizer.
        suspect: the model under test.
        reference: a clean model with the suspect's tokenizer, or None.
        exchanges: prompts and unmarked texts, chosen without regard to the key.
        on_positions: called with the number of the suspect's positions read since the last call.

    Returns:
        The finding, as by `assess_reading`.

    Raises:
        FingerprintError: the config is bound to another tokenizer.
        ResultError: the reading texts are marked under the key themselves.
    """
    check_fingerprint(tokenizer, plan.config.tokenizer)
    refuse_without_context(plan.config)
    ids = tokenizer.encode_many([text for _, text in exchanges])
    refuse_marked(plan, tokenizer, [ReadingText((), tuple(i.tolist())) for i in ids])
    pairs = foreign_pairs(
        tokenizer,
        suspect,
        reference,
        exchanges,
        context_width=plan.config.context_width,
        on_positions=on_positions,
    )
    finding = assess_pairs(plan, pairs)
    return Outcome(
        finding, sum(map(len, ids)), pairs.reasons, spread_of(pairs, finding.plan.scoring.law)
    )


def assess_reports(plan: Plan, pairs: PairWeights, n_tokens: int) -> Outcome:
    """Test what a suspect reported of its own answers (`detect.suspect.reported`).

    Args:
        plan: what was fixed beforehand.
        pairs: the pairs and their weights.
        n_tokens: tokens of the answers.

    Returns:
        The finding, as by open weights.

    Raises:
        ResultError: a mark without context.
    """
    refuse_without_context(plan.config)
    finding = assess_pairs(plan, pairs)
    return Outcome(finding, n_tokens, pairs.reasons, spread_of(pairs, finding.plan.scoring.law))


def refuse_without_context(config: WatermarkConfig) -> None:
    """Refuse h = 0, where whatever distribution shows tokens of a marked prompt looks guilty.

    Raises:
        ResultError: a mark without context.
    """
    if config.context_width == 0:
        raise ResultError(
            "a mark without context (h = 0) cannot be tested with distributions: a model that "
            "repeats tokens of a marked prompt would be accused. Probe with --access text"
        )


def spread_of(pairs: PairWeights, law: ScoreLaw) -> dict[str, float]:
    """Tell what pairs come from, and how evenly their scores' law spreads over them."""
    return {
        "n_positions": pairs.n_positions,
        "n_contexts": pairs.n_contexts,
        "n_effective": round(_n_effective(pairs, law), 1),
        "coverage": round(pairs.coverage, 4),
    }


def _n_effective(pairs: PairWeights, law: ScoreLaw) -> float:
    """(sum v)^2 / sum v^2 over variances v: as many equal pairs would spread as evenly."""
    if isinstance(law, MixedLaw):
        variances = np.array([part.law.variance for part in law.parts])
        times = np.array([part.n for part in law.parts], np.float64)
    else:
        variances, times = np.square(pairs.weights), np.ones(len(pairs.weights))
    fourth = float(times @ np.square(variances))
    return float(times @ variances) ** 2 / fourth if fourth else 0.0


def refuse_marked(plan: Plan, tokenizer: TextTokenizer, texts: Sequence[ReadingText]) -> None:
    """Refuse reading texts that carry the mark under the plan's key.

    Raises:
        ResultError: they do.
    """
    rows = [
        select_text(np.array(t.token_ids, np.int64), plan.config, tokenizer.special_ids)
        for t in texts
    ]
    pairs = join_pairs(rows, plan.config.context_width)
    new = group_rows(plan.config.source.evidence(pairs))[0]
    pooled = Selection.of_pairs(Pairs(pairs.contexts[new], pairs.tokens[new]))
    plan = replace(plan, n_decoys=0, scorer=None)
    scores = score_pairs(pooled, plan.config, plan.config.source.under(plan.key))
    found = assess_scores(plan, pooled.contexts, pooled.tokens, scores)
    # One marked text among many drowns in the pool, but can rule the reading: each is looked at.
    worst = min(found.tail.log10_p, _smallest_adjusted(plan, rows))
    if worst < math.log10(_MARKED_BELOW):
        raise ResultError(
            f"the reading texts carry the mark themselves (log10 p = {worst:.1f}); "
            "an innocent model that merely agrees with them would be accused. "
            "Read human text or answers made with heirmark generate --unmarked"
        )


def _smallest_adjusted(plan: Plan, rows: Sequence[Selection]) -> float:
    """Test each reading text by itself; log10 p of the most suspicious, by Holm's method."""
    prf, law = plan.config.source.under(plan.key), plan.scoring.law
    if not rows:
        return 0.0
    sums = np.array([float(score_pairs(row, plan.config, prf).sum()) for row in rows])
    sizes = np.array([row.n_scored for row in rows], np.int64)
    return float(holm(log_tails(law, sums, sizes) / math.log(10)).min())


def assess_pairs(plan: Plan, pairs: PairWeights) -> Finding:
    """Test the weighted pairs of reading texts; see `assess_reading`."""
    weighed = weigh(plan.config.scheme, pairs.without_contexts_of(plan.config.source.unkeyed_ids))
    contexts, tokens, weights = weighed.contexts, weighed.tokens, weighed.weights
    plan = replace(plan, scorer=weighed.scorer)
    selection = Selection.of_pairs(Pairs(contexts, tokens))
    scores = score_pairs(selection, plan.config, plan.config.source.under(plan.key), weighed.scorer)
    statistic = weighed.statistic(scores)
    null = with_key_floor(weighed.tail(statistic), plan.config.source)
    decoys = None
    if plan.n_decoys and len(scores):
        decoys = run_decoys(
            weighed.scorer,
            contexts,
            tokens,
            statistic,
            n_decoys=plan.n_decoys,
            seed=plan.seed,
            weights=weights,
            source=plan.config.source,
        )
    # The published effect is one of contexts: hundreds of pairs share the evidence of one. What the
    # suspect cannot name in its own tokens could not have shown.
    n_telling = int(weighed.n_telling * pairs.coverage)
    plan = replace(plan, effect=effect_on(plan, pairs))
    verdict, warnings = settle(plan, null, decoys, n_telling)
    if not len(scores):
        warnings = (
            *warnings,
            "No pair has any weight: the suspect equals its reference, or nothing was read.",
        )
    shown = float(scores.sum()) if weights is None else statistic
    curve = _weighted_curve(weighed, scores)
    return Finding(plan, shown, len(scores), null, decoys, verdict, curve, warnings)


def effect_on(plan: Plan, pairs: PairWeights) -> float:
    """Tell what effect is worth finding on pairs that were read with or without a reference."""
    return plan.effect if pairs.has_reference else plan.effect * _alone(plan.config.scheme)


def _alone(scheme: Scheme) -> float:
    """How much of the effect is left without a reference: benchmarks/results/inheritance.json.

    z / sqrt(positions) of "ours, no reference" over `WEIGHTS_EFFECT`, at h = 2: the mean of 0.070
    and 0.076 for Gumbel schemes, 0.017 for red-green.
    """
    return 0.61 if isinstance(scheme, Gumbel | DualGumbel) else 0.14


def _weighted_curve(weighed: Weighed, scores: NDArray[np.float64]) -> Curve | None:
    """Evidence of the pairs that can matter most: an order that no word decides."""
    if not len(scores):
        return None
    order = np.argsort(-weighed.sizes, kind="stable")
    ends = np.unique(np.geomspace(1, len(order), _CURVE_POINTS).round().astype(np.int64))
    logs = []
    for end in ends:
        part = weighed.only(order[:end])
        logs.append(part.tail(part.statistic(scores[order[:end]])).log10_p)
    return Curve(tuple(ends.tolist()), tuple(round(x, 4) for x in logs))
