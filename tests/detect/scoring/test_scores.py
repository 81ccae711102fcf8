"""What may be scored. Each rule is also broken once, to see the innocent look guilty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.finding import Plan, assess_scores
from detect.scoring.scores import Reason, score_pairs, select_pairs
from detect.tails.nulls import log_tails
from tests.detect.synthetic import marked_ids
from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.contexts import windows
from watermark.errors import DocumentError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes.laws import Exponential

KEY = SecretKey(bytes(range(32)))
# A list page: one line again and again, with a number that changes.
TEMPLATE = np.array([t for i in range(60) for t in (5, 6, 7, 8, 100 + i % 7, 9, 10, 11)], np.int64)


def _keys(n: int, seed: int) -> list[SecretKey]:
    rng = np.random.default_rng(seed)
    return [SecretKey(rng.bytes(32)) for _ in range(n)]


def _p_values(config: WatermarkConfig, keys: list[SecretKey], *, broken: bool) -> np.ndarray:
    """p-values of the template under many keys; broken: every repeat is counted."""
    ids, h = TEMPLATE, config.context_width
    selection = select_pairs(ids, h, drop_repeated_contexts=False)
    statistics, counts = [], []
    for key in keys:
        prf = Prf.from_key(key)
        if broken:
            hashes = prf.context_hashes(np.ascontiguousarray(windows(ids, h)))
            streams = range(config.scheme.n_streams)
            words = np.stack([prf.words(hashes, ids[h:], s) for s in streams])
            scores = config.scheme.score(words)
        else:
            scores = score_pairs(selection, config, prf)
        statistics.append(scores.sum())
        counts.append(len(scores))
    return np.exp(log_tails(config.scheme.law, np.array(statistics), np.array(counts)))


@pytest.mark.parametrize("name", PRESETS)
def test_repetitive_text_has_valid_p_values_under_random_keys(name: str) -> None:
    """H0: P(p <= a) <= a; 1,500 keys, 5.5 binomial standard errors (false alarms 1e-7)."""
    p = _p_values(preset(name), _keys(1500, 1), broken=False)
    for alpha in (0.5, 0.1, 0.01):
        assert (p <= alpha).mean() < alpha + 5.5 * (alpha / len(p)) ** 0.5
    if isinstance(preset(name).scheme.law, Exponential):
        ordered = np.sort(p)
        steps = np.arange(1, len(p) + 1) / len(p)
        # Kolmogorov-Smirnov at 1e-6: 2.7 / sqrt(n).
        assert np.abs(ordered - steps).max() < 2.7 / len(p) ** 0.5


@pytest.mark.parametrize("name", PRESETS)
def test_counting_repeats_accuses_the_innocent(name: str) -> None:
    p = _p_values(preset(name), _keys(300, 2), broken=True)
    assert (p <= 1e-6).mean() > 0.05


@pytest.mark.parametrize("name", ["default", "unigram", "tournament"])
def test_copying_a_marked_prompt_accuses_the_innocent_unless_its_contexts_are_dropped(
    name: str,
) -> None:
    config = preset(name)
    prompt = marked_ids(config, KEY, 120, vocabulary=300, seed=1)
    plan = Plan(config, KEY, 1e-6, 0.344, 0, 0)
    verdicts = []
    for prompt_ids in (None, prompt):
        copied = select_pairs(
            prompt, config.context_width, prompt_ids=prompt_ids, drop_repeated_contexts=False
        )
        scores = score_pairs(copied, config, Prf.from_key(KEY))
        verdicts.append(assess_scores(plan, copied.contexts, copied.tokens, scores))
    assert verdicts[0].tail.log10_p < -6
    assert verdicts[1].n_scored == 0
    assert verdicts[1].verdict.value == "inconclusive"


@pytest.mark.parametrize("name", PRESETS)
def test_marked_text_is_found(name: str) -> None:
    config = preset(name)
    ids = marked_ids(config, KEY, 250, vocabulary=300, seed=3)
    selection = select_pairs(ids, config.context_width, drop_repeated_contexts=True)
    for key, low, high in ((KEY, -np.inf, -5), (SecretKey(bytes(32)), -6, 0.01)):
        scores = score_pairs(selection, config, Prf.from_key(key))
        log_p = log_tails(config.scheme.law, np.array([scores.sum()]), np.array([len(scores)]))
        assert low <= float(log_p[0]) / np.log(10) <= high


@given(
    ids=st.lists(st.integers(0, 3), max_size=25),
    prompt=st.lists(st.integers(0, 3), max_size=6),
    h=st.integers(0, 3),
    direct=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_selection_is_what_the_rules_say(
    ids: list[int], prompt: list[int], h: int, direct: bool
) -> None:
    """A naive twin, token by token; id 3 is special."""
    selection = select_pairs(
        np.array(ids, np.int64),
        h,
        prompt_ids=np.array(prompt, np.int64),
        special_ids=[3],
        drop_repeated_contexts=direct,
    )
    in_prompt = {tuple(prompt[i : i + h]) for i in range(len(prompt) - h + 1)}
    met: set[tuple[int, ...]] = set()
    pairs: set[tuple[tuple[int, ...], int]] = set()
    for t, token in enumerate(ids):
        context = tuple(ids[t - h : t]) if t >= h else None
        if context is None:
            expected = Reason.NO_CONTEXT
        elif token == 3:
            expected = Reason.SPECIAL_TOKEN
        elif 3 in context:
            expected = Reason.SPECIAL_CONTEXT
        elif (context in in_prompt) if h else (token in prompt):
            expected = Reason.CONTEXT_IN_PROMPT
        elif direct and h and context in met:
            expected = Reason.REPEATED_CONTEXT
        elif (context, token) in pairs:
            expected = Reason.REPEATED_PAIR
        else:
            expected = Reason.SCORED
            pairs.add((context, token))
        if context is not None:
            met.add(context)
        assert selection.reasons[t] == expected
    assert selection.n_scored == len(pairs)
    assert sum(selection.reason_counts().values()) == len(ids) - len(pairs)


@pytest.mark.parametrize("bad", [np.array([-1]), np.array([2**32]), np.zeros((2, 2))])
def test_ids_that_are_none_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(DocumentError):
        select_pairs(bad, 1, drop_repeated_contexts=True)
