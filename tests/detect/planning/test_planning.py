"""Plans: pilots measured, saved and made up; published effects; what is out of reach."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import digamma, ndtri_exp

from detect.documents import Document
from detect.planning.effects import EFFECTS, effect_of_first, inherited_effect
from detect.planning.entropies import entropy_at, pilot_of_entropy
from detect.planning.pilots import (
    EffectPilot,
    TextPilot,
    pilot_of_result,
    pilot_of_scores,
    score_documents,
)
from detect.planning.planning import plan_power
from detect.planning.power import (
    first_order,
    pairs_needed,
)
from detect.planning.power_plan import PowerAccess, PowerPlan, PowerRequest
from detect.planning.tilting import Alternative
from detect.scoring.scorers import choose_scorer
from detect.text import assess_tokens
from tests.detect.synthetic import marked_ids
from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.errors import ConfigError, ResultError
from watermark.keys import SecretKey
from watermark.schemes import SCHEMES
from watermark.schemes.laws import Exponential
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
GUMBEL = preset("gumbel").scheme


# Pilots.


def test_made_up_gumbel_texts_have_the_closed_form_mean() -> None:
    """E[-ln(1 - u) | p] = psi(1/p + 1) + gamma_E; a uniform choice of 2 has p = 1/2.

    Entropy near 0: p near 1, mean 1. Monte Carlo: six standard errors of 4,608 tokens.
    """
    scheme = preset("gumbel").scheme
    sure = pilot_of_entropy(scheme, 0.001)
    assert sure.mean == pytest.approx(float(digamma(2) + np.euler_gamma), abs=0.1)
    means = [pilot_of_entropy(scheme, entropy).mean for entropy in (0.5, 1.5, 3.0)]
    assert means == sorted(means)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_planned_from_an_entropy(name: str) -> None:
    scheme = PRESETS[name].scheme
    pilot = pilot_of_entropy(scheme, 1.8)
    assert pilot.mean > scheme.law.mean + 0.2 * math.sqrt(scheme.law.variance)


@pytest.mark.parametrize("gate", ["0.5", "1", "1.5"])
def test_a_gate_leaves_of_made_up_texts_what_it_left_of_real_ones(gate: str) -> None:
    """Prose of some 1.1 nats a token in the benchmark: red-green's effect with and without."""
    measured = _results("entropy_gate")["prose"][f"gate {gate}"]
    scheme = preset("red-green").scheme
    plain, gated = (
        pilot_of_entropy(scheme, 1.1, min_entropy=least) for least in (0.0, float(gate))
    )
    left = (gated.mean - scheme.law.mean) / (plain.mean - scheme.law.mean)
    assert left == pytest.approx(measured["strength_left"], abs=0.07)
    share = float(gated.source.partition(", ")[2].partition("%")[0]) / 100
    assert share == pytest.approx(measured["left_unmarked"], abs=0.07)


@pytest.mark.parametrize("access", ["text", "weights"])
def test_a_gate_asks_for_more_and_a_closed_one_for_more_than_there_is(access: PowerAccess) -> None:
    """Of a suspect by the factor that a negative verdict presumes: squared in tokens."""
    plain, gated, closed = (
        plan_power(_request(access, config=replace(preset("red-green"), min_entropy=least)))
        for least in (0.0, 0.5, 5.0)
    )
    assert plain.tokens.value is not None
    assert gated.tokens.value is not None
    assert gated.tokens.value == pytest.approx(math.e * plain.tokens.value, rel=0.01)
    assert not closed.detectable
    assert not any("gate" in said for said in plain.assumptions)
    assert any("gate" in said for said in gated.assumptions)


def test_a_pilot_holds_what_the_gate_left_already() -> None:
    pilot, config = EffectPilot(0.05, 0.01, "a probe"), replace(preset("gumbel"), min_entropy=0.5)
    gated = plan_power(_request("weights", pilot=pilot, config=config))
    assert gated.pairs == plan_power(_request("weights", pilot=pilot)).pairs
    assert any("gate" in said for said in gated.assumptions)


