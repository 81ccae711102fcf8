"""Inherited signal: students are found, innocents are not, and broken rules are refused."""

from __future__ import annotations

import numpy as np
import pytest

from detect import finding
from detect.decoys import DecoyResult
from detect.finding import Finding, Plan, settle
from detect.results import Tail
from detect.suspect import answer_pairs
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.inheritance import Outcome, assess_answers
from detect.suspect.probe import Control, conclude
from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.errors import FingerprintError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")


def _plan(config: WatermarkConfig = CONFIG, key: SecretKey = KEY, n_decoys: int = 0) -> Plan:
    return Plan(config, key, 1e-6, 0.1, n_decoys, 0)


def test_answers_are_pooled_over_distinct_pairs(tokenizer: TextTokenizer) -> None:
    answer = SuspectAnswer("Go:", "The old captain read the book again, line by line.")
    once = assess_answers(_plan(), tokenizer, [answer])
    many = assess_answers(_plan(), tokenizer, [answer] * 50)
    assert many.finding.tail == once.finding.tail
    assert many.reasons["pair_in_earlier_answer"] == 49 * once.finding.n_scored


def test_what_stands_in_the_prompt_is_no_evidence(tokenizer: TextTokenizer) -> None:
    text = "The old captain read the book again, line by line."
    copied = assess_answers(_plan(), tokenizer, [SuspectAnswer(f"Repeat: {text} {text}", text)])
    free = assess_answers(_plan(), tokenizer, [SuspectAnswer("Repeat.", text)])
    assert copied.finding.n_scored < free.finding.n_scored / 4
    assert copied.reasons["context_in_prompt"] > 0


def test_no_answers_are_inconclusive(tokenizer: TextTokenizer) -> None:
    for answers in ([], [SuspectAnswer("Go:", "")]):
        finding = assess_answers(_plan(n_decoys=9), tokenizer, answers).finding
        assert finding.verdict.value == "inconclusive"
        assert finding.tail.p_value == 1.0


def test_another_tokenizer_is_refused(tokenizer: TextTokenizer) -> None:
    bound = _plan(CONFIG.bound_to("sha256:other"))
    with pytest.raises(FingerprintError):
        assess_answers(bound, tokenizer, [])


WORDS = 45


def _speak(
    tokenizer: TextTokenizer, n: int, *, seed: int, key: SecretKey | None = None, tilt: float = 0.0
) -> str:
    """Say n whole words, tilted by the key's words or not; the tokenizer cuts them back exactly."""
    texts = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]
    whole = [i for i, t in enumerate(texts) if t[:1] == " " and t[1:].isascii() and t[1:].isalpha()]
    ids = np.array([i for i in whole if tokenizer.encode(texts[i]).tolist() == [i]])[:WORDS]
    assert len(ids) == WORDS
    rng, law = np.random.default_rng(seed), CONFIG.scheme.law
    spoken: list[int] = []
    for _ in range(n):
        logits = np.zeros(WORDS)
        if key is not None and len(spoken) >= 2:
            prf = Prf.from_key(key)
            hashes = prf.context_hashes(np.array([spoken[-2:]]))
            words = np.stack([prf.words(hashes, ids[None], s)[0] for s in range(2)])
            logits = tilt * (CONFIG.scheme.score(words) - law.mean)
        p = np.exp(logits)
        spoken.append(int(rng.choice(ids, p=p / p.sum())))
    text = tokenizer.decode(spoken)
    assert tokenizer.encode(text).tolist() == spoken
    return text


def test_a_tilted_student_is_found_by_text_and_a_clean_twin_is_not(
    tokenizer: TextTokenizer,
) -> None:
    plan = _plan(n_decoys=999)
    student, twin = (
        assess_answers(
            plan,
            tokenizer,
            [
                SuspectAnswer("Go:", _speak(tokenizer, 60, seed=i, key=KEY, tilt=tilt))
                for i in range(40)
            ],
        )
        for tilt in (0.2, 0.0)
    )
    assert student.finding.n_scored > 2000
    result = conclude("student", "text", student, [Control("twin", "clean twin", twin)], 40)
    assert result.to_dict()["verdict"] == "signal"
    assert student.finding.decoys is not None
    assert student.finding.decoys.is_best
    stopped = conclude("student", "text", student, [Control("base", "base", student)], 40).to_dict()
    assert stopped["verdict"] == "inconclusive"
    assert stopped["controls"][0]["fires"]


