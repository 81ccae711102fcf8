"""Marked segments: windows by definition, valid everywhere, found where they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, kstest

from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from detect.segments.edges import _segmentation, estimate_segments
from detect.segments.localisation import find_segments, locate_text
from detect.segments.windows import Pairs, assess_windows, place_pairs
from detect.tails.nulls import log_tails, tail
from detect.text import assess_tokens
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig, preset
from watermark.errors import FingerprintError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits, ScoreLaw, Tabulated
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
LAWS = [
    Exponential(),
    Bernoulli(0.25),
    LayeredBits((1, 2)),
    choose_scorer(None, preset("default").scheme, "direct").law,
]
# Of marked scores, so that each law's are about as strong.
TILTS = [0.5, 1.6, 0.8, 1.0]
WORDS = [f"w{i:03d}" for i in range(400)]


@pytest.fixture(scope="session")
def word_tokenizer() -> TextTokenizer:
    """One word, one token: decoding and encoding again changes nothing."""
    return TextTokenizer(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": {"type": "Whitespace"},
                "model": {
                    "type": "WordLevel",
                    "vocab": {word: i for i, word in enumerate(WORDS)},
                    "unk_token": WORDS[0],
                },
            }
        )
    )


def scored_pairs(
    ids: NDArray[np.int64], config: WatermarkConfig, key: SecretKey, special: Iterable[int] = ()
) -> Pairs:
    selection = select_pairs(
        ids, config.context_width, special_ids=special, drop_repeated_contexts=False
    )
    scores = score_pairs(selection, config, Prf.from_key(key))
    return place_pairs(selection, scores, config.context_width)


def plain_pairs(scores: NDArray[np.float64]) -> Pairs:
    """One pair a token, none repeated."""
    at = np.arange(len(scores))
    return Pairs(at, np.full(len(scores), -1), at, scores)


def draw(law: ScoreLaw, rng: np.random.Generator, n: int, tilt: float = 0.0) -> NDArray[np.float64]:
    """Draw scores of a law, exponentially tilted."""
    match law:
        case Exponential():
            return rng.exponential(1 / (1 - tilt), n)
        case Bernoulli(p):
            odds = p / (1 - p) * math.exp(tilt)
            return (rng.random(n) < odds / (1 + odds)).astype(float)
        case LayeredBits(weights):
            total = np.zeros(n)
            for w in weights:
                total += w * (rng.random(n) < 1 / (1 + math.exp(-w * tilt)))
            return total
        case Tabulated(step, values, probabilities):
            tilted = probabilities * np.exp(tilt * step * values)
            drawn: NDArray[np.int64] = rng.choice(values, n, p=tilted / tilted.sum())
            return step * drawn.astype(float)
        case _:
            raise AssertionError


def with_segments(
    law: ScoreLaw, rng: np.random.Generator, n: int, segments: list[tuple[int, int]], tilt: float
) -> Pairs:
    scores = draw(law, rng, n)
    for start, end in segments:
        scores[start:end] = draw(law, rng, end - start, tilt)
    return plain_pairs(scores)


def counted_by_definition(ids: NDArray[np.int64], h: int, start: int, end: int) -> list[int]:
    """The two rules, token by token."""
    pair = {t: (*ids[t - h : t].tolist(), int(ids[t])) for t in range(h, len(ids))}
    outside = {pair[t] for t in pair if not start <= t < end}
    met, counted = set(), []
    for t in range(max(start, h), end):
        # With no context the pair itself may not come twice.
        seen = pair[t][:-1] if h else pair[t]
        if seen not in met and pair[t] not in outside:
            counted.append(t)
        met.add(seen)
    return counted


@pytest.mark.parametrize("h", [0, 1, 2])
def test_every_window_counts_what_the_two_rules_say(h: int) -> None:
    rng = np.random.default_rng(h)
    ids = rng.integers(0, 9 if h == 2 else 40, 150)
    selection = select_pairs(ids, h, drop_repeated_contexts=False)
    by_token = rng.integers(0, 100, len(ids)).astype(float)
    scores = by_token[selection.reasons == 0]
    table = assess_windows(place_pairs(selection, scores, h), len(ids), Exponential())
    assert (len(table.start), int(table.n_scored[-1])) > (30, 20)
    for start, end, n, s in zip(
        table.start.tolist(), table.end.tolist(), table.n_scored, table.statistic, strict=True
    ):
        counted = counted_by_definition(ids, h, start, end)
        assert n == len(counted)
        assert s == pytest.approx(by_token[counted].sum(), abs=1e-9)


def test_pairs_within_an_interval_are_those_of_its_window() -> None:
    ids = np.random.default_rng(3).integers(0, 9, 150)
    pairs = scored_pairs(ids, preset("default"), KEY)
    for start, end in [(0, 150), (17, 80), (100, 150), (60, 60)]:
        at = pairs.positions[pairs.within(start, end)].tolist()
        assert at == counted_by_definition(ids, 2, start, end)


@pytest.mark.parametrize("name", ["default", "tracer", "unigram"])
def test_the_whole_document_is_the_test_of_one_text(name: str, tokenizer: TextTokenizer) -> None:
    config = preset(name)
    ids = marked_ids(config, KEY, 200, vocabulary=60, seed=1)
    pairs = scored_pairs(ids, config, KEY, tokenizer.special_ids)
    table = assess_windows(pairs, len(ids), config.scheme.law)
    finding = assess_tokens(ids, tokenizer=tokenizer, config=config, key=KEY, score="own").finding
    assert table.n_scored[-1] == finding.n_scored
    assert table.statistic[-1] == pytest.approx(finding.statistic)
    assert table.log10_p[-1] == pytest.approx(finding.tail.log10_p)


@pytest.mark.parametrize("n_tokens", [0, 1, 5, 32, 33, 1000, 12_345])
def test_the_level_is_spent_once_and_every_token_is_searched(n_tokens: int) -> None:
    table = assess_windows(plain_pairs(np.full(n_tokens, 30.0)), n_tokens, Exponential())
    # Scores so high that no corrected p is cut at 1: their difference is the price.
    shares = 10.0 ** (table.log10_p - table.log10_corrected)
    if n_tokens:
        assert shares.sum() == pytest.approx(1)
    assert (table.start[-1], table.end[-1]) == (0, n_tokens)
    for share in np.unique(shares.round(12)):
        same = shares.round(12) == share
        covered = np.zeros(n_tokens, bool)
        for start, end in zip(table.start[same], table.end[same], strict=True):
            covered[start:end] = True
        assert covered.all()
    assert len(table.start) <= n_tokens / 2 + 40


def test_some_window_is_close_to_any_interval() -> None:
    """A marked segment of length l keeps most of its evidence, z ~ overlap / sqrt(length)."""
    n, rng = 5000, np.random.default_rng(0)
    table = assess_windows(plain_pairs(np.zeros(n)), n, Exponential())
    for _ in range(300):
        length = int(rng.integers(50, 4000))
        start = int(rng.integers(0, n - length))
        overlap = np.minimum(table.end, start + length) - np.maximum(table.start, start)
        efficiency = overlap / np.sqrt(length * (table.end - table.start))
        assert efficiency.max() > 0.84


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_short_document_is_one_window_and_its_p_is_exact(law: ScoreLaw) -> None:
    rng = np.random.default_rng(7)
    ps = []
    for _ in range(1000 if isinstance(law, Exponential) else 30):
        scores = draw(law, rng, 30)
        table = assess_windows(plain_pairs(scores), 30, law)
        exact = tail(law, float(scores.sum()), 30).log10_p
        assert table.log10_global == pytest.approx(exact, rel=1e-9)
        ps.append(10**table.log10_global)
    if isinstance(law, Exponential):
        assert kstest(ps, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("law", LAWS[:3], ids=lambda law: type(law).__name__)
def test_unmarked_documents_are_accused_at_most_at_the_nominal_rate(law: ScoreLaw) -> None:
    rng, runs = np.random.default_rng(11), 150 if isinstance(law, LayeredBits) else 1200
    log10_ps = np.array(
        [
            assess_windows(plain_pairs(draw(law, rng, 257)), 257, law).log10_global
            for _ in range(runs)
        ]
    )
    for alpha in (0.3, 0.1, 0.01):
        hits = int((log10_ps <= math.log10(alpha)).sum())
        assert binom.sf(hits - 1, runs, alpha) > 1e-6
    # A p-value that never speaks would pass too.
    assert (log10_ps <= math.log10(0.3)).mean() > 0.05


def _marked_chain(
    words: NDArray[np.uint32], chances: NDArray[np.float64], n: int, rng: np.random.Generator
) -> list[int]:
    """One response of a bigram model under Gumbel-max; a context met again is drawn at random."""
    keyed = -np.log((words + 0.5) / 2.0**32) / chances
    token = int(rng.integers(len(chances)))
    met, out = set(), [token]
    while len(out) < n:
        fresh = token not in met
        met.add(token)
        token = int(keyed[token].argmin() if fresh else rng.choice(len(chances), p=chances[token]))
        out.append(token)
    return out


def _echo(
    marked: list[int], chances: NDArray[np.float64], n: int, rng: np.random.Generator
) -> list[int]:
    """An innocent writer who has read the marked text, and half of the time follows its phrases."""
    followers: dict[int, list[int]] = {}
    for context, token in pairwise(marked):
        followers.setdefault(context, []).append(token)
    out = [0]
    while len(out) < n:
        phrases = followers.get(out[-1])
        out.append(
            int(rng.choice(phrases))
            if phrases and rng.random() < 0.5
            else int(rng.choice(len(chances), p=chances[out[-1]]))
        )
    return out


def test_an_innocent_passage_that_echoes_marked_text_is_not_accused() -> None:
    """Rule 2. Without it every phrase that it shares with the marked text counts against it."""
    config, vocabulary, n, runs = WatermarkConfig(preset("gumbel").scheme, 1), 80, 500, 60
    rng = np.random.default_rng(5)
    accused = {"kept": 0, "broken": 0}
    for run in range(runs):
        key = SecretKey(run.to_bytes(32, "big"))
        prf = Prf.from_key(key)
        hashes = prf.context_hashes(np.arange(vocabulary)[:, None])
        words = prf.words(hashes, np.tile(np.arange(vocabulary), (vocabulary, 1)))
        chances = rng.dirichlet(np.ones(vocabulary), vocabulary)
        marked = [t for _ in range(n // 50) for t in _marked_chain(words, chances, 50, rng)]
        ids = np.array(_echo(marked, chances, n, rng) + marked)
        pairs = scored_pairs(ids, config, key)
        for rule, tried in (("kept", pairs), ("broken", replace(pairs, last=pairs.positions))):
            table = assess_windows(tried, len(ids), config.scheme.law)
            best = table.log10_corrected[table.end <= n].min()
            accused[rule] += int(best <= math.log10(0.05))
    assert binom.sf(accused["kept"] - 1, runs, 0.05) > 1e-6
    assert accused["broken"] > runs / 2


def test_a_marked_part_keeps_its_pairs_among_parts_with_the_same_contexts() -> None:
    """Rule 1: by the document's first occurrences most of the part would not be scored."""
    config = preset("tracer")
    rng = np.random.default_rng(2)
    part = marked_ids(config, KEY, 250, vocabulary=200, seed=2)
    before, after = rng.integers(0, 200, 2000), rng.integers(0, 200, 2000)
    ids = np.concatenate([before, part, after])
    pairs = scored_pairs(ids, config, KEY)
    first_in_document = (pairs.previous < 0) & (pairs.positions >= 2000) & (pairs.positions < 2250)
    table = assess_windows(pairs, len(ids), config.scheme.law)
    (segment,) = find_segments(pairs, table, config.scheme.law, alpha=1e-6)
    assert first_in_document.sum() < 5
    assert segment.n_scored > 100
    assert segment.log10_corrected < -15
    assert abs(segment.start - 2000) + abs(segment.end - 2250) < 60


