"""Did a model learn from marked answers? By what it answers.

H0: the suspect is independent of the key. Alternative: it prefers, in contexts that it met in
training, the tokens that the mark preferred.

Its answers to prompts are cut by the provider's tokenizer, and each distinct (context, token) pair
is scored once: with equal weight or with one by how often its context occurs in texts that the key
did not shape, by one score for all or by one made for its token's probability under a public
model. Exact. What next-token distributions tell is tested by `detect.suspect.distributions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.finding import Finding, Plan, assess_scores
from detect.scoring.reference_scores import ReferenceScorer, levels_of, reference_tables
from detect.scoring.score_tables import Scorer
from detect.scoring.scores import score_pairs
from detect.scoring.weighted_scores import WeightedScorer
from detect.suspect.answer_pairs import AnswerPairs, pool_answers
from detect.suspect.context_counts import ContextCounts, context_weights
from detect.suspect.exchanges import SuspectAnswer
from watermark.errors import ResultError
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = ["TEXT_EFFECT", "Outcome", "assess_answers", "assess_pool", "pool_scorer"]

# Published inheritance by text, all training data marked, Gumbel at h = 2, in null standard
# deviations a pair (Sander et al. 2024).
TEXT_EFFECT: Final = 0.051
# Share of a suspect's tokens that are presumed to follow the mark: as of the score "weak".
_INHERITED_SHARE: Final = 0.1
_FINE_STEP: Final = 1 / 256  # nats


class Outcome(NamedTuple):
    """A finding with what was looked at to reach it.

    Attributes:
        finding: the test.
        n_tokens: tokens of the answers or reading texts.
        reasons: unscored ones, by reason.
        spread: by weights, what the pairs come from; None by text.
    """

    finding: Finding
    n_tokens: int
    reasons: dict[str, int]
    spread: dict[str, float] | None = None


def assess_answers(
    plan: Plan,
    tokenizer: TextTokenizer,
    answers: Sequence[SuspectAnswer],
    counts: ContextCounts | None = None,
    log_probs: Sequence[NDArray[np.float64]] | None = None,
) -> Outcome:
    """Test a suspect's answers for inherited signal.

    Args:
        plan: what was fixed beforehand.
        tokenizer: the provider's tokenizer.
        answers: the suspect's answers to prompts that were chosen beforehand.
        counts: how often contexts occur in texts that do not depend on the key: a pair's weight.
        log_probs: float64, shape (T,) an answer, of its tokens (the provider's) under a public
            model: what each pair's score is made for. Gumbel schemes only.

    Returns:
        The finding over all distinct pairs; unscored tokens by reason.

    Raises:
        FingerprintError: the config is bound to another tokenizer.
        ResultError: counts of another context width, or log-probabilities of other tokens.
        ConfigError: log-probabilities for a scheme that has no likelihood of single tokens.
    """
    check_fingerprint(tokenizer, plan.config.tokenizer)
    config = plan.config
    pairs = pool_answers(tokenizer, answers, config.context_width, config.source, config.reasoning)
    return Outcome(assess_pool(plan, pairs, counts, log_probs), pairs.n_tokens, pairs.reasons)


def assess_pool(
    plan: Plan,
    pairs: AnswerPairs,
    counts: ContextCounts | None = None,
    log_probs: Sequence[NDArray[np.float64]] | None = None,
) -> Finding:
    """Test the distinct pairs of answers; see `assess_answers`."""
    scorer = pool_scorer(plan, pairs, counts, log_probs)
    words = plan.config.source.under(plan.key)
    scores = score_pairs(pairs.as_selection(), plan.config, words, scorer)
    return assess_scores(replace(plan, scorer=scorer), pairs.contexts, pairs.tokens, scores)


def pool_scorer(
    plan: Plan,
    pairs: AnswerPairs,
    counts: ContextCounts | None = None,
    log_probs: Sequence[NDArray[np.float64]] | None = None,
) -> Scorer:
    """Make what scores the distinct pairs of answers, in their order; see `assess_answers`."""
    weights = None if counts is None else _weights(plan, pairs, counts)
    if log_probs is not None:
        levels = levels_of(_at_places(pairs, log_probs))
        tables = reference_tables(plan.config.scheme, _INHERITED_SHARE, _FINE_STEP)
        return ReferenceScorer(tables, levels, weights)
    return plan.scoring if weights is None else WeightedScorer(plan.scoring, weights)


def _weights(plan: Plan, pairs: AnswerPairs, counts: ContextCounts) -> NDArray[np.int64]:
    if counts.context_width != plan.config.context_width:
        raise ResultError(
            f"the counts are of contexts of {counts.context_width} tokens, and the mark's have "
            f"{plan.config.context_width}; count again for this deployment"
        )
    return context_weights(counts.of(pairs.contexts))


def _at_places(pairs: AnswerPairs, log_probs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    read = np.concatenate([np.empty(0), *log_probs])
    if len(read) != pairs.n_tokens:
        raise ResultError(
            f"log-probabilities of {len(read)} tokens were given for answers of {pairs.n_tokens}; "
            "let the reference read the answers in the provider's tokens"
        )
    return read[pairs.places]
