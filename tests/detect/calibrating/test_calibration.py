"""Calibration: pieces and their kinds, uniform p-values, dependence, alarms, the page."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest

from detect.calibrating.calibration import Calibration, calibrate, fresh_statistics, own_statistics
from detect.calibrating.pieces import Piece, Stratum, cut_corpus
from detect.calibrating.trials import run_trials
from detect.documents import Document
from detect.reporting import render_report
from detect.reporting.calibration_page import plot_edf
from detect.reporting.fields import Fields
from detect.reporting.plots import Tick
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs
from detect.tails.nulls import log_tails
from tests.conftest import PARAGRAPH
from tests.detect.synthetic import marked_ids
from watermark.config import PRESETS, preset
from watermark.errors import ConfigError, DocumentError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")


def _document(ids: np.ndarray, name: str = "a") -> Document:
    return Document(name, name, None, tuple(int(i) for i in ids))


def _random_ids(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, 380, n)


def _calibrate(tokenizer: TextTokenizer, ids: np.ndarray, **changes: object) -> Calibration:
    settings = {"n_keys": 20, "length": 60, "config": CONFIG, "key": KEY} | changes
    return calibrate([_document(ids)], tokenizer=tokenizer, **settings)  # type: ignore[arg-type]


# Pieces.


def test_pieces_cover_the_corpus_and_drops_are_counted(tokenizer: TextTokenizer) -> None:
    documents = [_document(_random_ids(150, 1)), _document(_random_ids(10, 2))]
    pieces, dropped = cut_corpus(documents, tokenizer, config=CONFIG, length=60)
    assert [p.selection.n_tokens for p in pieces] == [60, 60, 30]
    assert dropped == {"too_short": 1}


def test_kinds_of_text(tokenizer: TextTokenizer) -> None:
    fresh, other = _random_ids(100, 3), _random_ids(100, 4)
    loop = np.tile(_random_ids(12, 5), 9)[:100]
    template = np.concatenate([fresh[:70], other[:30]])
    documents = [_document(ids) for ids in (fresh, loop, template)]
    pieces, _ = cut_corpus(documents, tokenizer, config=CONFIG, length=100)
    assert [p.stratum for p in pieces] == [Stratum.PLAIN, Stratum.REPETITIVE, Stratum.TEMPLATED]


def test_unusable_corpora_are_refused(tokenizer: TextTokenizer) -> None:
    for ids, length, message in (
        (_random_ids(10, 6), 60, "no piece"),
        (_random_ids(90, 6), 5, "at least 20"),
        (np.array([10**6] * 30), 60, "not in the tokenizer"),
    ):
        with pytest.raises(DocumentError, match=message):
            cut_corpus([_document(ids)], tokenizer, config=CONFIG, length=length)
    with pytest.raises(ConfigError, match="at least one"):
        _calibrate(tokenizer, _random_ids(90, 6), n_keys=0)


# Trials.


def test_trials_count_and_bound_exactly() -> None:
    """Statistics with known p-values: 1/1000, 2/1000, ..., 1."""
    n = 1000
    p = np.arange(1, n + 1) / n
    trials = run_trials(Exponential(), -np.log(p), np.ones(n, np.int64), np.random.default_rng(0))
    assert [(r.alpha, r.hits) for r in trials.rates] == [(0.1, 100), (0.01, 10)]
    # scipy.stats.beta.ppf(0.005, 100, 901), (0.995, 101, 900): Clopper and Pearson
    from scipy.stats import beta

    low, high = beta.ppf(0.005, 100, 901), beta.ppf(0.995, 101, 900)
    assert (trials.rates[0].low, trials.rates[0].high) == pytest.approx((low, high))
    assert trials.uniformity_p > 0.999
    assert trials.exceeded(1e-3) == ()
    assert all(point.low <= point.share <= point.high for point in trials.curve)
    assert [p.share for p in trials.curve[::8]] == pytest.approx([1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("law", [Bernoulli(0.3), LayeredBits((2, 1)), Exponential()])
def test_p_values_of_the_null_are_uniform(law: Bernoulli | LayeredBits | Exponential) -> None:
    """20,000 sums of 12 scores: on a lattice the randomised p-values are exactly uniform.

    Without randomisation the coarse lattices fail the test beyond doubt.
    """
    rng, size = np.random.default_rng(7), (20_000, 12)
    match law:
        case Bernoulli():
            scores = (rng.random(size) < 0.3).astype(float)
        case LayeredBits():
            scores = 2.0 * rng.integers(0, 2, size) + rng.integers(0, 2, size)
        case Exponential():
            scores = rng.exponential(size=size)
    trials = run_trials(law, scores.sum(axis=1), np.full(20_000, 12), rng)
    assert trials.uniformity_p > 1e-4
    assert trials.exceeded(1e-4) == ()


def test_too_many_small_p_values_set_the_alarm_off() -> None:
    rng = np.random.default_rng(8)
    p = np.concatenate([rng.random(2_000), np.full(40, 1e-4)])
    trials = run_trials(Exponential(), -np.log(p), np.ones(len(p), np.int64), rng)
    assert 0.01 in trials.exceeded(1e-3)
    point = next(p for p in trials.curve if p.alpha < 0.0015)
    assert point.share > point.high


# Fresh keys and this key.


def test_fresh_keys_differ_from_piece_to_piece(tokenizer: TextTokenizer) -> None:
    """Broken (one set of keys for all), copies of a text would repeat each other's p-values."""
    piece = cut_corpus([_document(_random_ids(60, 9))], tokenizer, config=CONFIG, length=60)[0][0]
    rows = fresh_statistics(CONFIG.scheme, [piece, piece], n_keys=5, seed=1)
    assert rows.shape == (2, 5)
    assert len(set(rows.reshape(-1).tolist())) == 10
    again = fresh_statistics(CONFIG.scheme, [piece, piece], n_keys=5, seed=1)
    assert (rows == again).all()


