"""Tests by text alone, on the same answers: the published one, and ours with what each may know.

Published (Sander et al., NeurIPS 2024): all distinct (context, token) pairs, the scheme's own
score, one weight for all; here with an exact tail. Ours knows more, none of it dependent on the
key: how often a context occurs in unmarked answers, and how likely a public base finds a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from scipy.stats import norm

from benchmarks.inheritance.lessons import Lesson
from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.sequential.watching import Answer, Deployment, Watch
from detect.suspect.answer_pairs import pool_answers
from detect.suspect.context_counts import ContextCounts
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.inheritance import TEXT_EFFECT, assess_pool, pool_scorer
from detect.tails.convolution import convolution_log_tails
from detect.tails.mixed_sums import MixedLaw
from detect.tails.nulls import log_tails
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.tokens import TextTokenizer

__all__ = ["METHODS", "Heard", "answers_until", "fresh_key_p_values", "test_text", "z_of"]

ALPHA: Final = 1e-6
# What each method knows beyond the answers: its score, contexts counted, the base's probabilities.
METHODS: Final[dict[str, tuple[str | None, bool, bool]]] = {
    "published": ("own", False, False),
    "ours": (None, False, False),
    "ours, contexts counted": (None, True, False),
    "ours, public base": (None, False, True),
    "ours, contexts counted, public base": (None, True, True),
}


@final
@dataclass(frozen=True)
class Heard:
    """What a suspect said, and what is known of it without the key.

    Attributes:
        tokenizer: the provider's.
        answers: the suspect's.
        log_probs: of each answer's tokens under the public base.
        counts: of contexts, by context width.
    """

    tokenizer: TextTokenizer
    answers: Sequence[SuspectAnswer]
    log_probs: Sequence[np.ndarray]
    counts: dict[int, ContextCounts]

    def width_of(self, lesson: Lesson) -> int:
        """Tell the context width of a lesson's mark."""
        assert lesson.config is not None
        return lesson.config.context_width


def z_of(log10_p: float) -> float:
    """Turn a p-value into the normal deviation that has it: evidence grows with its square."""
    return float(norm.isf(10.0 ** max(log10_p, -300.0)))


def test_text(lesson: Lesson, heard: Heard) -> dict[str, Any]:
    """Test answers under a lesson's key by every method that its scheme can have."""
    pairs = pool_answers(heard.tokenizer, heard.answers, heard.width_of(lesson))
    found: dict[str, Any] = {"n_tokens": pairs.n_tokens, "n_scored": len(pairs.tokens)}
    for name, (plan, counts, log_probs) in _methods(lesson, heard).items():
        tail = assess_pool(plan, pairs, counts, log_probs).tail
        found[name] = {"log10_p": tail.log10_p, "z": z_of(tail.log10_p), "method": tail.method}
    return found


def _methods(lesson: Lesson, heard: Heard) -> dict[str, Any]:
    """Tell plan, counts and log-probabilities of each method that the scheme can have."""
    assert lesson.config is not None
    scheme = lesson.config.scheme
    with_likelihood = isinstance(scheme, Gumbel | DualGumbel)
    counts = heard.counts[lesson.config.context_width]
    found = {}
    for name, (score, counted, based) in METHODS.items():
        if with_likelihood or name in ("published", "ours, contexts counted"):
            scorer = choose_scorer(score, scheme, "inherited")
            plan = Plan(lesson.config, lesson.key, ALPHA, TEXT_EFFECT, 0, 0, scorer)
            found[name] = (plan, counts if counted else None, heard.log_probs if based else None)
    return found


def answers_until(lesson: Lesson, heard: Heard) -> int | None:
    """Count the answers until the e-process of `heirmark watch` says so; None if it never does."""
    assert lesson.config is not None
    watch = Watch.begun(Deployment(lesson.config, lesson.key, heard.tokenizer, ALPHA))
    texts = heard.tokenizer.encode_many([a.text for a in heard.answers])
    prompts = heard.tokenizer.encode_many([a.prompt for a in heard.answers])
    for number, (text, prompt) in enumerate(zip(texts, prompts, strict=True), 1):
        watch = watch.after(Answer(str(number), text, prompt))
        if watch.process.log10_p <= math.log10(ALPHA):
            return number
    return None


def fresh_key_p_values(
    lesson: Lesson, heard: Heard, n_keys: int, seed: int
) -> dict[str, list[float]]:
    """Test answers under keys that were never used; p-values by method."""
    pairs = pool_answers(heard.tokenizer, heard.answers, heard.width_of(lesson))
    keys, n = decoy_keys(n_keys, seed), len(pairs.tokens)
    found = {}
    for name, (plan, counts, log_probs) in _methods(lesson, heard).items():
        scorer = pool_scorer(plan, pairs, counts, log_probs)
        sums = decoy_statistics(scorer, keys, pairs.contexts, pairs.tokens) + n * scorer.law.mean
        found[name] = np.exp(_log_tails(scorer, sums, n)).tolist()
    return found


def _log_tails(scorer: Scorer, sums: np.ndarray, n: int) -> np.ndarray:
    if isinstance(scorer.law, MixedLaw):
        units = np.rint(sums / scorer.law.parts[0].law.step).astype(np.int64)
        return convolution_log_tails(scorer.law.parts, units)
    return log_tails(scorer.law, sums, np.full(len(sums), n))