def test_text_that_a_gate_leaves_altogether_is_never_found() -> None:
    config = replace(preset("red-green"), min_entropy=5.0)
    plan = plan_power(_request("direct", config=config))
    assert plan.tokens.value is None
    assert "100% of which the gate" in plan.assumptions[0]


def test_temperature_raises_entropy() -> None:
    assert entropy_at(0.5) < entropy_at(1.0) < entropy_at(1.5)
    assert entropy_at(1.0) == pytest.approx(1.8, abs=0.02)
    with pytest.raises(ConfigError, match="temperature"):
        entropy_at(0.0)
    with pytest.raises(ConfigError, match="entropy"):
        pilot_of_entropy(preset("gumbel").scheme, 9.0)


def _gamma_pilot(n_texts: int, n: int, seed: int, spread: float = 0.0) -> TextPilot:
    rng = np.random.default_rng(seed)
    means = 1.5 + spread * rng.choice([-1, 1], n_texts)
    scores = [rng.exponential(m, n) for m in means]
    return pilot_of_scores(GUMBEL, scores, [np.ones(n, np.bool_)] * n_texts, "simulated")


def test_noise_within_texts_is_not_taken_for_texts_that_differ() -> None:
    """Means of 30 scores scatter by 0.27 by chance alone; the true spread is 0 or 0.4."""
    alike = _gamma_pilot(300, 30, 4).alternative(1.0)
    assert alike.at_tilts.first.std() < 0.1
    apart = _gamma_pilot(300, 30, 5, spread=0.4).alternative(1.0)
    assert apart.at_tilts.first.std() == pytest.approx(0.4, abs=0.1)


def test_beginnings_are_planned_by_beginnings() -> None:
    """Texts that begin without a mark: a plan from their later part would promise too much."""
    rng = np.random.default_rng(6)
    scores = [np.concatenate([rng.exponential(1, 40), rng.exponential(3, 60)]) for _ in range(50)]
    pilot = pilot_of_scores(GUMBEL, scores, [np.ones(100, np.bool_)] * 50, "simulated")
    assert pilot.first(40).mean == pytest.approx(1.0, abs=0.15)
    assert pilot.first(100) is pilot
    assert pilot.mean == pytest.approx(2.2, abs=0.2)
    plan = plan_power(_request("direct", pilot=pilot))
    assert plan.pairs.value is not None
    assert plan.pairs.value > 60


def test_a_share_dilutes_a_pilot() -> None:
    pilot = _gamma_pilot(40, 200, 7)
    half = pilot.alternative(0.5)
    assert half.mean == pytest.approx((1 + pilot.mean) / 2, abs=1e-3)


def test_a_pilots_range_holds_the_truth() -> None:
    """The true need lies in the range of at least 7 of 10 pilots (95 % each: P(fewer) = 1e-3)."""
    truth = pairs_needed(
        Exponential(), lambda n: Alternative.shifted(Exponential(), 0.5), alpha=1e-6, power=0.9
    )
    assert truth is not None
    held = 0
    for seed in range(10):
        pilot = _gamma_pilot(20, 100, 100 + seed)
        plan = plan_power(_request("direct", pilot=replace(pilot, scores=None, law=Exponential())))
        low, high = plan.pairs.low, plan.pairs.high
        assert low is not None
        held += low <= truth <= (high or math.inf)
    assert held >= 7


def test_a_corpus_and_a_saved_result_are_pilots(tokenizer: TextTokenizer) -> None:
    config = preset("default")
    ids = marked_ids(config, KEY, 120, vocabulary=tokenizer.vocab_size, seed=1)
    scorer = choose_scorer(None, config.scheme, "direct")
    result = assess_tokens(ids, tokenizer=tokenizer, config=config, key=KEY)
    listed = pilot_of_result(json.loads(json.dumps(result.to_dict(tokens=True))), config)
    document = Document("a", "a", None, tuple(ids.tolist()))
    corpus = score_documents([document], tokenizer, config, KEY, scorer)
    summed = pilot_of_result(result.to_dict(tokens=False), config)
    for pilot in (listed, corpus, summed):
        assert isinstance(pilot, TextPilot)
        assert pilot.mean == pytest.approx(result.finding.statistic / result.finding.n_scored)
        assert pilot.null == scorer.law
        assert pilot.coverage[-1] == (120, result.finding.n_scored)