@pytest.mark.parametrize(
    ("law", "tilt"),
    list(zip(LAWS, TILTS, strict=True)),
    ids=["exponential", "bits", "layers", "table"],
)
@pytest.mark.parametrize(
    "places",
    [[(2000, 2400)], [(300, 600), (2100, 2400), (3500, 3900)], [(1000, 1300), (1500, 1800)]],
    ids=["one", "three", "near"],
)
def test_segments_are_found_where_they_are(
    law: ScoreLaw, tilt: float, places: list[tuple[int, int]]
) -> None:
    pairs = with_segments(law, np.random.default_rng(1), 4000, places, tilt)
    table = assess_windows(pairs, 4000, law)
    segments = find_segments(pairs, table, law, alpha=1e-4)
    assert len(segments) == len(places)
    for segment, (start, end) in zip(segments, places, strict=True):
        assert abs(segment.start - start) + abs(segment.end - end) < 60
        assert segment.log10_corrected <= -4
        assert min(segment.window_end, end) > max(segment.window_start, start)
    spans = [(min(s.start, s.window_start), max(s.end, s.window_end)) for s in segments]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_two_parts_that_are_significant_together_only_stay_one_claim() -> None:
    scores = np.ones(3000)
    scores[1000:1040] = scores[1120:1160] = 2.2
    pairs = plain_pairs(scores)
    table = assess_windows(pairs, 3000, Exponential())
    together = int(np.argmin(table.log10_corrected))
    alpha = 10 ** (table.log10_corrected[together] + 1e-9)
    (segment,) = find_segments(pairs, table, Exponential(), alpha=alpha)
    assert segment.window_start == table.start[together]


