"""Inherited signal: students are found, innocents are not, and broken rules are refused."""

from __future__ import annotations

import numpy as np
import pytest

from detect import finding
from detect.decoys import DecoyResult
from detect.finding import Finding, Plan, settle
from detect.results import Tail
from detect.suspect import answer_pairs, inheritance
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.inheritance import Outcome, assess_answers, assess_reading
from detect.suspect.probe import Control, conclude
from detect.suspect.reading import read_pairs
from detect.tails.weighted import weighted_tail
from tests.detect.synthetic import ToyReader, marked_ids
from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.errors import FingerprintError, ResultError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")


def _plan(config: WatermarkConfig = CONFIG, key: SecretKey = KEY, n_decoys: int = 0) -> Plan:
    return Plan(config, key, 1e-6, 0.1, n_decoys, 0)


def _texts(n: int, key: SecretKey | None = None) -> list[ReadingText]:
    rows = [marked_ids(CONFIG, key, 40, vocabulary=60, seed=50 + i) for i in range(n)]
    return [ReadingText((2, 3, 4), tuple(r.tolist())) for r in rows]


TEXTS = _texts(12)


@pytest.fixture(scope="module")
def known_ids(tokenizer: TextTokenizer) -> TextTokenizer:
    # Ids 0 and 1 are special in the test tokenizer; the toy readers' 60 ids are all known.
    assert tokenizer.vocab_size > 60
    return tokenizer


@pytest.mark.parametrize("name", ["default", "gumbel", "red-green", "tournament"])
def test_a_tilted_student_is_found_by_weights(known_ids: TextTokenizer, name: str) -> None:
    config = preset(name)
    student = ToyReader(config, seed=1, key=KEY, tilt=0.25)
    base = ToyReader(config, seed=1)
    tested = assess_reading(_plan(config, n_decoys=199), known_ids, student, base, TEXTS)
    assert tested.finding.tail.log10_p_ceiling < -6
    assert tested.finding.decoys is not None
    assert tested.finding.decoys.is_best
    alone = assess_reading(_plan(config), known_ids, student, None, TEXTS)
    assert alone.finding.tail.log10_p > tested.finding.tail.log10_p


@pytest.mark.parametrize("name", ["default", "red-green", "tournament"])
@pytest.mark.parametrize("with_reference", [True, False])
def test_innocent_weights_have_uniform_p_values(name: str, with_reference: bool) -> None:
    """150 keys, weights of both signs; Kolmogorov-Smirnov at 1e-6 (2.7 / sqrt(n))."""
    config = preset(name)
    suspect = ToyReader(config, seed=1)
    reference = ToyReader(config, seed=2) if with_reference else None
    pairs = read_pairs(
        suspect, reference, TEXTS[:3], context_width=2, special_ids=frozenset({0, 1})
    )
    rng = np.random.default_rng(0)
    p, ceilings = [], []
    for _ in range(150):
        prf = Prf.from_key(SecretKey(rng.bytes(32)))
        hashes = prf.context_hashes(np.ascontiguousarray(pairs.contexts))
        words = np.stack(
            [prf.words(hashes, pairs.tokens, s) for s in range(config.scheme.n_streams)]
        )
        centred = config.scheme.score(words) - config.scheme.law.mean
        found = weighted_tail(config.scheme.law, pairs.weights, float(pairs.weights @ centred))
        p.append(found.p_value)
        ceilings.append(10**found.log10_p_ceiling)
    ordered = np.sort(p)
    assert np.abs(ordered - np.arange(1, 151) / 150).max() < 2.7 / 150**0.5
    assert (np.array(ceilings) <= 0.05).mean() < 0.05 + 5 * (0.05 / 150) ** 0.5


def test_marked_reading_texts_are_refused_since_they_accuse_the_innocent(
    known_ids: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An innocent reader that favours the very continuations it is shown looks guilty on them."""
    marked = _texts(12, KEY)

    class Agreeing(ToyReader):
        def read(self, texts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for positions in super().read(texts):
                boosted = positions.probabilities.clone()
                ids = list(texts[positions.index].token_ids)
                boosted[range(len(ids)), ids] += 1.0
                yield type(positions)(positions.index, boosted / boosted.sum(1, keepdim=True))

    innocent = Agreeing(CONFIG, seed=1)
    with pytest.raises(ResultError, match="carry the mark themselves"):
        assess_reading(_plan(), known_ids, innocent, None, marked)
    monkeypatch.setattr(inheritance, "_refuse_marked", lambda *arguments: None)
    broken = assess_reading(_plan(), known_ids, innocent, None, marked)
    assert broken.finding.tail.log10_p_ceiling < -6


def test_a_suspect_that_is_its_reference_is_inconclusive(known_ids: TextTokenizer) -> None:
    same = ToyReader(CONFIG, seed=1)
    finding = assess_reading(_plan(n_decoys=9), known_ids, same, same, TEXTS).finding
    assert finding.verdict.value == "inconclusive"
    assert finding.tail.p_value == 1.0
    assert "equals its reference" in finding.warnings[0]


def test_another_vocabulary_is_refused() -> None:
    class Wider(ToyReader):
        def _row(self, prefix, vocabulary=61):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return super()._row(prefix, vocabulary)

    with pytest.raises(FingerprintError, match="60 and 61"):
        read_pairs(
            ToyReader(CONFIG, seed=1),
            Wider(CONFIG, seed=1),
            TEXTS,
            context_width=2,
            special_ids=frozenset(),
        )


def test_weights_of_a_pair_add_up_and_specials_have_none() -> None:
    reader = ToyReader(CONFIG, seed=1)
    once = read_pairs(reader, None, TEXTS[:1], context_width=2, special_ids=frozenset({0, 1}))
    twice = read_pairs(
        reader, None, [TEXTS[0], TEXTS[0]], context_width=2, special_ids=frozenset({0, 1})
    )
    assert np.array_equal(once.tokens, twice.tokens)
    assert np.allclose(2 * once.weights, twice.weights)
    assert not np.isin(once.tokens, [0, 1]).any()
    assert not np.isin(once.contexts, [0, 1]).any()
    pairs = np.column_stack([once.contexts, once.tokens])
    assert len(np.unique(pairs, axis=0)) == len(pairs)


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
    with pytest.raises(FingerprintError):
        assess_reading(bound, tokenizer, ToyReader(CONFIG, seed=1), None, TEXTS)


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