def test_a_probe_by_weights_is_a_pilot_of_its_effect() -> None:
    payload = {
        "kind": "probe", "access": "weights", "scheme": "gumbel", "context_width": 2,
        "n_tokens": 10_000, "n_scored": 500_000, "log10_p": -12.0, "statistic": 1.0,
    }  # fmt: skip
    pilot = pilot_of_result(payload, preset("gumbel"))
    assert isinstance(pilot, EffectPilot)
    # mpmath: sqrt(2) erfinv(1 - 2 mpf("1e-12")) = 7.03448383
    assert pilot.effect == pytest.approx(0.0703448383, rel=1e-8)
    plan = plan_power(_request("weights", pilot=pilot))
    assert plan.tokens.value == math.ceil(first_order(pilot.effect, alpha=1e-6, power=0.9))
    with pytest.raises(ResultError, match="says nothing"):
        _request("text", pilot=pilot)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "demo"}, "a pilot is"),
        ({"scheme": "gumbel"}, "plan for dual-gumbel"),
        ({"n_scored": 0}, "no scored tokens"),
        ({"statistic": "high"}, "not an intact result"),
        ({"tokens": [{"score": 1.0}]}, "at least 20"),
        ({"score": "reference"}, "law is not one"),
    ],
)
def test_what_is_no_pilot_is_refused(change: dict[str, Any], message: str) -> None:
    good = {
        "kind": "text", "scheme": "dual-gumbel", "context_width": 2, "n_tokens": 90,
        "n_scored": 80, "statistic": 130.0,
    }  # fmt: skip
    assert isinstance(pilot_of_result(good, preset("default")), TextPilot)
    with pytest.raises(ResultError, match=message):
        pilot_of_result(good | change, preset("default"))


# Published effects and plans.


def _results(name: str) -> dict[str, Any]:
    path = Path(__file__).parents[3] / "benchmarks" / "results" / f"{name}.json"
    measured: dict[str, Any] = json.loads(path.read_text())["measured"]
    return measured


def test_our_effects_are_those_of_the_benchmarks() -> None:
    ours = {e.access: e.size for e in EFFECTS if e.source.startswith("benchmarks/")}
    student = _results("inheritance")["rows"]["real, dual h=2"]["text"]
    assert ours["text"] == pytest.approx(
        student["ours"]["z"] / math.sqrt(student["n_scored"]), abs=5e-5
    )
    step = next(s for s in _results("demo")["steps"] if s["name"] == "student by weights")
    z = -float(ndtri_exp(step["log10_p"] * math.log(10)))
    assert ours["weights"] == pytest.approx(z / math.sqrt(step["n_tokens"]), abs=5e-5)


@pytest.mark.parametrize(
    ("context_width", "students"),
    [(1, ["real, dual h=1"]), (2, ["real, dual h=2", "real, gumbel h=2"])],
)
def test_our_decays_are_those_of_the_benchmark(context_width: int, students: list[str]) -> None:
    rows = _results("inheritance")["rows"]
    measured = np.mean([rows[name]["growth"]["decay"] for name in students])
    ratio = effect_of_first(0.01, 15_347 / np.e, context_width) / 0.01
    assert math.log(ratio) == pytest.approx(measured, abs=5e-3)


def test_effects_fall_with_width_and_share() -> None:
    config = preset("red-green")
    sizes = [
        inherited_effect(replace(config, context_width=h), "text", 1.0).size
        for h in (0, 1, 2, 3, 4, 6)
    ]
    assert sizes[:2] == pytest.approx([0.080, 0.080])
    assert [sizes[2], sizes[4]] == pytest.approx([0.037, 0.010])
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert inherited_effect(config, "text", 0.1).size == pytest.approx(0.0037)
    ours = inherited_effect(preset("default"), "text", 1.0).basis
    assert ours.source.startswith("benchmarks/")
    # The effect is that of the score which the command plans with.
    assert ours.score == choose_scorer(None, preset("default").scheme, "inherited").score_name
    with pytest.raises(ConfigError, match="share"):
        inherited_effect(config, "text", 0.0)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_can_be_planned_and_probed(name: str) -> None:
    """A probe needs an effect before it asks: without one no suspect could be tested at all."""
    config = WatermarkConfig(SCHEMES[name](), 2)
    assert inherited_effect(config, "text", 1.0).size > 0
    assert inherited_effect(config, "weights", 1.0).size > 0


