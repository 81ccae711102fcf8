"""Inherited signal in distributions: students are found, innocents not, broken rules refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from detect.finding import Plan
from detect.suspect import distributions
from detect.suspect.distributions import assess_pairs, assess_reading
from detect.suspect.exchanges import Positions, ReadingText
from detect.suspect.probe import Control, conclude
from detect.suspect.reading import PairWeights, read_pairs
from detect.tails.weighted import weighted_tail
from tests.detect.synthetic import ToyReader, marked_ids
from watermark.config import WatermarkConfig, preset
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
    monkeypatch.setattr(distributions, "refuse_marked", lambda *arguments: None)
    broken = assess_reading(_plan(), known_ids, innocent, None, marked)
    assert broken.finding.tail.log10_p_ceiling < -6


def test_a_suspect_that_is_its_reference_is_inconclusive(known_ids: TextTokenizer) -> None:
    same = ToyReader(CONFIG, seed=1)
    finding = assess_reading(_plan(n_decoys=9), known_ids, same, same, TEXTS).finding
    assert finding.verdict.value == "inconclusive"
    assert finding.tail.p_value == 1.0
    assert "equals its reference" in finding.warnings[0]


def test_a_probe_by_weights_says_what_its_pairs_come_from(tokenizer: TextTokenizer) -> None:
    plan = Plan(CONFIG, KEY, 1e-6, 0.1, 0, 0)
    tested = assess_reading(
        plan, tokenizer, ToyReader(CONFIG, seed=1), ToyReader(CONFIG, seed=2), TEXTS
    )
    result = conclude("suspect", "weights", tested, [Control("a", "base", tested)], 12).to_dict()
    spread = result["spread"]
    assert spread["n_positions"] + sum(result["reasons"].values()) == result["n_tokens"] == 480
    assert spread["n_contexts"] <= spread["n_positions"]
    assert 1 < spread["n_effective"] < result["n_scored"]
    assert any("unmarked reading texts" in sentence for sentence in result["limits"])


def test_a_negative_verdict_needs_contexts_not_pairs(tokenizer: TextTokenizer) -> None:
    """Hundreds of pairs share one context's evidence: 10,000 pairs of 440 contexts are too few."""
    plan = Plan(CONFIG, KEY, 1e-6, 0.119, 0, 0)
    reader = ToyReader(CONFIG, seed=1)
    finding = assess_reading(plan, tokenizer, reader, None, TEXTS).finding
    assert finding.n_scored > plan.n_powered
    assert finding.verdict.value == "inconclusive"


def test_a_faint_student_is_no_innocent(tokenizer: TextTokenizer) -> None:
    """Merged back into its base, a hundredth of the move: found or not, it is not cleared."""
    texts = [ReadingText((2, 3), t.token_ids) for t in TEXTS] * 1

    class Merged(ToyReader):
        def __init__(self, share: float, key: SecretKey | None) -> None:
            self.base = ToyReader(CONFIG, seed=1)
            self.student, self.share = ToyReader(CONFIG, seed=1, key=key, tilt=1.0), share

        def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
            both = zip(self.student.read(texts), self.base.read(texts), strict=True)
            for mine, clean in both:
                mixed = self.share * mine.probabilities + (1 - self.share) * clean.probabilities
                yield Positions(mine.index, mixed)

    plan, base = Plan(CONFIG, KEY, 1e-6, 0.3, 0, 0), ToyReader(CONFIG, seed=1)
    assert plan.n_powered < 440
    guilty = assess_reading(plan, tokenizer, Merged(0.01, KEY), base, texts).finding
    assert guilty.verdict.value == "signal"
    same = assess_reading(plan, tokenizer, Merged(0.0, KEY), base, texts).finding
    assert same.n_scored == 0
    assert same.verdict.value == "inconclusive"


def test_a_marked_passage_repeated_in_one_text_is_refused(tokenizer: TextTokenizer) -> None:
    """It drowns in the pool, but a model that copies it would be accused: a finding of a review."""
    rng = np.random.default_rng(3)
    passage = marked_ids(CONFIG, KEY, 60, vocabulary=60, seed=8).tolist()
    loop = ReadingText((1,), tuple(passage * 10))
    others = [ReadingText((1,), tuple(rng.integers(2, 400, 300).tolist())) for _ in range(24)]
    plan = Plan(CONFIG, KEY, 1e-6, 0.119, 0, 0)
    reader = ToyReader(CONFIG, seed=1)
    with pytest.raises(ResultError, match="carry the mark themselves"):
        assess_reading(plan, tokenizer, reader, None, [*others, loop])


def test_a_mark_without_context_is_refused_by_weights(tokenizer: TextTokenizer) -> None:
    plan = Plan(preset("unigram"), KEY, 1e-6, 0.119, 0, 0)
    with pytest.raises(ResultError, match="Probe with --access text"):
        assess_reading(
            plan, tokenizer, ToyReader(CONFIG, seed=1), None, [ReadingText((1,), (2, 3, 4, 5))]
        )


@pytest.mark.parametrize(("name", "factor"), [("default", 0.61), ("red-green", 0.14)])
def test_a_suspect_read_alone_is_cleared_by_more_contexts_only(name: str, factor: float) -> None:
    """Without a reference the effect is smaller: so many contexts clear nobody, more do."""
    config = replace(preset(name), context_width=2)
    plan = Plan(config, KEY, 1e-6, 0.9, 0, 0)
    alone = replace(plan, effect=0.9 * factor).n_powered
    assert alone > plan.n_powered
    for n, has_reference, verdict in (
        (plan.n_powered, True, "no_signal"),
        (plan.n_powered, False, "inconclusive"),
        (alone, False, "no_signal"),
    ):
        rows = np.arange(2 * n).reshape(n, 2)
        pairs = PairWeights(
            rows, np.arange(n), np.ones(n), np.full(n, 1e-2), np.full(n, 0.5), n, n, {}, 1.0,
            has_reference,
        )  # fmt: skip
        finding = assess_pairs(plan, pairs)
        assert finding.tail.p_value > 0.01
        assert finding.verdict.value == verdict


def test_one_planted_pair_does_not_clear_a_suspect() -> None:
    """A single pair gained a lot; all else so little that no bet on it tells anything."""
    plan, n = Plan(CONFIG, KEY, 1e-6, 0.9, 0, 0), 2_000
    assert plan.n_powered < n
    gained = np.full(n, 0.01)
    gained[0] = 50.0
    rows, likely = np.arange(2 * n).reshape(n, 2), np.full(n, 1 / 256)
    pairs = PairWeights(rows, np.arange(n), np.ones(n), gained, likely, n, n, {})
    finding = assess_pairs(plan, pairs)
    assert finding.verdict.value == "inconclusive"


def test_a_config_of_another_tokenizer_is_refused(tokenizer: TextTokenizer) -> None:
    bound = _plan(CONFIG.bound_to("sha256:other"))
    with pytest.raises(FingerprintError):
        assess_reading(bound, tokenizer, ToyReader(CONFIG, seed=1), None, TEXTS)