@pytest.mark.parametrize("name", PRESETS)
def test_innocent_answers_have_valid_p_values(
    tokenizer: TextTokenizer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 keys; one-sided Kolmogorov-Smirnov at 1e-6 (sqrt(ln(1e6) / 2n)), as p may be discrete."""
    # The curve, a picture, would cost a hundred times the p-value.
    monkeypatch.setattr(finding, "_CURVE_POINTS", 1)
    answers = [SuspectAnswer("Go:", _speak(tokenizer, 50, seed=i)) for i in range(6)]
    rng = np.random.default_rng(1)
    p = np.sort(
        [
            assess_answers(
                _plan(preset(name), SecretKey(rng.bytes(32))), tokenizer, answers
            ).finding.tail.p_value
            for _ in range(200)
        ]
    )
    bound = (np.log(1e6) / 400) ** 0.5
    assert (np.arange(1, 201) / 200 - p).max() < bound
    # Nor far above: at a discrete law each value stands for the interval below it.
    assert np.median(p) < 0.5 + 2 * bound


def test_pairs_counted_again_and_again_accuse_the_innocent(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer given 30 times: 30 keys, none looks guilty; with the rule broken several do."""
    answers = [SuspectAnswer("Go:", _speak(tokenizer, 60, seed=0))] * 30
    plans = [_plan(key=SecretKey(np.random.default_rng(i).bytes(32))) for i in range(30)]

    def guilty() -> int:
        found = (assess_answers(plan, tokenizer, answers).finding for plan in plans)
        return sum(finding.verdict.value == "signal" for finding in found)

    assert guilty() == 0
    monkeypatch.setattr(answer_pairs, "group_rows", lambda rows: (np.arange(len(rows)),))
    assert guilty() >= 3


def test_an_innocent_that_copies_a_marked_prompt_is_accused_only_where_it_is_withheld(
    tokenizer: TextTokenizer,
) -> None:
    marked = _speak(tokenizer, 150, seed=5, key=KEY, tilt=3.0)
    known = assess_answers(_plan(), tokenizer, [SuspectAnswer(f"Repeat:{marked}", marked)])
    assert known.finding.verdict.value == "inconclusive"
    assert known.finding.n_scored == 0
    withheld = assess_answers(_plan(), tokenizer, [SuspectAnswer("Repeat:", marked)])
    assert withheld.finding.verdict.value == "signal"


def _outcome(log10_p: float, n_scored: int, decoys: DecoyResult | None = None) -> Outcome:
    plan, tail = _plan(), Tail(log10_p, log10_p, "exact")
    verdict, warnings = settle(plan, tail, decoys, n_scored)
    found = Finding(plan, 1.0, n_scored, tail, decoys, verdict, None, warnings)
    return Outcome(found, 2 * n_scored, {})


def test_the_best_rank_among_the_default_decoys_fires() -> None:
    """Its p-value is 0.001 itself: a bound that leaves 0.001 out could never be reached."""
    for at_least, fires in ((0, True), (1, False)):
        decoys = DecoyResult(999, at_least, 0, 0.0, 1.0)
        assert Control("twin", "clean twin", _outcome(-2.9, 10_000, decoys)).fires is fires


def test_a_control_that_scored_nothing_is_no_control() -> None:
    empty = Control("twin", "clean twin", _outcome(0.0, 0))
    quiet = Control("base", "base", _outcome(-0.3, 10_000))
    alone = conclude("student", "text", _outcome(-12, 10_000), [empty], 9).to_dict()["warnings"]
    assert "twin (clean twin) scored nothing" in alone[0]
    assert "No control model was tested" in alone[1]
    both = conclude("student", "text", _outcome(-12, 10_000), [empty, quiet], 9).to_dict()
    assert len(both["warnings"]) == 1
    assert both["verdict"] == "signal"


def test_a_control_that_fires_leaves_no_negative_verdict_either() -> None:
    quiet, guilty = (Control("base", "base", _outcome(p, 10**6)) for p in (-0.3, -9))
    verdicts = [
        conclude("suspect", "text", _outcome(-0.3, 10**6), [control], 9).to_dict()["verdict"]
        for control in (quiet, guilty)
    ]
    assert verdicts == ["no_signal", "inconclusive"]