def test_the_first_pairs_say_most() -> None:
    """By hand: at h = 2 the effect of a sixteenth of the pairs is 16^0.36 times that of all."""
    at_all = effect_of_first(0.05, 15_347, 2)
    assert at_all == pytest.approx(0.05)
    assert effect_of_first(0.05, 15_347 / 16, 2) == pytest.approx(0.05 * 16**0.36)
    assert effect_of_first(0.05, 15_347 / 16, 6) == effect_of_first(0.05, 15_347 / 16, 2)
    assert effect_of_first(0.05, 1, 1) == 0.5
    # Nothing is known beyond: it falls no further.
    assert effect_of_first(0.05, 1e7, 2) == pytest.approx(0.05)


def test_a_watch_is_planned_to_stop_early_where_the_effect_is_an_inherited_one() -> None:
    """By hand, h = 2, weak effects: n eps(n)^2 / 2 = ln(12e6), eps(n) = eps (n / 15,347)^-0.36."""
    plan = plan_power(_request())
    size = inherited_effect(preset("gumbel"), "text", 1.0).size
    assert plan.stopping is not None
    expected = (2 * math.log(12e6) / size**2 / 15_347**0.72) ** (1 / 0.28)
    assert plan.stopping == pytest.approx(expected, rel=0.25)
    constant = 2 * math.log(12e6) / size**2
    assert plan.stopping < constant


def _request(access: PowerAccess = "text", **changes: Any) -> PowerRequest:
    fields = {
        "config": preset("gumbel"), "access": access, "alpha": 1e-6, "power": 0.9, "share": 1.0,
        "entropy": 1.8, "answer_tokens": 100, "budget": 1_000_000,
    }  # fmt: skip
    return PowerRequest(**(fields | changes))


def _row(plan: PowerPlan, what: str) -> bool:
    return next(p.detectable for p in plan.prospects if what in p.what)


def test_a_plan_says_what_is_out_of_reach() -> None:
    plan = plan_power(_request("text"))
    assert plan.detectable
    assert not _row(plan, "account key")
    assert _row(plan, "10 % of") is False
    assert plan.least_share is not None
    assert 0.1 < plan.least_share < 0.2
    at_least = plan_power(_request("text", share=plan.least_share))
    assert at_least.tokens.value == pytest.approx(1_000_000, rel=0.03)
    narrow = plan_power(_request("text", budget=1_000))
    assert not narrow.detectable
    assert narrow.least_share is None
    assert plan.tokens.value == 100 * (plan.answers.value or 0)


def test_halving_the_share_quadruples_the_need() -> None:
    accesses: tuple[PowerAccess, ...] = ("text", "weights")
    for access in accesses:
        one, half = (plan_power(_request(access, share=s)).tokens.value for s in (0.2, 0.1))
        assert one is not None
        assert half == pytest.approx(4 * one, rel=0.02)


def test_a_plan_for_a_text_knows_repeats_and_searches() -> None:
    plan = plan_power(_request("direct", budget=1_000))
    assert plan.tokens.value is not None
    assert plan.pairs.value is not None
    assert plan.tokens.value >= plan.pairs.value + 2
    search = next(p for p in plan.prospects if "25,000" in p.what)
    assert search.n_tokens is not None
    assert plan.tokens.value < search.n_tokens < 3 * plan.tokens.value
    payload = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert payload["kind"] == "power"
    assert "n_scored_range" not in payload


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.0}, {"power": 1.0}, {"share": 0.0}, {"answer_tokens": 2}, {"alpha": 0.95}],
)
def test_impossible_requests_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        _request(**change)
