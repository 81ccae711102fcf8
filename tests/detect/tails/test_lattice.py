"""Lattice tails: exact enumeration, the binomial, and the mixture of tilts."""

from __future__ import annotations

import math
from itertools import accumulate

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.tails.lattice import lattice_log_tail, lattice_log_tails
from detect.tails.nulls import log_tails
from watermark.schemes.laws import Bernoulli, LayeredBits

LAYERS = LayeredBits(tuple(range(30, 0, -1)))


def _upper_counts(weights: tuple[int, ...], n: int) -> list[int]:
    """How many of the 2^(n m) outcomes reach each sum, in exact integers."""
    counts = [1]
    for w in weights * n:
        counts = [a + b for a, b in zip(counts + [0] * w, [0] * w + counts, strict=True)]
    return list(accumulate(reversed(counts)))[::-1]


def _exact(weights: tuple[int, ...], n: int) -> list[float]:
    with mpmath.workdps(40):
        outcomes = mpmath.mpf(2) ** (n * len(weights))
        return [float(mpmath.log(c / outcomes)) for c in _upper_counts(weights, n)]


@pytest.mark.parametrize(
    ("weights", "n"),
    [
        ((3, 2, 1), 1),
        ((3, 2, 1), 40),
        ((4, 2), 50),  # only even sums
        ((5,), 7),
        ((3, 2), 60),  # no bit of weight 1
        ((7, 3, 3, 1), 20),
        (tuple(range(10, 0, -1)), 100),  # 1e-301 at the top
        (LAYERS.weights, 1),
        (LAYERS.weights, 8),
    ],
)
def test_every_tail_is_exact(weights: tuple[int, ...], n: int) -> None:
    exact = _exact(weights, n)
    s = np.arange(len(exact))
    found = lattice_log_tails(LayeredBits(weights), s, np.full(len(s), n))
    assert found == pytest.approx(exact, rel=0, abs=1e-10)


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    n=st.integers(1, 12),
    share=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_one_tail_is_exact(weights: list[int], n: int, share: float) -> None:
    exact = _exact(tuple(weights), n)
    s = round(share * (len(exact) - 1))
    found = lattice_log_tail(LayeredBits(tuple(weights)), s, n)
    assert found == pytest.approx(exact[s], rel=0, abs=1e-10)


# Three unit bits a token are one binomial of 3n: 200 deviations are 1e-8700.
@pytest.mark.parametrize("z", [-3, 0.5, 4, 10, 50, 200])
@pytest.mark.parametrize("n", [20_000, 10**6, 10**8])
def test_unit_weights_are_binomial(n: int, z: float) -> None:
    s = round(1.5 * n + z * math.sqrt(0.75 * n))
    binomial = log_tails(Bernoulli(0.5), np.array([float(s)]), np.array([3 * n]))[0]
    assert lattice_log_tail(LayeredBits((1, 1, 1)), s, n) == pytest.approx(
        binomial, rel=1e-14, abs=1e-10
    )


def test_edges() -> None:
    largest = 5 * sum(LAYERS.weights)
    assert lattice_log_tail(LAYERS, 0, 5) == 0.0
    assert lattice_log_tail(LAYERS, -7, 5) == 0.0
    assert lattice_log_tail(LAYERS, largest, 5) == -150 * math.log(2)
    assert lattice_log_tail(LAYERS, largest + 1, 5) == -math.inf
    assert lattice_log_tail(LAYERS, 3, 0) == 0.0
    assert len(lattice_log_tails(LAYERS, np.empty(0, np.int64), np.empty(0, np.int64))) == 0


def test_order_and_company_change_nothing() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(1, 60, 300)
    s = (n * sum(LAYERS.weights) * rng.uniform(0.3, 1.0, 300)).astype(np.int64)
    together = lattice_log_tails(LAYERS, s, n)
    alone = [lattice_log_tail(LAYERS, int(a), int(b)) for a, b in zip(s, n, strict=True)]
    assert together == pytest.approx(alone, rel=0, abs=1e-9)
