"""Verdicts with three values, and p-values that are never written as zero."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.results import Tail, Verdict, decide, format_p, json_p, n_needed


def _decide(log10_p: float, ceiling: float, n: int) -> Verdict:
    tail = Tail(log10_p, ceiling, "saddlepoint")
    return decide(tail, n, alpha=1e-6, n_powered=100)


def test_a_verdict_is_not_a_truth_value() -> None:
    for verdict in Verdict:
        with pytest.raises(TypeError, match="three values"):
            bool(verdict)
    assert json.dumps(Verdict.NO_SIGNAL) == '"no_signal"'


@pytest.mark.parametrize(
    ("log10_p", "ceiling", "n", "expected"),
    [
        (-6.0, -6.0, 5, Verdict.SIGNAL),
        (-5.999, -5.999, 5000, Verdict.INCONCLUSIVE),
        (-7.0, -5.9, 5000, Verdict.INCONCLUSIVE),  # the value alone accuses nobody
        (-1.0, -0.5, 100, Verdict.NO_SIGNAL),
        (-1.0, -0.5, 99, Verdict.INCONCLUSIVE),
        (-2.5, -2.0, 5000, Verdict.INCONCLUSIVE),
        (0.0, 0.0, 0, Verdict.INCONCLUSIVE),
        (-math.inf, -math.inf, 0, Verdict.INCONCLUSIVE),
        (-math.inf, -math.inf, 3, Verdict.SIGNAL),
    ],
)
def test_verdicts(log10_p: float, ceiling: float, n: int, expected: Verdict) -> None:
    assert _decide(log10_p, ceiling, n) is expected


@given(st.floats(-20, 0), st.floats(0, 3), st.integers(0, 10**6))
def test_a_signal_needs_the_ceiling_and_an_acquittal_needs_power(
    log10_p: float, gap: float, n: int
) -> None:
    ceiling = min(log10_p + gap, 0.0)
    verdict = _decide(log10_p, ceiling, n)
    assert (verdict is Verdict.SIGNAL) == (n > 0 and ceiling <= math.log10(1e-6))
    if verdict is Verdict.NO_SIGNAL:
        assert n >= 100
        assert log10_p > -2


def test_power_agrees_with_the_reference_table() -> None:
    # statistics.md A: eps .344 -> 310 tokens, .051 -> 14k, .0060 -> 1.0-1.2M (1e-6, 90 % power).
    assert n_needed(0.344, 1e-6) == pytest.approx(310, rel=0.02)
    assert n_needed(0.051, 1e-6) == pytest.approx(14_000, rel=0.02)
    assert 1.0e6 < n_needed(0.006, 1e-6) < 1.2e6
    assert n_needed(50.0, 1e-6) == 1


def test_the_power_is_ninety_per_cent() -> None:
    # scipy.stats.norm.isf(1e-6) = 4.753424308822899, norm.isf(0.1) = 1.2815515655446004
    assert n_needed(0.01, 1e-6) == math.ceil(((4.753424308822899 + 1.2815515655446004) / 0.01) ** 2)


@pytest.mark.parametrize(
    ("log10_p", "text"),
    [
        (0.0, "1"),
        (math.log10(0.31), "0.31"),
        (math.log10(1.3e-7), "1.3e-07"),
        (-1234.5, "10^-1234.5"),
        (-310.25, "10^-310.2"),
        (-math.inf, "impossible under the null"),
    ],
)
def test_p_for_people(log10_p: float, text: str) -> None:
    assert format_p(log10_p) == text


@given(st.floats(-1e6, 0))
def test_p_is_never_written_as_zero(log10_p: float) -> None:
    number = json_p(log10_p)
    assert number is None or number > 0
    assert format_p(log10_p) != "0"
    if log10_p > -300:
        assert number == pytest.approx(10**log10_p)
    if log10_p < -308:
        assert number is None


def test_tail_gives_its_p_value() -> None:
    assert Tail(-2.0, -1.0, "saddlepoint").p_value == pytest.approx(0.01)
    assert json_p(-math.inf) is None


def test_levels_far_below_a_doubles_precision_have_a_size() -> None:
    assert n_needed(0.344, 1e-20) > n_needed(0.344, 1e-15) > n_needed(0.344, 1e-6)
