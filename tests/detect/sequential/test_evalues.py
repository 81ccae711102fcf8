"""Combining e-values: closed forms, what is assumed, and why it matters."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.results import Verdict
from detect.sequential.evalues import Dependence, EValue, average, multiply
from watermark.errors import ResultError

LOGS = st.lists(st.floats(-300, 300), min_size=1, max_size=12)


def _values(logs: list[float]) -> list[EValue]:
    return [EValue(x, 10) for x in logs]


@given(LOGS)
@settings(deadline=None)
def test_average_and_product_by_hand(logs: list[float]) -> None:
    mean, product = average(_values(logs)), multiply(_values(logs), Dependence.DISJOINT)
    largest = max(logs)
    expected = largest + math.log10(sum(10 ** (x - largest) for x in logs) / len(logs))
    assert mean.log10_e == pytest.approx(expected, abs=1e-9)
    assert product.log10_e == pytest.approx(sum(logs), abs=1e-9)
    assert mean.n_scored == product.n_scored == 10 * len(logs)
    assert mean.log10_p == min(-mean.log10_e, 0.0)


def test_what_was_assumed_is_written_in_the_result() -> None:
    a, b, c = _values([1.0, 2.0, 3.0])
    assert average([a, b]).rests_on == frozenset()
    product = multiply([a, b], Dependence.DISJOINT)
    assert product.rests_on == {Dependence.DISJOINT}
    assert average([product, c]).rests_on == {Dependence.DISJOINT}
    both = multiply([average([product, c]), c], Dependence.PREDICTABLE)
    assert both.rests_on == set(Dependence)
    assert multiply([a], Dependence.DISJOINT).rests_on == frozenset()
    payload = json.loads(json.dumps(both.to_dict()))
    assert [text.split(":")[0] for text in payload["rests_on"]] == ["disjoint", "predictable"]
    assert payload["combined"] == "product"


def test_the_same_shard_twice_may_be_averaged_but_not_multiplied() -> None:
    """H0, 200,000 runs, level 0.01, E = exp(z - 1/2): the false product makes innocents guilty.

    6 binomial standard errors (false alarm 1e-9).
    """
    logs = (np.random.default_rng(7).normal(size=200_000) * 2 - 2) / math.log(10)
    level, slack = 0.01, 6 * math.sqrt(0.01 / 200_000)
    once = [EValue(x, 1) for x in logs[:20_000].tolist()]
    assert np.mean([average([e, e]).log10_e >= 2 for e in once]) <= level + slack * 3.2
    # exp(2 (2 z - 2)) has mean e^4.
    assert (2 * logs >= 2).mean() > 1.5 * level


def test_weights_of_an_average() -> None:
    found = average(_values([0.0, 3.0]), [0.75, 0.25])
    assert 10**found.log10_e == pytest.approx(0.75 + 250)
    assert average(_values([-math.inf, 1.0])).log10_e == pytest.approx(math.log10(5))
    assert average(_values([-math.inf])).log10_e == -math.inf
    for weights in ([0.5, 0.6], [1.5, -0.5], [1.0]):
        with pytest.raises(ResultError, match="one weight"):
            average(_values([0.0, 3.0]), weights)


def test_nothing_is_no_evidence() -> None:
    for combine in (average, lambda values: multiply(values, Dependence.DISJOINT)):
        with pytest.raises(ResultError, match="at least one"):
            combine([])
    with pytest.raises(ResultError, match="no meaning"):
        multiply([EValue(-math.inf, 1), EValue(math.inf, 1)], Dependence.DISJOINT)
    with pytest.raises(ValueError, match="NaN"):
        EValue(math.nan, 3)
    assert EValue(-math.inf, 3).to_dict()["log10_e"] is None


def test_verdicts() -> None:
    assert EValue(6.0, 100).verdict(1e-6, 50) is Verdict.SIGNAL
    assert EValue(5.999, 100).verdict(1e-6, 50) is Verdict.INCONCLUSIVE
    assert EValue(1.0, 100).verdict(1e-6, 50) is Verdict.NO_SIGNAL
    assert EValue(1.0, 49).verdict(1e-6, 50) is Verdict.INCONCLUSIVE
    assert EValue(9.0, 0).verdict(1e-6, 50) is Verdict.INCONCLUSIVE
