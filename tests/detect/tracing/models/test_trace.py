"""Suspects of one cohort, of all, of none: what is concluded, and what stops it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, norm

from detect.finding import Plan
from detect.multiplicity import holm
from detect.results import Tail
from detect.suspect.answer_pairs import AnswerPairs
from detect.suspect.distributions import assess_pairs
from detect.suspect.inheritance import assess_pool
from detect.suspect.probing import ProbeRequest
from detect.suspect.reading import PairWeights
from detect.tracing.models.hearing import HeardModel, Hearing
from detect.tracing.models.leaks import Traffic
from detect.tracing.models.many_keys import least_share, pairs_for_key_of, refuse_many
from detect.tracing.models.result import ModelTrace
from detect.tracing.models.trace import run_trace, trace_hearing
from detect.tracing.models.under_keys import Heard, Sum, heard_of_answers, heard_of_pairs
from detect.tracing.named_keys import NamedKey
from tests.detect.tracing.models.taught import CONFIG, heard, keys_of, taught_pairs
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError
from watermark.interop.sglang import SglangWords
from watermark.keyring.listed_keys import Revocation
from watermark.keys import EngineKey, SecretKey
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen

_N = 8000
_REQUEST = ProbeRequest(
    suspect="s", access="text", controls=(), reference=None, config=CONFIG, key=keys_of(1)[0],
    tokenizer="", alpha=1e-6, n_decoys=0, seed=0, score=None, max_new_tokens=1, temperature=1.0,
    top_k=0,
)  # fmt: skip


def _traced(
    suspect: Heard,
    keys: list[SecretKey],
    *,
    controls: tuple[Heard, ...] = (),
    traffic: Traffic = Traffic(),  # noqa: B008 - frozen
    revoked: tuple[int, ...] = (),
    alpha: float = 1e-6,
) -> ModelTrace:
    request = replace(_REQUEST, key=keys[0], alpha=alpha)
    gone = Revocation("2026-11-20T10:00:00Z", "stolen")
    named = tuple(
        NamedKey(f"c{i}", None, key, gone if i in revoked else None) for i, key in enumerate(keys)
    )
    models = tuple(HeardModel(f"control {i}", c) for i, c in enumerate(controls))
    hearing = Hearing(HeardModel("s", suspect), models, 10, ())
    return trace_hearing(request, hearing, named, traffic, {})


def _trace(suspect: Heard, keys: list[SecretKey], **options: Any) -> dict[str, Any]:
    found = _traced(suspect, keys, **options).to_dict()
    # What a file or a page would hold.
    return dict(json.loads(json.dumps(found, allow_nan=False)))


def _student(taught: np.ndarray, follows: float, seed: int = 0, n_keys: int = 8) -> Heard:
    return heard(taught_pairs(keys_of(n_keys), taught, follows=follows, seed=seed))


def _innocent(seed: int, n: int = _N) -> Heard:
    return _student(np.full(n, -1), 0.0, seed)


def test_a_significant_key_that_others_know_is_said() -> None:
    student = _student(np.full(_N, 5), 0.8)
    found = _trace(student, keys_of(8), controls=(_innocent(1),), revoked=(4, 5))
    said = [w for w in found["warnings"] if "revoked" in w]
    assert len(said) == 1
    assert said[0].startswith("The mark of c5 is there")
    assert "on 2026-11-20 (stolen)" in said[0]
    assert "publish text with its mark" in said[0]


def test_a_revoked_key_is_paid_for_and_accuses_nobody() -> None:
    student = _student(np.full(_N, 5), 0.8)
    plain = _trace(student, keys_of(8), controls=(_innocent(1),))
    found = _trace(student, keys_of(8), controls=(_innocent(1),), revoked=(4, 5))
    assert (found["conclusion"], found["verdict"]) == ("undecided", "inconclusive")
    assert found["named_revoked"] == ["c5"]
    assert found["best"] not in ("c4", "c5")
    row, before = found["cohorts"][5], plain["cohorts"][5]
    assert row["log10_p_adjusted"] == before["log10_p_adjusted"] < -6
    assert (row["verdict"], row["named_revoked"]) == ("inconclusive", True)
    assert (row["revoked"], row["revoked_at"]) == (True, "2026-11-20T10:00:00Z")
    assert row["revoked_reason"] == "stolen"
    # p-value and key at the top are those of the best key that could be named, all paid for.
    best = next(one for one in found["cohorts"] if one["name"] == found["best"])
    assert found["key_id"] == best["key_id"]
    assert found["log10_p"] == pytest.approx(min(best["log10_p"] + math.log10(8), 0.0))
    assert found["spread"]["n_significant"] == 0
    assert found["spread"]["pooled"]["log10_p"] > -3
    assert "others may know what was revoked" in found["conclusion_in_words"]
    assert any("c4, c5" in limit and "paid for" in limit for limit in found["limits"])
    assert not any("Revoked keys" in limit for limit in plain["limits"])


@pytest.mark.parametrize("avoided", [False, True])
def test_a_revoked_key_takes_nothing_from_the_others(avoided: bool) -> None:
    """Who knows c4 may publish text with its mark or without: c5's student stays c5's."""
    taught = np.repeat([5, 4], [_N, _N])
    keys, student = keys_of(8), _student(np.full(_N, 5), 0.8)
    pairs = taught_pairs(keys[:5], np.where(taught[_N:] == 4, 4, -1), follows=0.8, seed=7,
                         avoided=avoided)  # fmt: skip
    both = replace(
        student,
        contexts=np.concatenate([student.contexts, pairs.contexts]),
        tokens=np.concatenate([student.tokens, pairs.tokens]),
        n_telling=2 * _N,
    )
    forged = _trace(both, keys, revoked=(4,))
    assert (forged["conclusion"], forged["best"]) == ("one_key", "c5")
    assert forged["named_revoked"] == ([] if avoided else ["c4"])
    unknown = _trace(both, keys)
    assert unknown["conclusion"] == ("undecided" if avoided else "several_keys")


def test_a_thin_leak_and_a_forgery_beside_it() -> None:
    """What a revoked key leaves is no part of what all keys leave together."""
    forged = _trace(_student(np.full(_N, 2), 0.3, seed=5), keys_of(8), revoked=(2,))
    assert forged["spread"]["pooled"]["log10_p"] > -4
    assert forged["conclusion"] == "undecided"
    thin = _trace(_student(np.arange(_N) % 8, 0.55), keys_of(8), revoked=(0,))
    assert thin["conclusion"] == "several_keys"
    assert thin["spread"]["n_significant"] < 7


def test_traffic_of_revoked_keys_loosens_what_a_leak_may_be() -> None:
    served = {f"c{i}": 100 for i in range(8)} | {"c0": 10_000}
    student = _student(np.full(_N, 5), 0.8)
    found = _trace(student, keys_of(8), revoked=(0,), traffic=Traffic(served, 100))
    alone = found["spread"]["concentration"]
    assert alone["traffic_share"] == pytest.approx(1 / 7)
    assert alone["share_allowed"] == 1.0
    assert found["conclusion"] == "undecided"


def test_two_keys_at_least_must_be_ones_own() -> None:
    with pytest.raises(ConfigError, match="at least two keys that were not revoked, got 1 beside"):
        _traced(_innocent(1), keys_of(3), revoked=(0, 2))
    named = [NamedKey("a", None, keys_of(2)[0], Revocation()), NamedKey("b", None, keys_of(2)[1])]
    with pytest.raises(ConfigError, match="beside a: others may know"):
        run_trace(_REQUEST, named, Traffic(), "none.txt", None, pytest.fail)


def test_a_student_of_one_cohort() -> None:
    found = _trace(_student(np.full(_N, 5), 0.8), keys_of(8), controls=(_innocent(1),))
    assert found["conclusion"] == "one_key"
    assert found["best"] == "c5"
    assert found["verdict"] == "signal"
    rows = {row["name"]: row for row in found["cohorts"]}
    assert [n for n, row in rows.items() if row["verdict"] == "signal"] == ["c5"]
    best = rows["c5"]
    assert found["log10_p"] == pytest.approx(best["log10_p"] + math.log10(8))
    assert best["log10_p_adjusted"] == pytest.approx(best["log10_p"] + math.log10(8))
    alone = found["spread"]["concentration"]
    assert alone["log10_p_adjusted"] <= -6
    assert alone["log10_p_adjusted"] == pytest.approx(alone["log10_p"] + math.log10(8))
    assert alone["share_at_least"] > 0.5
    assert alone["documents_needed"] == 50
    assert alone["presumed_documents"] is None
    assert "more than 50% of the signal" in found["conclusion_in_words"]
    assert any("25,000" in limit for limit in found["limits"])
    assert any("50 or more independent documents" in limit for limit in found["limits"])


def test_a_leak_of_all_cohorts() -> None:
    found = _trace(_student(np.arange(_N) % 8, 1.0), keys_of(8), controls=(_innocent(1),))
    assert found["conclusion"] == "several_keys"
    assert found["spread"]["n_significant"] < 8
    assert found["spread"]["others"]["log10_p_adjusted"] < -6
    assert found["spread"]["concentration"]["log10_p_adjusted"] == 0.0
    assert any("several cohorts" in limit for limit in found["limits"])


def test_a_thin_leak_shows_in_all_keys_together_alone() -> None:
    found = _trace(_student(np.arange(_N) % 8, 0.45), keys_of(8))
    assert found["spread"]["n_significant"] == 0
    assert found["conclusion"] == "several_keys"
    assert "No single key is significant" in found["conclusion_in_words"]
    assert found["verdict"] == "inconclusive"


@pytest.mark.parametrize(("leaked", "conclusion"), [(8, "undecided"), (1, "several_keys")])
def test_a_campaign_beside_a_leak_is_no_single_key(leaked: int, conclusion: str) -> None:
    # Three quarters of the documents are one key's, the rest those of all keys, or of one other.
    pairs = np.arange(3 * _N)
    taught = np.where(pairs % 4 > 0, 2, pairs // 4 % leaked)
    found = _trace(_student(taught, 1.0), keys_of(8))
    assert found["spread"]["concentration"]["log10_p_adjusted"] < -6
    assert found["spread"]["others"]["log10_p_adjusted"] < -2
    assert found["conclusion"] == conclusion
    assert ("not quiet" in found["conclusion_in_words"]) == (leaked == 8)


def test_an_innocent() -> None:
    found = _trace(_innocent(3, 40_000), keys_of(8), controls=(_innocent(4),))
    assert found["conclusion"] == "no_signal"
    assert found["verdict"] == "no_signal"
    assert {row["verdict"] for row in found["cohorts"]} == {"no_signal"}


def test_too_little_is_nothing_shown() -> None:
    found = _trace(_innocent(3, 300), keys_of(8))
    assert found["conclusion"] == "undecided"
    assert found["warnings"] == ["No control model was tested: add at least one with --control."]


def test_nothing_scored_is_nothing_shown() -> None:
    plan, pairs = _read(CONFIG, 5, 0)
    still = replace(pairs, gained=np.zeros(5))
    for suspect in (_innocent(0, 0), heard_of_pairs(plan, still, 5)):
        found = _trace(suspect, keys_of(3), controls=(suspect,))
        assert found["n_scored"] == 0
        assert found["log10_p"] == 0
        assert found["conclusion"] == "undecided"
        assert found["spread"]["concentration"]["log10_p_adjusted"] == 0
        assert any("controls nothing" in warning for warning in found["warnings"])


def test_one_key_of_a_faint_student_stays_open() -> None:
    found = _trace(_student(np.full(_N, 5), 0.25), keys_of(8))
    assert found["verdict"] == "signal"
    assert found["conclusion"] == "undecided"
    assert "whether the signal is that key's alone cannot be told" in found["conclusion_in_words"]


def test_a_control_that_fires_stops_the_claim() -> None:
    guilty = _student(np.full(_N, 5), 0.8)
    for control in (_student(np.full(_N, 2), 0.5, 7), _student(np.arange(_N) % 8, 0.4, 7)):
        found = _trace(guilty, keys_of(8), controls=(control,))
        assert found["conclusion"] == "undecided"
        assert found["verdict"] == "inconclusive"
        assert "claim is stopped" in found["conclusion_in_words"]


def test_marks_that_were_taken_out_do_not_leave_another_alone() -> None:
    keys = keys_of(8)
    one = taught_pairs(keys, np.full(_N, 5), follows=0.8, seed=0)
    rest = taught_pairs(keys, np.arange(_N) % 5, follows=0.6, seed=1, avoided=True)
    both = replace(
        one,
        contexts=np.concatenate([one.contexts, rest.contexts]),
        tokens=np.concatenate([one.tokens, rest.tokens]),
        places=np.arange(2 * _N),
        n_tokens=2 * _N,
    )
    found = _trace(heard(both), keys)
    assert found["spread"]["concentration"]["log10_p_adjusted"] < -6
    assert found["conclusion"] == "undecided"
    assert "avoids other keys (all but c5 together" in found["conclusion_in_words"]
    assert found["spread"]["concentration"]["share_at_least"] is None


def test_a_key_that_is_avoided_alone_is_seen_beside_others_that_are_not() -> None:
    keys = keys_of(8)
    one = taught_pairs(keys, np.full(_N, 5), follows=0.8, seed=0)
    # Key 2 is avoided, six others are followed a little: their sum shows neither.
    turn = np.arange(2 * _N) % 8
    least = np.where(turn < 4, 2, -1)
    avoided = taught_pairs(keys, least, follows=0.6, seed=1, avoided=True)
    others = np.array([0, 1, 3, 4, 6, 7])[np.arange(2 * _N) % 6]
    followed = taught_pairs(keys, np.where(turn < 4, -1, others), follows=0.4, seed=2)
    parts = (one, avoided, followed)
    mixed = replace(
        one,
        contexts=np.concatenate([part.contexts for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        places=np.arange(5 * _N),
        n_tokens=5 * _N,
    )
    found = _trace(heard(mixed), keys)
    assert found["spread"]["others"]["z"] > -3.09
    assert found["conclusion"] == "undecided"
    assert "avoids other keys (c2: z = -" in found["conclusion_in_words"]
    assert "all but" not in found["conclusion_in_words"]
    # Of 7 others, one below -3.09 is no wonder: the choice is paid for.
    base = _traced(_innocent(0, 300), keys)
    for z, n_reasons in ((-3.2, 0), (-3.7, 1)):
        rows = tuple(replace(key, z=z if i == 2 else 0.1 * i) for i, key in enumerate(base.traced))
        assert len(replace(base, traced=rows).holds_back) == n_reasons


def test_a_finding_where_no_key_was_used_has_the_level_of_the_whole() -> None:
    alpha, trials, keys = 0.05, 1500, 8
    base = _traced(_innocent(0, 300), keys_of(keys), alpha=alpha)
    assert base.to_dict()["level_of_each"] == alpha / 2
    zs = np.random.default_rng(0).normal(size=(trials, keys))
    found = 0
    for z in zs:
        logs = holm(norm.logsf(z) / math.log(10))
        traced = tuple(
            replace(key, z=float(x), log10_p_adjusted=p, ceiling_adjusted=p)
            for key, x, p in zip(base.traced, z, logs.tolist(), strict=True)
        )
        trace = replace(base, traced=traced, pooled=_sum(z), others=_sum(np.sort(z)[:-1]))
        named = trace.conclusion in ("one_key", "several_keys")
        found += named or trace.verdict.value == "signal"
    # 1,500 chances of 0.05: more than 101 have a probability of 1 in 1,000; 0.09 would be 135.
    assert 50 < found < 101


def _sum(z: np.ndarray) -> Sum:
    whole = float(z.sum() / math.sqrt(len(z)))
    log10_p = float(norm.logsf(whole) / math.log(10))
    return Sum(Tail(log10_p, log10_p, "exact"), whole)


def test_one_key_has_no_second_chance_between_half_the_level_and_all_of_it() -> None:
    base = _traced(_innocent(0, 300), keys_of(2), alpha=0.01)
    for p, verdict in ((0.008, "inconclusive"), (0.004, "signal")):
        best = replace(
            base.best, log10_p_adjusted=math.log10(p), ceiling_adjusted=math.log10(p), z=9.0
        )
        rows = tuple(best if key is base.best else key for key in base.traced)
        assert replace(base, traced=rows).verdict.value == verdict


def test_what_was_presumed_of_a_leak_is_said() -> None:
    even = {f"c{i}": 1000 for i in range(8)}
    student = _student(np.full(_N, 5), 1.0)
    for m in (100, 3000):
        found = _trace(student, keys_of(8), traffic=Traffic(even, m))
        alone = found["spread"]["concentration"]
        assert alone["presumed_documents"] == m
        # pi + sqrt(ln(2 * 8 / alpha) / 2 M).
        assert alone["share_allowed"] == pytest.approx(
            1 / 8 + math.sqrt(math.log(16e6) / (2 * m)), rel=1e-9
        )
        assert (
            f"at least {m:,} independent documents of equal trace" in found["conclusion_in_words"]
        )
        assert "effective number" in found["conclusion_in_words"]
    faint = _trace(_student(np.full(_N, 5), 0.25), keys_of(8), traffic=Traffic(even, 100))
    assert faint["conclusion"] == "undecided"
    assert "a leak of at least 100 independent documents" in faint["conclusion_in_words"]


def test_counters_move_the_border() -> None:
    # Key 5 has three quarters of the signal: more than half, and what its traffic gives it.
    taught = np.where(np.arange(2 * _N) % 4 > 0, 5, np.arange(2 * _N) // 4 % 8)
    student = _student(taught, 1.0)
    served = {f"c{i}": 8000 if i == 5 else 1000 for i in range(8)}
    blind = _trace(student, keys_of(8))["spread"]["concentration"]
    counted = _trace(student, keys_of(8), traffic=Traffic(served))["spread"]["concentration"]
    assert blind["log10_p_adjusted"] < -6
    assert counted["by_traffic"]
    assert counted["share_allowed"] > 8 / 15
    assert counted["log10_p_adjusted"] > -3
    # What is paid for chance stands in the p-value: it never falls below half the level.
    even = {f"c{i}": 1000 for i in range(8)}
    least = _trace(_student(np.full(_N, 5), 1.0), keys_of(8), traffic=Traffic(even))
    assert least["spread"]["concentration"]["log10_p_adjusted"] == pytest.approx(
        math.log10(5e-7), abs=1e-6
    )
    assert least["conclusion"] == "one_key"


def test_each_key_is_tested_as_by_a_probe() -> None:
    keys, pairs = keys_of(3), taught_pairs(keys_of(3), np.zeros(500, np.int64), follows=1, seed=0)
    scored = heard(pairs, n_decoys=499).under(keys)
    for index, key in enumerate(keys):
        mine = scored.outcome(index, 1e-6).finding
        plan = replace(mine.plan, alpha=1e-6, n_decoys=499)
        theirs = assess_pool(plan, pairs)
        assert mine.plan.key == key
        assert mine.tail == theirs.tail
        assert mine.statistic == theirs.statistic
        assert mine.decoys == theirs.decoys


def _read(config: WatermarkConfig, n: int, seed: int) -> tuple[Plan, PairWeights]:
    rng = np.random.default_rng(seed)
    contexts = rng.integers(1000, size=(n, 2))
    # Few kinds of pairs: the law of a sum is convolved from the kinds.
    gained, likely = rng.choice([-0.3, 0.1, 0.5], n), rng.choice([0.1, 0.4], n)
    pairs = PairWeights(contexts, rng.integers(1000, size=n), gained, gained, likely, n, n, {})
    return Plan(config, SecretKey(bytes(32)), 1e-6, 0.1, 199, 0), pairs


@pytest.mark.parametrize("config", [preset("default"), WatermarkConfig(RedGreen(), 2)])
def test_weights_are_tested_as_by_a_probe(config: WatermarkConfig) -> None:
    keys, (plan, pairs) = keys_of(2), _read(config, 400, 0)
    scored = heard_of_pairs(plan, pairs, 400).under(keys)
    for index, key in enumerate(keys):
        theirs = assess_pairs(replace(plan, key=key), pairs)
        mine = scored.outcome(index, 1e-6).finding
        assert mine.tail.log10_p == pytest.approx(theirs.tail.log10_p, abs=1e-9)
        assert mine.statistic == pytest.approx(theirs.statistic)
        assert mine.decoys == theirs.decoys


@pytest.mark.parametrize("config", [preset("default"), WatermarkConfig(RedGreen(), 2)])
def test_keys_together_have_a_uniform_p_value_under_the_null(config: WatermarkConfig) -> None:
    plan, pairs = _read(config, 150, 1)
    plan = replace(plan, n_decoys=0)
    found = [
        heard_of_pairs(plan, pairs, 150).under(keys_of(3, seed)).pooled([0, 2])
        for seed in range(200)
    ]
    p = np.array([each.tail.p_value for each in found])
    assert kstest(p, "uniform").pvalue > 1e-3
    z = np.array([each.z for each in found])
    assert abs(z.mean()) < 0.25
    assert 0.8 < z.std() < 1.2


def test_too_many_keys_are_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match="at most 16 keys, got 17") as refused:
        refuse_many(17, CONFIG, "text", 1e-6)
    message = str(refused.value)
    needed = pairs_for_key_of(CONFIG, "text", 17, 1e-6)
    # ((z(1e-6 / 17) + z(0.1)) / (0.051 / 17))^2, normal quantiles 5.3046 and 1.2816.
    assert needed == pytest.approx((5.3046 + 1.2816) ** 2 / (0.051 / 17) ** 2, rel=0.02)
    assert f"{needed:.2g} scored pairs" in message
    assert "1/s^2" in message
    assert "heirmark trace text" in message
    with pytest.raises(ConfigError, match="heirmark probe"):
        refuse_many(1, CONFIG, "text", 1e-6)
    refuse_many(16, CONFIG, "weights", 1e-6)
    # Twice the share needs a quarter of the pairs.
    assert least_share(0.05, 8, 40_000, 1e-6) == pytest.approx(
        2 * (least_share(0.05, 8, 160_000, 1e-6) or 0)
    )
    assert least_share(0.05, 8, 100, 1e-6) is None


def test_keys_that_another_engines_hash_merges_are_refused() -> None:
    config = WatermarkConfig(Gumbel(), 2, source=SglangWords())
    keys = [EngineKey([key]) for key in (5, 8_664_825_296_425_194_797, 2_739_639_474_829_393_329)]
    plan = Plan(config, keys[0], 1e-6, 0.1, 0, 0)
    pairs = AnswerPairs(np.array([[1, 2]]), np.array([3]), np.array([0]), 1, {})
    suspect = heard_of_answers(plan, pairs, config.scheme)
    with pytest.raises(ConfigError, match=f"{keys[2].key_id} makes the same .*{keys[1].key_id}"):
        suspect.under(keys)
    request = replace(_REQUEST, config=config, key=keys[0])
    named = [NamedKey(f"c{i}", None, key) for i, key in enumerate(keys)]
    with pytest.raises(ConfigError, match="the key c2 makes the same words as the key c1"):
        # Before anything is asked: there is no such file.
        run_trace(request, named, Traffic(), "none.txt", None, pytest.fail)