def test_under_one_key_a_pair_counts_once_in_the_corpus(tokenizer: TextTokenizer) -> None:
    """Broken, a hundred copies of one lucky piece would look like a hundred small p-values."""
    ids = _random_ids(60, 10)
    pieces, _ = cut_corpus([_document(ids)] * 100, tokenizer, config=CONFIG, length=60)
    sums, counts = own_statistics(CONFIG, pieces, KEY, CONFIG.scheme)
    assert counts[0] == pieces[0].selection.n_scored
    assert counts[1:].sum() == 0
    scores = score_pairs(pieces[0].selection, CONFIG, Prf.from_key(KEY))
    assert sums[0] == pytest.approx(scores.sum())
    result = calibrate(
        [_document(ids)] * 100, tokenizer=tokenizer, config=CONFIG, key=KEY, n_keys=2, length=60
    )
    assert result.own.n == 1
    assert result.n_shared == 99 * counts[0]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_rates_are_nominal_for_every_preset(tokenizer: TextTokenizer, name: str) -> None:
    """8,000 independent trials of real tokens: no level exceeded (false alarm 1e-4)."""
    words = PARAGRAPH.split()
    rng = np.random.default_rng(11)
    text = " ".join(rng.choice(words, 2_400).tolist())
    config = PRESETS[name]
    result = calibrate(
        [Document("a", "a", text)],
        tokenizer=tokenizer,
        config=config,
        key=KEY,
        n_keys=200,
        length=100,
    )
    everything = result.fresh["all"]
    assert everything.n >= 5_000
    assert everything.exceeded(1e-4) == ()
    assert everything.uniformity_p > 1e-4
    assert result.warnings == ()


def test_marked_text_is_not_quiet_under_its_key(tokenizer: TextTokenizer) -> None:
    ids = marked_ids(CONFIG, KEY, 300, vocabulary=tokenizer.vocab_size, seed=1)
    marked = _calibrate(tokenizer, ids)
    assert marked.own_log10_p < -20
    assert any("not quiet" in warning for warning in marked.warnings)
    # Fresh keys know nothing of the mark.
    assert marked.fresh["all"].exceeded(1e-4) == ()
    other = _calibrate(tokenizer, ids, key=SecretKey(bytes(32)))
    assert other.warnings == ()


def test_the_pooled_p_value_is_that_of_all_distinct_pairs(tokenizer: TextTokenizer) -> None:
    result = _calibrate(tokenizer, _random_ids(300, 12))
    scorer = choose_scorer(None, CONFIG.scheme, "direct")
    pieces: list[Piece] = cut_corpus(
        [_document(_random_ids(300, 12))], tokenizer, config=CONFIG, length=60
    )[0]
    sums, counts = own_statistics(CONFIG, pieces, KEY, scorer)
    exact = log_tails(scorer.law, np.array([sums.sum()]), np.array([counts.sum()]))[0]
    assert result.own_log10_p == pytest.approx(exact / math.log(10), abs=1e-6)


# Result and page.


def test_the_result_is_json_and_warns_of_choosing(tokenizer: TextTokenizer) -> None:
    payload = json.loads(
        json.dumps(_calibrate(tokenizer, _random_ids(400, 13)).to_dict(), allow_nan=False)
    )
    assert payload["kind"] == "calibration"
    own = payload["this_key"]
    assert 300 < own["n_pooled"] + own["n_shared"] <= 400 - 2 * 7
    assert any("before that key is committed" in sentence for sentence in payload["limits"])
    assert payload["fresh_keys"]["all"]["n"] == 20 * sum(payload["n_pieces"].values())


class _Balance(HTMLParser):
    """Fails on unbalanced tags and on anything that loads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def test_the_page_stands_alone(tokenizer: TextTokenizer) -> None:
    result = _calibrate(tokenizer, _random_ids(400, 14))
    page = render_report(result.to_dict())
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    assert result.key_id in page
    assert page.count("<polygon") == 2
    assert page == render_report(result.to_dict())


def test_the_plot_places_the_diagonal_on_the_diagonal() -> None:
    p = np.arange(1, 1001) / 1000
    trials = run_trials(
        Exponential(), -np.log(p), np.ones(1000, np.int64), np.random.default_rng(0)
    )
    plot = plot_edf(Fields(trials.to_dict()), ())
    points = [tuple(map(float, point.split(","))) for point in plot.line.split()]
    assert all(x + y == pytest.approx(100, abs=9) for x, y in points)
    assert points[0] == (100.0, 0.0)
    assert plot.ticks[0] == Tick(100.0, 0)
    assert plot.ticks[-1] == Tick(0.0, -3)