def test_many_fragments_are_told_apart_although_most_of_the_document_is_unmarked() -> None:
    """The whole document is the best window; its own mean is a tenth of a fragment's excess."""
    places = [(start, start + 300) for start in range(0, 60_000, 3000)]
    pairs = with_segments(Exponential(), np.random.default_rng(3), 60_000, places, 0.5)
    table = assess_windows(pairs, 60_000, Exponential())
    segments = find_segments(pairs, table, Exponential(), alpha=1e-4)
    assert len(segments) == len(places)
    assert all(abs(s.start - p[0]) < 60 for s, p in zip(segments, places, strict=True))


def test_a_text_that_is_marked_throughout_is_one_segment() -> None:
    pairs = with_segments(Exponential(), np.random.default_rng(4), 5000, [(0, 5000)], 0.2)
    table = assess_windows(pairs, 5000, Exponential())
    (segment,) = find_segments(pairs, table, Exponential(), alpha=1e-6)
    assert segment.end - segment.start > 4700


def test_nothing_is_estimated_where_there_is_too_little() -> None:
    """No pairs at all, or none above the mean: the window stands for itself."""
    for scores in (np.empty(0), np.full(100, 0.5)):
        pairs = plain_pairs(scores)
        assert estimate_segments(pairs, Exponential(), (20, 60), (0, 100), n_tokens=100) == []


