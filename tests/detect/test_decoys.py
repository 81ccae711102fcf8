"""Decoy keys: exact ranks, the real PRF, ties against us."""

from __future__ import annotations

import numpy as np
import pytest

from detect import decoys
from detect.decoys import (
    AUTOMATIC,
    DEFAULT_DECOYS,
    LEAST_DECOYS,
    DecoyResult,
    affordable_decoys,
    decoy_keys,
    decoy_log_e,
    decoy_statistics,
    run_decoys,
)
from detect.results import CONTROL_FIRES_AT
from watermark.prf_reference import prf_word
from watermark.schemes import SCHEMES, Scheme

RNG = np.random.default_rng(11)
CONTEXTS = RNG.integers(0, 40, (120, 2))
TOKENS = RNG.integers(0, 1000, 120)


def _slowly(scheme: Scheme, k0: int, k1: int, weights: np.ndarray) -> float:
    """The weighted sum by the plain-Python reference PRF."""
    words = [
        [
            prf_word(k0, k1, c, x, stream)
            for c, x in zip(CONTEXTS.tolist(), TOKENS.tolist(), strict=True)
        ]
        for stream in range(scheme.n_streams)
    ]
    scores = scheme.score(np.array(words, np.uint32))
    return float(((scores - scheme.law.mean) * weights).sum())


@pytest.mark.parametrize("name", sorted(SCHEMES))
@pytest.mark.parametrize("chunk", [1, 500, 1 << 22])
def test_statistics_are_those_of_single_keys(
    name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoys, "_CHUNK_WORDS", chunk)
    scheme, keys = SCHEMES[name](), decoy_keys(3, 3)
    weights = np.linspace(-1, 2, len(TOKENS))
    for w in (None, weights):
        found = decoy_statistics(scheme, keys, CONTEXTS, TOKENS, w)
        used = np.ones(len(TOKENS)) if w is None else w
        expected = [_slowly(scheme, int(k0), int(k1), used) for k0, k1 in keys]
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_keys_can_be_drawn_again() -> None:
    # np.random.default_rng(3).integers(0, 1 << 64, (2, 2), np.uint64, False)
    assert (decoy_keys(9, 3)[:4] == decoy_keys(4, 3)).all()
    assert not (decoy_keys(4, 3) == decoy_keys(4, 4)).any()
    assert decoy_keys(4, 3).dtype == np.uint64
    assert (decoy_keys(1000, 0) >> np.uint64(63)).mean() == pytest.approx(0.5, abs=0.08)


def _rank(statistic: float, n_decoys: int = 99) -> DecoyResult:
    scheme = SCHEMES["red-green"]()
    return run_decoys(scheme, CONTEXTS, TOKENS, statistic, n_decoys=n_decoys, seed=5)


def test_ties_count_against_us_and_p_is_never_zero() -> None:
    values = decoy_statistics(SCHEMES["red-green"](), decoy_keys(99, 5), CONTEXTS, TOKENS)
    best = float(values.max())
    assert _rank(best).n_at_least == int((values == best).sum()) > 0
    above = _rank(best + 1)
    assert above.is_best
    assert above.p_value == 0.01
    assert _rank(-1e9).p_value == 1.0
    assert (above.mean, above.deviation) == pytest.approx((values.mean(), values.std()))


def test_p_values_are_uniform_under_the_null() -> None:
    """True keys drawn like the decoys: p is uniform on 1/20 ... 1; 6 standard errors (1e-8)."""
    scheme, runs = SCHEMES["gumbel"](), 2000
    values = decoy_statistics(scheme, decoy_keys(20 * runs, 8), CONTEXTS, TOKENS).reshape(runs, 20)
    p = (1 + (values[:, 1:] >= values[:, :1]).sum(axis=1)) / 20
    for alpha in (0.05, 0.25, 0.5):
        assert abs((p <= alpha).mean() - alpha) < 6 * (alpha * (1 - alpha) / runs) ** 0.5


