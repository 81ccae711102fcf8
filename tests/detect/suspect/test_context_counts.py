"""How often contexts are reached, and the exact tests that weigh pairs by it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan
from detect.scoring.scorers import choose_scorer
from detect.suspect.answer_pairs import AnswerPairs
from detect.suspect.context_counts import ContextCounts, context_weights, count_contexts
from detect.suspect.inheritance import assess_pool, pool_scorer
from detect.tails.convolution import convolution_log_tails
from detect.tails.mixed_sums import MixedLaw
from watermark.config import preset
from watermark.errors import ConfigError, ResultError
from watermark.keys import SecretKey
from watermark.prf import Prf

KEY, LN10 = SecretKey(bytes(range(32))), math.log(10)


def _plan(name: str, key: SecretKey = KEY) -> Plan:
    config = preset(name)
    return Plan(config, key, 1e-6, 0.1, 0, 0, choose_scorer(None, config.scheme, "inherited"))


def _pairs(n: int, seed: int, contexts: int = 40) -> AnswerPairs:
    """Distinct pairs of innocent text, many of a context."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 5000, (4 * n, 2))
    rows[:, 0] %= contexts
    rows = np.unique(rows, axis=0)[:n]
    contexts_ = np.column_stack([rows[:, 0], rows[:, 0] + 1])
    return AnswerPairs(contexts_, rows[:, 1], np.arange(len(rows)), len(rows), {})


def _counts(rng: np.random.Generator) -> ContextCounts:
    # Some contexts often, some seldom, some never: weights of several sizes.
    firsts = np.minimum(rng.geometric(0.1, 300), 39)
    counts = count_contexts([np.array([c, c + 1, 0], np.int64) for c in firsts], 2)
    assert len(set(context_weights(counts.counts).tolist())) > 3
    return counts


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=5), st.integers(1, 3))
def test_contexts_are_counted_as_one_would_by_hand(texts: list[list[int]], h: int) -> None:
    # Windows end where a token follows: the last h tokens of a text are nobody's context.
    expected = Counter(tuple(t[i : i + h]) for t in texts for i in range(len(t) - h))
    counts = count_contexts([np.array(t, np.int64) for t in texts], h)
    asked = np.array([*expected, (9,) * h], np.int64)
    assert counts.of(asked).tolist() == [*expected.values(), 0]


def test_weights_rise_with_the_count_and_level_off() -> None:
    weights = context_weights(np.array([0, 1, 3, 7, 10**6]))
    assert weights.tolist() == [1, 3, 5, 7, 8]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("default", "counts"),
        ("default", "log_probs"),
        ("default", "both"),
        ("red-green", "counts"),
        ("tournament", "counts"),
    ],
)
def test_innocent_pairs_have_uniform_p_values(name: str, known: str) -> None:
    """H0 by construction: 4,000 fresh keys; weights and levels were drawn without them.

    Binomial at 1e-6 for each level; the lattices are fine, so that it is two-sided.
    """
    rng = np.random.default_rng(3)
    pairs, plan = _pairs(300, seed=1), _plan(name)
    counts = _counts(rng) if known != "log_probs" else None
    log_probs = [-rng.exponential(2.0, len(pairs.tokens))] if known != "counts" else None
    scorer = pool_scorer(plan, pairs, counts, log_probs)
    assert isinstance(scorer.law, MixedLaw)
    parts, total_mean = scorer.law.parts, len(pairs.tokens) * scorer.law.mean
    centred = decoy_statistics(scorer, decoy_keys(4_000, 5), pairs.contexts, pairs.tokens)
    units = np.rint((centred + total_mean) / parts[0].law.step).astype(np.int64)
    p = np.exp(convolution_log_tails(parts, units))
    for level in (0.5, 0.1, 0.01, 0.002):
        assert binomtest(int((p <= level).sum()), 4_000, level).pvalue > 1e-6

    found = assess_pool(plan, pairs, counts, log_probs)
    assert found.statistic / parts[0].law.step == pytest.approx(
        round(found.statistic / parts[0].law.step)
    )
    at = np.array([round(found.statistic / parts[0].law.step)])
    assert found.tail.log10_p == pytest.approx(float(convolution_log_tails(parts, at)[0]) / LN10)


def test_equal_counts_change_nothing() -> None:
    pairs = _pairs(200, seed=2)
    nowhere = count_contexts([], 2)
    plain, weighted = (assess_pool(_plan("default"), pairs, counts) for counts in (None, nowhere))
    assert weighted.tail.log10_p == pytest.approx(plain.tail.log10_p, rel=1e-9)


def test_a_suspect_that_learned_what_it_met_often_is_found_sooner() -> None:
    """Half of the contexts were met often; there alone the suspect follows the key."""
    plan, h = _plan("default"), 2
    rng = np.random.default_rng(4)
    met = count_contexts([np.array([c, c + 1, 0], np.int64) for c in range(20)] * 10, h)
    contexts, tokens = [], []
    for i in range(1500):
        context = rng.integers(0, 40)
        candidates = rng.integers(0, 100_000, 4 if context < 20 else 1)
        window = np.full((1, h), context, np.int64) + np.arange(h)
        prf = Prf.from_key(plan.key)
        hashes = prf.context_hashes(window)
        words = np.stack([prf.words(hashes, candidates[None], s)[0] for s in range(2)])
        best = int(np.argmax(plan.scoring.score(words))) if i % 8 == 0 else 0
        contexts.append(window[0])
        tokens.append(candidates[best])
    pairs = AnswerPairs(np.array(contexts), np.array(tokens), np.arange(1500), 1500, {})
    plain, weighted = (assess_pool(plan, pairs, c).tail.log10_p for c in (None, met))
    assert weighted < plain - 1


def test_what_does_not_fit_is_refused() -> None:
    pairs = _pairs(50, seed=5)
    with pytest.raises(ResultError, match="count again"):
        assess_pool(_plan("default"), pairs, count_contexts([], 3))
    with pytest.raises(ResultError, match="provider's tokens"):
        assess_pool(_plan("default"), pairs, None, [np.zeros(7)])
    with pytest.raises(ConfigError):
        assess_pool(_plan("red-green"), pairs, None, [np.zeros(50)])
    own = replace(_plan("default"), scorer=None)
    with pytest.raises(ConfigError, match="cannot be weighted"):
        assess_pool(own, pairs, count_contexts([], 2))