def test_every_score_at_its_largest_is_a_segment_within_reach() -> None:
    pairs = plain_pairs(np.ones(100))
    found = estimate_segments(pairs, Bernoulli(0.5), (20, 60), (0, 90), n_tokens=100)
    assert found == [(0, 80)]


@pytest.mark.parametrize("least", [1.0, 3.0])
def test_the_segmentation_is_the_best_of_all(least: float) -> None:
    """Against dynamic programming over every choice of disjoint intervals."""
    rng = np.random.default_rng(int(least))
    for _ in range(200):
        gains = rng.normal(0, 1, int(rng.integers(1, 60)))
        outside, inside = 0.0, -math.inf
        for gain in gains.tolist():
            inside = max(inside, outside - least) + gain
            outside = max(outside, inside)
        value, intervals = _segmentation(gains, least)
        assert value == pytest.approx(outside, abs=1e-9)
        own = sum(float(gains[i:j].sum()) - least for i, j in intervals)
        assert own == pytest.approx(value, abs=1e-9)
        assert all(before[1] <= after[0] for before, after in pairwise(intervals))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_a_window_has_its_exact_tail_or_a_bound_that_cannot_matter(law: ScoreLaw) -> None:
    tilt = TILTS[LAWS.index(law)]
    pairs = with_segments(law, np.random.default_rng(9), 1500, [(600, 680)], tilt)
    table = assess_windows(pairs, 1500, law)
    exact = log_tails(law, table.statistic, table.n_scored) / math.log(10)
    assert (table.log10_p >= exact - 1e-9).all()
    # Scores so high that no corrected p is cut at 1 show the price of each window.
    paid = assess_windows(plain_pairs(np.full(1500, 30.0)), 1500, Exponential())
    matters = exact + paid.log10_corrected - paid.log10_p < 0
    assert 0 < matters.sum() < len(matters) / 2
    np.testing.assert_allclose(table.log10_p[matters], exact[matters], rtol=1e-9)


@pytest.mark.parametrize("text", ["", "w001", "w001 w002 w003"])
def test_next_to_nothing_is_inconclusive(text: str, word_tokenizer: TextTokenizer) -> None:
    payload = locate_text(
        text, tokenizer=word_tokenizer, config=preset("default"), key=KEY
    ).to_dict()
    assert payload["verdict"] == "inconclusive"
    assert payload["segments"] == []
    assert payload["n_tokens"] == payload["n_scored"] + sum(payload["reasons"].values())


def test_a_text_is_searched_and_places_are_given_in_characters(
    word_tokenizer: TextTokenizer,
) -> None:
    config = preset("default").bound_to(word_tokenizer.fingerprint)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 400, 3000)
    ids[1200:1500] = marked_ids(config, KEY, 300, vocabulary=400, seed=4)
    text = "  ".join(WORDS[i] for i in ids)
    result = locate_text(text, tokenizer=word_tokenizer, config=config, key=KEY)
    payload = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert payload["verdict"] == "signal"
    (segment,) = payload["segments"]
    assert segment["log10_p"] == payload["log10_p"] < -20
    assert payload["n_windows"] == len(result.table.start)
    start, end = segment["estimate"]["tokens"]
    assert abs(start - 1200) + abs(end - 1500) < 40
    cut = text[slice(*segment["estimate"]["characters"])]
    assert cut.split() == [WORDS[i] for i in ids[start:end]]
    assert bytes(range(32)).hex() not in json.dumps(payload)
    other = locate_text(text, tokenizer=word_tokenizer, config=config, key=SecretKey(bytes(32)))
    assert (other.verdict.value, other.segments) == ("no_signal", ())


def test_another_tokenizer_is_refused(word_tokenizer: TextTokenizer) -> None:
    bound = preset("default").bound_to("sha256:" + "0" * 64)
    with pytest.raises(FingerprintError, match="provider's tokenizer"):
        locate_text("w001", tokenizer=word_tokenizer, config=bound, key=KEY)
