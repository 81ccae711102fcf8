"""Searching many keys: the right one is named, wrong ones are paid for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detect.attribution import attribute, prf_keys
from detect.decoys import decoy_keys
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import ResultError
from watermark.keys import SecretKey
from watermark.prf import Prf

MASTER = SecretKey(bytes(range(32)))
ACCOUNTS = [MASTER.derive(account=f"account-{i}") for i in range(300)]


@pytest.mark.parametrize("name", ["default", "red-green", "tournament"])
def test_the_account_that_was_served_is_named_alone(name: str) -> None:
    config = preset(name)
    ids = marked_ids(config, ACCOUNTS[123], 250, vocabulary=80, seed=9)
    selection = select_pairs(ids, config.context_width, drop_repeated_contexts=True)
    scorer = choose_scorer(None, config.scheme, "direct")
    found = attribute(selection, scorer, prf_keys(ACCOUNTS), alpha=1e-6)
    assert [key.index for key in found.named] == [123]
    single = score_pairs(selection, config, Prf.from_key(ACCOUNTS[123]), scorer).sum()
    assert found.best.log10_p_adjusted == pytest.approx(found.best.log10_p + math.log10(300))
    assert found.n_scored == selection.n_scored
    assert single > selection.n_scored * scorer.law.mean


def test_without_its_key_nobody_is_named() -> None:
    config = preset("default")
    ids = marked_ids(config, ACCOUNTS[0], 200, vocabulary=80, seed=2)
    selection = select_pairs(ids, config.context_width, drop_repeated_contexts=True)
    scorer = choose_scorer(None, config.scheme, "direct")
    found = attribute(selection, scorer, prf_keys(ACCOUNTS[1:]), alpha=1e-6)
    assert found.named == ()


def test_the_search_is_paid_for() -> None:
    """Family-wise error over unmarked texts and 200 keys each, at a level that can be counted."""
    scorer = choose_scorer(None, preset("default").scheme, "direct")
    rng, alpha, hits = np.random.default_rng(1), 0.1, 0
    for i in range(300):
        selection = select_pairs(rng.integers(0, 900, 60), 2, drop_repeated_contexts=True)
        hits += bool(attribute(selection, scorer, decoy_keys(200, i), alpha=alpha).named)
    # Binomial: 5 standard errors above, and not so low that the correction would be far too large.
    assert 0.05 < hits / 300 < alpha + 5 * (alpha * (1 - alpha) / 300) ** 0.5


def test_no_keys_and_no_pairs() -> None:
    scorer = choose_scorer(None, preset("default").scheme, "direct")
    empty = select_pairs(np.array([5]), 2, drop_repeated_contexts=True)
    with pytest.raises(ResultError, match="at least one"):
        attribute(empty, scorer, np.empty((0, 2), np.uint64), alpha=1e-6)
    found = attribute(empty, scorer, decoy_keys(3, 0), alpha=1e-6)
    assert (found.named, found.best.log10_p) == ((), 0.0)
