"""Controls beside a claim, decoys against a p-value, and verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detect.decoys import DecoyResult, decoy_keys, decoy_statistics, run_decoys
from detect.finding import Finding, Plan, settle
from detect.results import Tail, Verdict, decide, format_p, json_p, n_needed
from detect.suspect.inheritance import Outcome
from detect.suspect.probe import Control, conclude
from watermark.config import preset
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes import SCHEMES

PLAN = Plan(preset("default"), SecretKey(bytes(range(32))), 1e-6, 0.1, 0, 0)


def _tested(log10_p: float, decoys: DecoyResult | None = None) -> Outcome:
    tail = Tail(log10_p, log10_p, "exact")
    verdict, warnings = settle(PLAN, tail, decoys, 10_000)
    return Outcome(Finding(PLAN, 1.0, 10_000, tail, decoys, verdict, None, warnings), 20_000, {})


def test_quiet_controls_let_the_claim_stand() -> None:
    controls = [
        Control("twin", "clean twin", _tested(-0.3)),
        Control("base", "base", _tested(-2.9)),
    ]
    result = conclude("student", "text", _tested(-12), controls, 250).to_dict()
    assert result["verdict"] == "signal"
    assert result["warnings"] == []
    assert [c["fires"] for c in result["controls"]] == [False, False]


def test_a_control_that_fires_stops_the_claim() -> None:
    by_p = Control("base", "base", _tested(-3.1))
    by_decoys = Control("twin", "twin", _tested(-1.0, DecoyResult(9_999, 3, 0, 0.0, 1.0)))
    for control in (by_p, by_decoys):
        result = conclude("student", "text", _tested(-12), [control], 250).to_dict()
        assert result["verdict"] == "inconclusive"
        assert "the claim is stopped" in result["warnings"][0]
        assert result["log10_p"] == -12


def test_a_claim_without_controls_says_so() -> None:
    result = conclude("student", "weights", _tested(-12), [], 250).to_dict()
    assert "No control" in result["warnings"][0]
    assert result["verdict"] == "signal"


@pytest.mark.parametrize(("n_at_most", "is_named"), [(0, True), (9, True), (10, False)])
def test_a_statistic_that_is_too_low_points_to_neutralisation(
    n_at_most: int, is_named: bool
) -> None:
    """Two-sided where it says something: p of the lower side at most 0.001 is no "no signal"."""
    decoys = DecoyResult(9_999, 9_999 - n_at_most, 0, 0.0, 1.0, 0.0, n_at_most)
    tested = _tested(0.0, decoys)
    assert tested.finding.verdict is Verdict.NO_SIGNAL
    quiet = Control("twin", "clean twin", _tested(-0.3))
    result = conclude("student", "text", tested, [quiet], 250).to_dict()
    assert any("neutralised" in warning for warning in result["warnings"]) is is_named
    assert result["verdict"] == ("inconclusive" if is_named else "no_signal")
    assert result["decoys"]["lower_p_value"] == (1 + n_at_most) / 10_000


def test_a_control_that_is_as_low_puts_the_blame_on_the_test() -> None:
    low = DecoyResult(9_999, 9_999, 0, 0.0, 1.0, 0.0, 0)
    control = Control("twin", "clean twin", _tested(0.0, low))
    for suspect in (_tested(0.0, low), _tested(0.0)):
        result = conclude("student", "text", suspect, [control], 250).to_dict()
        assert not any("neutralised" in warning for warning in result["warnings"])
        assert any("statistic of twin is lower" in warning for warning in result["warnings"])
        assert result["verdict"] == "inconclusive"


def test_both_ranks_among_decoys_are_counted() -> None:
    """By hand; a result that did not count from below claims nothing."""
    scheme = SCHEMES["gumbel"]()
    contexts, tokens = np.arange(60).reshape(30, 2), np.arange(30)
    for seed in range(3):
        found = run_decoys(scheme, contexts, tokens, -4.0, n_decoys=400, seed=seed)
        values = decoy_statistics(scheme, decoy_keys(400, seed), contexts, tokens)
        assert found.n_at_most == int((values <= -4.0).sum())
        assert found.n_at_least == int((values >= -4.0).sum())
    assert DecoyResult(99, 3, 0, 0.0, 1.0).lower_p_value == 1.0


def test_decoys_that_contradict_win() -> None:
    """Ten of 9,999 decoys at least as high cannot be if p were 1e-12."""
    found = _tested(-12, DecoyResult(9_999, 10, 0, 0.0, 1.0)).finding
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "decoys" in found.warnings[0]
    agreeing = _tested(-12, DecoyResult(9_999, 0, 0, 0.0, 1.0)).finding
    assert agreeing.verdict is Verdict.SIGNAL


def test_honest_decoys_hardly_ever_contradict() -> None:
    """H0: decoys binomial around an honest p. The Chernoff bound keeps contradictions below 1e-3.

    20,000 draws: more than 40 would have a probability below 1e-4 at exactly 1e-3.
    """
    rng = np.random.default_rng(0)
    contradicted = 0
    for p in 10 ** -rng.uniform(0, 6, 20_000):
        k = int(rng.binomial(999, p))
        contradicted += DecoyResult(999, k, 0, 0.0, 1.0).contradicts(math.log10(p))
    assert contradicted <= 40


def test_verdicts_need_the_ceiling_and_the_power() -> None:
    def verdict(log10_p: float, ceiling: float, n: int) -> str:
        return decide(Tail(log10_p, ceiling, "saddlepoint"), n, alpha=1e-6, n_powered=300).value

    assert verdict(-7, -6, 10) == "signal"
    assert verdict(-7, -5.9, 1000) == "inconclusive"
    assert verdict(-1, -0.5, 1000) == "no_signal"
    assert verdict(-1, -0.5, 299) == "inconclusive"
    assert verdict(-2.5, -2, 1000) == "inconclusive"
    assert verdict(0, 0, 0) == "inconclusive"


def test_sample_sizes_follow_the_published_table() -> None:
    # statistics: eps 0.344 -> 310, 0.119 -> 2.6k, 0.051 -> 14k tokens at 1e-6 and 90 % power
    assert n_needed(0.344, 1e-6) == pytest.approx(310, rel=0.02)
    assert n_needed(0.119, 1e-6) == pytest.approx(2_600, rel=0.02)
    assert n_needed(0.051, 1e-6) == pytest.approx(14_000, rel=0.02)


def test_p_values_for_people_and_machines() -> None:
    assert format_p(-0.5) == "0.32"
    assert format_p(-6.9) == "1.3e-07"
    assert format_p(-1234.56) == "10^-1234.6"
    assert format_p(-math.inf) == "impossible under the null"
    assert json_p(-3.0) == pytest.approx(1e-3)
    assert json_p(-310.0) is None


@pytest.mark.parametrize("name", SCHEMES)
def test_decoys_are_the_same_statistic_under_other_keys(name: str) -> None:
    scheme, rng = SCHEMES[name](), np.random.default_rng(0)
    contexts, tokens = rng.integers(0, 9, (300, 2)), rng.integers(0, 99, 300)
    weights = rng.normal(size=300)
    keys = decoy_keys(5, seed=3)
    found = decoy_statistics(scheme, keys, contexts, tokens, weights)
    for (k0, k1), value in zip(keys.tolist(), found, strict=True):
        prf = Prf(k0, k1)
        hashes = prf.context_hashes(contexts)
        words = np.stack([prf.words(hashes, tokens, s) for s in range(scheme.n_streams)])
        assert value == pytest.approx(float((scheme.score(words) - scheme.law.mean) @ weights))
    assert np.array_equal(decoy_keys(5, seed=3), keys)


def test_ties_count_against_us() -> None:
    scheme, key = SCHEMES["red-green"](), decoy_keys(1, seed=8)
    contexts, tokens = np.arange(20).reshape(10, 2), np.arange(10)
    own = float(decoy_statistics(scheme, key, contexts, tokens)[0])
    result = run_decoys(scheme, contexts, tokens, own, n_decoys=1, seed=8)
    assert result.n_at_least == 1
    assert result.p_value == 1.0


def test_decoy_p_values_are_uniform_for_random_keys() -> None:
    """400 true keys among 99 decoys; ranks chi-square over 10 bins below 9 + 6 sd."""
    scheme, rng = SCHEMES["gumbel"](), np.random.default_rng(5)
    contexts, tokens = rng.integers(0, 4, (40, 2)), rng.integers(0, 9, 40)
    ranks = []
    for run in range(400):
        true = rng.integers(0, 1 << 64, (1, 2), np.uint64)
        own = float(decoy_statistics(scheme, true, contexts, tokens)[0])
        ranks.append(run_decoys(scheme, contexts, tokens, own, n_decoys=99, seed=run).n_at_least)
    counts = np.bincount(np.array(ranks) // 10, minlength=10)
    assert ((counts - 40) ** 2 / 40).sum() < 9 + 6 * 18**0.5