def test_contradiction_is_a_rank_that_p_rules_out() -> None:
    def ranked(n_at_least: int) -> DecoyResult:
        return DecoyResult(n_decoys=999, n_at_least=n_at_least, seed=0, mean=0.0, deviation=1.0)

    assert ranked(5).contradicts(-9.0)
    assert ranked(1).contradicts(-400.0)
    assert not ranked(0).contradicts(-400.0)
    assert not ranked(10).contradicts(-2.0)
    assert not ranked(999).contradicts(0.0)


def test_no_decoys_and_no_pairs() -> None:
    scheme = SCHEMES["gumbel"]()
    assert run_decoys(scheme, CONTEXTS, TOKENS, 1.0, n_decoys=0, seed=1).p_value == 1.0
    assert run_decoys(scheme, CONTEXTS, TOKENS, 1.0, n_decoys=0, seed=1).log10_e == 0.0
    nothing = run_decoys(scheme, CONTEXTS[:0], TOKENS[:0], 0.0, n_decoys=9, seed=1)
    assert nothing.p_value == 1.0
    assert nothing.log10_e == pytest.approx(0.0)


def test_by_default_long_input_has_fewer_decoys_but_enough_for_a_control_to_fire() -> None:
    numbers = [affordable_decoys(n, 2) for n in (0, 500, 5_000, 20_000, 10**9)]
    assert numbers[:3] == [DEFAULT_DECOYS] * 3
    assert numbers[3] == 2_500
    assert numbers[4] == LEAST_DECOYS
    assert affordable_decoys(20_000, 1) == 2 * numbers[3]
    assert 1 / (LEAST_DECOYS + 1) <= CONTROL_FIRES_AT < 1 / LEAST_DECOYS
    assert _rank(0.0, AUTOMATIC) == _rank(0.0, DEFAULT_DECOYS)


def test_e_value_by_hand() -> None:
    """Mean over l = .5, 1, 2, 4 of 3 e^(2 l) / (e^(2 l) + e^l + 1).

    python -c "from math import exp as e;print(sum(3*e(2*l)/(e(2*l)+e(l)+1) for l in(.5,1,2,4))/4)"
    """
    assert np.exp(decoy_log_e(4.0, np.array([0.0, 2.0]), 2.0)) == pytest.approx(2.26517, abs=1e-5)


def test_e_values_of_all_keys_sum_to_their_number() -> None:
    """Exact, not on average: whatever the statistics, each key in the true one's place."""
    values = np.random.default_rng(2).standard_cauchy(50)
    e = [np.exp(decoy_log_e(values[i], np.delete(values, i), 1.5)) for i in range(50)]
    assert sum(e) == pytest.approx(50, rel=1e-12)
    assert max(e) <= 50


def test_e_value_of_a_strong_mark_nears_the_number_of_keys() -> None:
    decoys = np.random.default_rng(3).normal(size=DEFAULT_DECOYS)
    strong = np.exp(decoy_log_e(12.0, decoys, 1.0))
    assert 0.7 * (DEFAULT_DECOYS + 1) < strong <= DEFAULT_DECOYS + 1
    assert decoy_log_e(1e6, decoys, 1.0) == pytest.approx(np.log(DEFAULT_DECOYS + 1))
    assert decoy_log_e(-1e6, decoys, 1.0) < -1e5


def test_e_value_of_a_run_is_that_of_its_statistics() -> None:
    weights = np.linspace(0.1, 1, len(TOKENS))
    scheme = SCHEMES["gumbel"]()
    result = run_decoys(scheme, CONTEXTS, TOKENS, 9.0, n_decoys=99, seed=5, weights=weights)
    values = decoy_statistics(scheme, decoy_keys(99, 5), CONTEXTS, TOKENS, weights)
    # The null deviation of sum w (s - mean), Exp(1) scores: sqrt(sum w^2).
    expected = decoy_log_e(9.0, values, float(np.sqrt((weights**2).sum())))
    assert result.log10_e == pytest.approx(expected / np.log(10))
    assert result.to_dict()["log10_e"] == result.log10_e
