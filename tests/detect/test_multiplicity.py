"""Corrections for multiple testing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.multiplicity import Family, bonferroni, e_bh, holm
from watermark.errors import ResultError

LOGS = st.lists(st.floats(-500, 0), min_size=1, max_size=30)


def test_holm_by_hand() -> None:
    # p = .01, .04, .03, .005 -> sorted .005 (x4 = .02), .01 (x3 = .03), .03 (x2 = .06), .04 (.06)
    found = 10 ** holm(np.log10([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(LOGS)
@settings(deadline=None)
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(logs: list[float]) -> None:
    p = np.array(logs)
    adjusted = holm(p)
    paid = np.array([bonferroni(x, len(p)) for x in logs])
    assert (adjusted >= p).all()
    assert (adjusted <= paid + 1e-12).all()
    assert adjusted.min() == paid.min()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_holm_controls_the_family_wise_error() -> None:
    """Twenty true nulls, 20,000 families: 6 binomial standard errors (false alarms 1e-9)."""
    logs = np.log10(np.random.default_rng(0).uniform(size=(20_000, 20)))
    rate = np.mean([10 ** holm(row).min() <= 0.05 for row in logs])
    assert 0.03 < rate < 0.05 + 6 * math.sqrt(0.05 * 0.95 / 20_000)


def test_edges() -> None:
    assert len(holm(np.empty(0))) == 0
    assert holm(np.array([-3.0])) == [-3.0]
    assert holm(np.array([-math.inf, 0.0])).tolist() == [-math.inf, 0.0]
    assert bonferroni(-5000.0, 1000) == pytest.approx(-4997.0)
    assert bonferroni(-1.0, 1000) == 0.0
    with pytest.raises(ValueError, match="at least 1"):
        bonferroni(-3.0, 0)


def test_a_family_pays_for_every_declared_test_also_those_not_run() -> None:
    family = Family(("gumbel", "h_0.1", "h_0.01", "weights"))
    found = family.adjusted({"gumbel": -7.0, "weights": -0.1})
    assert found == {"gumbel": pytest.approx(-7 + math.log10(4)), "weights": 0.0}
    with pytest.raises(ResultError, match="not declared beforehand"):
        family.adjusted({"h_0.02": -9.0})
    for names in ((), ("a", "a")):
        with pytest.raises(ResultError, match="each name once"):
            Family(names)


def test_e_bh_by_hand() -> None:
    # m = 4; e = 100, 50, 8, 1: m / (k e_[k]) = .04, .04, .1667, 1
    found = 10 ** e_bh(np.log10([8.0, 100.0, 1.0, 50.0]))
    assert found == pytest.approx([1 / 6, 0.04, 1.0, 0.04])


@given(st.lists(st.floats(-5, 30), min_size=1, max_size=25), st.floats(-8, -0.01))
@settings(deadline=None)
def test_e_bh_rejects_what_the_paper_rejects(logs: list[float], log_alpha: float) -> None:
    """Against the definition with k*, level by level."""
    e = np.array(logs)
    m = len(e)
    ranked = np.sort(e)[::-1]
    passing = [k for k in range(1, m + 1) if math.log10(k / m) + ranked[k - 1] >= -log_alpha]
    threshold = ranked[max(passing) - 1] if passing else math.inf
    adjusted = e_bh(e)
    # Where rounding decides, either answer is right.
    clear = np.abs(adjusted - log_alpha) > 1e-9
    assert ((adjusted <= log_alpha) == (e >= threshold))[clear].all()


def test_e_bh_controls_the_false_discovery_rate_under_dependence() -> None:
    """40 e-values from 8 shared draws, 30 of them null; 4,000 runs at level 0.2.

    E = exp(2 z - 2) of a shared standard normal z has mean 1. Conservative here: the rate stays
    below the level by far more than 6 standard errors of a mean of 4,000 (at most 0.05).
    """
    rng = np.random.default_rng(4)
    shared = np.repeat(rng.normal(size=(4000, 8)), 5, axis=1)
    is_null = np.arange(40) < 30
    logs = (2 * shared + np.where(is_null, -2.0, 6.0)) / math.log(10)
    rejected = np.array([e_bh(row) for row in logs]) <= math.log10(0.2)
    false = (rejected & is_null).sum(axis=1) / np.maximum(rejected.sum(axis=1), 1)
    assert false.mean() <= 0.2
    assert rejected[:, ~is_null].mean() > 0.5


def test_e_bh_edges() -> None:
    assert len(e_bh(np.empty(0))) == 0
    assert e_bh(np.array([3.0])).tolist() == [-3.0]
    assert e_bh(np.array([-math.inf, 5.0])) == pytest.approx([0.0, math.log10(2) - 5])
