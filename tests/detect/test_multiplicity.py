"""Corrections for multiple testing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.multiplicity import bonferroni, holm

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
