"""Ranks among exchangeable items: exact laws with any ties, bets without gain, and power."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.sequential.calibrators.base import Known
from detect.sequential.calibrators.rank_bets import RankBets
from detect.suspect.ranks import Rank, rank_first, sum_ranks

GROUPS = st.lists(
    st.lists(st.integers(0, 3), min_size=2, max_size=4).filter(lambda g: len(set(g)) > 1),
    min_size=1,
    max_size=3,
)


def _with_first(group: list[int], place: int) -> Rank:
    return rank_first([group[place], *group[:place], *group[place + 1 :]])


def test_middle_ranks_by_hand() -> None:
    assert rank_first([5.0, 1.0, 9.0]) == Rank(2, 2, (1, 1, 1))
    tied = rank_first([5.0, 5.0, -math.inf, 9.0])
    assert (tied.low, tied.high, tied.ties, tied.centred) == (2, 3, (1, 2, 1), 0)
    assert not rank_first([2.0, 2.0]).is_informative
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(ValueError, match="at least one score"):
            rank_first(bad)


@given(GROUPS)
@settings(max_examples=20, deadline=None)
def test_p_values_are_those_of_all_placements(groups: list[list[int]]) -> None:
    """By enumeration: whichever item of each group is the logged one, all are equally likely."""
    placements = list(itertools.product(*(range(len(group)) for group in groups)))
    sums = [
        sum_ranks([_with_first(g, place) for g, place in zip(groups, places, strict=True)])
        for places in placements
    ]
    statistics = np.array([found.statistic for found in sums])
    for found in sums:
        exact = (statistics >= found.statistic).mean()
        assert found.tail.p_value == pytest.approx(exact, rel=1e-9)
        assert found.lowest <= found.tail.log10_p + 1e-9
    # An e-process is worth 1 on average, and its peak more than 20 in at most one of 20 cases.
    assert np.mean([10**found.process.log10_e for found in sums]) == pytest.approx(1, rel=1e-9)
    assert np.mean([found.process.log10_p <= math.log10(0.05) for found in sums]) <= 0.05


def test_the_far_tail_is_exact_and_the_e_process_follows() -> None:
    best = [rank_first([9.0, *range(9)])] * 50
    found = sum_ranks(best)
    assert found.tail.log10_p == pytest.approx(-50.0, abs=1e-6)
    assert found.lowest == pytest.approx(-50.0, abs=1e-9)
    assert -45 < found.process.log10_p < -25
    assert sum_ranks([]).tail.p_value == 1.0


def test_simulated_nulls_are_uniform_to_the_tail() -> None:
    """20,000 logs of 12 answers with 9 counterfactuals each: shares within 5 standard errors."""
    rng = np.random.default_rng(0)
    places = rng.integers(1, 11, (20_000, 12))
    sums = (2 * places - 11).sum(axis=1)
    values, counts = np.unique(sums, return_counts=True)
    tails = []
    for value in values:
        low = min((value + 12 * 11) // 2 // 12, 10)
        rest = (value + 12 * 11) // 2 - 12 * low
        ranks = [low + (i < rest) for i in range(12)]
        found = sum_ranks([Rank(r, r, (1,) * 10) for r in ranks])
        assert found.statistic == value
        tails.append(found.tail.p_value)
    p = np.repeat(tails, counts)
    for level in (0.5, 0.1, 0.01, 0.001):
        share = (p <= level).mean()
        assert share <= level + 5 * (level / len(p)) ** 0.5
        reached = max((t for t in tails if t <= level), default=0.0)
        assert abs(share - reached) <= 5 * (reached / len(p)) ** 0.5


def test_a_weak_shift_of_ranks_is_found() -> None:
    rng = np.random.default_rng(1)
    ranks = [rank_first([rng.normal(0.7), *rng.normal(size=19)]) for _ in range(400)]
    found = sum_ranks(ranks)
    assert found.tail.log10_p < -20
    assert found.process.log10_p < -15


def test_bets_take_no_weights() -> None:
    with pytest.raises(ValueError, match="no weights"):
        RankBets().summaries(np.array([[0], [1], [2]], np.uint32), Known(weights=np.ones(1)))
