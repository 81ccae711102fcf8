"""Score laws: moments and cumulants against enumeration, quadrature and finite differences."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits, ScoreLaw

LAWS: list[ScoreLaw] = [Bernoulli(0.5), Bernoulli(0.1), Exponential(), LayeredBits((5, 3, 1))]


def _log_mgf(law: ScoreLaw, t: float) -> mpmath.mpf:
    """Ln E[exp(t score)] from the definition, with 50 digits."""
    t_ = mpmath.mpf(t)
    if isinstance(law, Bernoulli):
        return mpmath.log(1 - mpmath.mpf(law.probability) * (1 - mpmath.exp(t_)))
    if isinstance(law, LayeredBits):
        outcomes = list(itertools.product((0, 1), repeat=len(law.weights)))
        sums = [sum(w * g for w, g in zip(law.weights, o, strict=True)) for o in outcomes]
        return mpmath.log(sum(mpmath.exp(t_ * s) for s in sums) / len(sums))
    return mpmath.log(mpmath.quad(lambda x: mpmath.exp((t_ - 1) * x), [0, mpmath.inf]))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("t", [-3.0, -0.4, 0.0, 1e-6, 0.3, 0.9])
def test_cumulants_are_derivatives_of_the_log_mgf(law: ScoreLaw, t: float) -> None:
    found = law.cumulants(np.array([t]))
    with mpmath.workdps(50):
        value = float(_log_mgf(law, t))
        first, second = (float(mpmath.diff(lambda u: _log_mgf(law, u), t, k)) for k in (1, 2))
    assert found.value[0] == pytest.approx(value, rel=1e-12, abs=1e-15)
    assert found.first[0] == pytest.approx(first, rel=1e-10)
    assert found.second[0] == pytest.approx(second, rel=1e-8)


@pytest.mark.parametrize("law", LAWS)
def test_mean_and_variance_are_the_first_two_cumulants(law: ScoreLaw) -> None:
    at_zero = law.cumulants(np.zeros(1))
    assert at_zero.value[0] == pytest.approx(0, abs=1e-15)
    assert at_zero.first[0] == pytest.approx(law.mean, rel=1e-14)
    assert at_zero.second[0] == pytest.approx(law.variance, rel=1e-14)


@given(t=st.floats(-1e5, 1e5), probability=st.floats(0.01, 0.99))
@settings(max_examples=200, deadline=None)
def test_bounded_laws_are_finite_at_any_tilt(t: float, probability: float) -> None:
    for law, largest in ((Bernoulli(probability), 1), (LayeredBits((30, 7, 1)), 38)):
        value, first, second = (float(x[0]) for x in law.cumulants(np.array([t])))
        assert math.isfinite(value)
        assert 0 <= first <= largest * (1 + 1e-12)
        assert second >= 0


def test_the_exponential_ends_at_one() -> None:
    law = Exponential()
    assert (law.t_min, law.t_max) == (-math.inf, 1.0)
    near = law.cumulants(np.array([1 - 2.0**-40]))
    assert near.value[0] == pytest.approx(40 * math.log(2), rel=1e-12)
    assert near.first[0] == 2.0**40
    assert Bernoulli(0.5).t_max == LayeredBits((1,)).t_max == math.inf


def test_shapes_are_kept() -> None:
    for law in LAWS:
        assert all(x.shape == (3, 4) for x in law.cumulants(np.full((3, 4), 0.25)))


@pytest.mark.parametrize("weights", [(), (3, 0), (2, -1)])
def test_layer_weights_have_to_be_positive(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="positive"):
        LayeredBits(weights)
