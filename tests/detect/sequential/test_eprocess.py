"""E-processes: valid however and whenever one looks, and strong enough to be used."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.results import Verdict
from detect.scoring.alternatives import TYPICAL
from detect.scoring.score_tables import score_table
from detect.sequential.calibrators import Calibrator, Known, Spectra, default_calibrator, tilts_for
from detect.sequential.eprocess import EProcess, expected_stop, log_e_path, n_powered
from detect.tails.nulls import log_tails
from tests.detect.synthetic import marked_ids
from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.contexts import windows
from watermark.errors import ResultError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen

KEY = SecretKey(bytes(range(32)))
GUMBEL = default_calibrator(Gumbel())


def _uniform(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 32, shape, np.uint32, False)


def _marked_words(config: WatermarkConfig, n: int, seed: int = 0) -> np.ndarray:
    """Words of marked text of distinct contexts, by the real marking code."""
    ids = marked_ids(config, KEY, n, vocabulary=300, seed=seed)
    h, prf = config.context_width, Prf.from_key(KEY)
    hashes = prf.context_hashes(np.ascontiguousarray(windows(ids, h)))
    return np.stack([prf.words(hashes, ids[h:], s) for s in range(config.scheme.n_streams)])


def _paths(calibrator: Calibrator, words: np.ndarray) -> np.ndarray:
    """ln E after each word, for words of shape (runs, n_streams, n)."""
    return np.stack([log_e_path(calibrator, run) for run in words])


def _crossings(paths: np.ndarray, alpha: float) -> float:
    return float((paths.max(axis=1) >= -math.log(alpha)).mean())


def _slack(alpha: float, runs: int) -> float:
    """5.5 binomial standard errors: false alarms 2e-8."""
    return 5.5 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("name", ["default", "gumbel", "red-green", "tournament"])
def test_looking_after_every_word_is_paid_for(name: str) -> None:
    """H0: P(E ever >= 1 / alpha) <= alpha, 1,200 runs of 150 words, looked at after each."""
    scheme = PRESETS[name].scheme
    paths = _paths(default_calibrator(scheme), _uniform((1200, scheme.n_streams, 150), 1))
    for alpha in (0.5, 0.1, 0.02):
        assert _crossings(paths, alpha) <= alpha + _slack(alpha, len(paths))
    # E has mean 1 at every time: not so small that the test above means nothing.
    assert 0.02 < _crossings(paths, 0.5)


def test_looking_again_and_again_at_a_fixed_sample_p_value_is_not_valid() -> None:
    """What the e-process is for: the exact p-value, looked at after each of 300 words."""
    words = _uniform((600, 1, 300), 2)
    sums = np.cumsum(-np.log((2.0**32 - words[:, 0]) / 2.0**32), axis=1)
    counts = np.arange(1, 301)
    p = np.stack([log_tails(Gumbel().law, run, counts) for run in sums])
    assert (p.min(axis=1) <= math.log(0.02)).mean() > 0.08
    assert _crossings(_paths(GUMBEL, words), 0.02) <= 0.02 + _slack(0.02, 600)


def test_weights_and_choices_may_depend_on_what_was_scored_before() -> None:
    """H0: a bettor who bets all after a loss and skips words after a gain gains nothing."""
    runs, n = 3000, 40
    words, logs = _uniform((runs, 1, n), 3), np.zeros((runs, n))
    calibrator = tilts_for(Gumbel(), (0.5,))
    for i in range(1, n):
        lost = logs[:, i - 1] < 0
        step = calibrator.summaries(words[:, :, i].T, Known(np.where(lost, 1.0, 0.2)))[:, 0]
        gained = words[:, 0, i - 1] > 3 << 30
        logs[:, i] = logs[:, i - 1] + np.where(gained, 0.0, step)
    for alpha in (0.2, 0.05):
        assert _crossings(logs, alpha) <= alpha + _slack(alpha, runs)


def test_a_weight_that_has_seen_its_word_makes_the_innocent_guilty() -> None:
    """The rule broken: words bet on only where they turned out high."""
    words, bets = _uniform((200, 1, 400), 4), tilts_for(Gumbel())
    peeked = [log_e_path(bets, w, Known((w[0] > 1 << 31).astype(float))) for w in words]
    assert _crossings(np.stack(peeked), 1e-6) > 0.9


def test_a_pair_scored_twice_makes_the_innocent_guilty() -> None:
    """The rule broken: the same 30 pairs again and again."""
    words = np.tile(_uniform((400, 1, 30), 5), (1, 1, 30))
    assert _crossings(_paths(GUMBEL, words), 1e-6) > 0.05


@pytest.mark.parametrize("name", PRESETS)
def test_marked_text_is_found_and_the_peak_is_kept(name: str) -> None:
    config = preset(name)
    words = _marked_words(config, 500)
    process = EProcess(default_calibrator(config.scheme)).updated(words)
    assert process.log10_p < -6
    assert process.verdict(1e-6, 0.05) is Verdict.SIGNAL
    after = process.updated(_uniform((config.scheme.n_streams, 2000), 6))
    assert after.log10_e < process.log10_e
    assert after.log10_p <= process.log10_p
    assert after.verdict(1e-6, 0.05) is Verdict.SIGNAL


@given(st.lists(st.integers(0, 60), max_size=4), st.booleans())
@settings(deadline=None, max_examples=25)
def test_how_words_are_cut_into_answers_changes_nothing(cuts: list[int], weighted: bool) -> None:
    words = _uniform((2, 60), 8)
    weights = np.random.default_rng(9).uniform(size=60) if weighted else None
    calibrator = default_calibrator(PRESETS["default"].scheme)
    whole = EProcess(calibrator).updated(words, Known(weights))
    process, start = EProcess(calibrator), 0
    for end in [*sorted(cuts), 60]:
        part = weights[start:end] if weights is not None else None
        process, start = process.updated(words[:, start:end], Known(part)), end
    assert process.n_scored == whole.n_scored == 60
    assert process.totals == pytest.approx(whole.totals, abs=1e-9)
    assert process.log_peak == pytest.approx(whole.log_peak, abs=1e-9)
    path = log_e_path(calibrator, words, Known(weights))
    assert whole.log_peak == pytest.approx(max(path.max(), 0.0), abs=1e-12)
    assert whole.log_e == pytest.approx(path[-1], abs=1e-12)


def test_long_shards_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from detect.sequential import eprocess

    words = _uniform((1, 100), 10)
    weights = np.linspace(0, 1, 100)
    whole = EProcess(GUMBEL).updated(words, Known(weights))
    monkeypatch.setattr(eprocess, "_ROWS", 7)
    pieces = EProcess(GUMBEL).updated(words, Known(weights))
    assert pieces.totals == pytest.approx(whole.totals)
    assert pieces.log_peak == pytest.approx(whole.log_peak)


def test_the_mixture_loses_at_most_the_logarithm_of_its_size() -> None:
    """By construction; against the best tilt of the continuum it loses little more."""
    scheme = Gumbel()
    calibrator = tilts_for(scheme)
    for effect in (0.02, 0.06, 0.25, 0.7, 2.0):
        n = math.ceil(40 / effect**2)
        scores = (1 + effect) * np.random.default_rng(11).exponential(size=n)
        words = (2.0**32 * -np.expm1(-scores)).astype(np.uint64).clip(0, (1 << 32) - 1)
        words = words.astype(np.uint32)[None]
        process = EProcess(calibrator).updated(words)
        assert process.log_e >= max(process.totals) - math.log(calibrator.n_totals)
        total = float(scheme.score(words).sum())
        best = 1 - n / total
        attained = best * total + n * math.log1p(-best)
        # ln 10 = 2.3 for the size; a grid of ratio 2 costs at most 1/9 more, 5 % here.
        assert attained - process.log_e < 2.3 + 0.12 * attained


def test_stopping_time_of_a_weak_tilt_is_the_first_order_one() -> None:
    """Effect 0.25 sd, alpha 1e-6: mean stop within 2 ln(1/alpha)/eps^2 times (1, 1.6)."""
    effect, alpha, runs = 0.25, 1e-6, 200
    scores = (1 + effect) * np.random.default_rng(12).exponential(size=(runs, 1500))
    calibrator = tilts_for(Gumbel())
    t = np.array(calibrator.tilts)
    logs = t * np.cumsum(scores, axis=1)[..., None] + np.arange(1, 1501)[:, None] * np.log1p(-t)
    crossed = calibrator.log_e(logs, np.arange(1, 1501)) >= -math.log(alpha)
    assert crossed.any(axis=1).mean() > 0.98
    stops = np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1, 1500)
    assert 1.0 < stops.mean() / expected_stop(effect, alpha) < 1.6
    assert (stops <= n_powered(effect, alpha)).mean() > 0.85


def test_state_goes_through_json_and_goes_on() -> None:
    words = _uniform((1, 80), 13)
    half = EProcess(GUMBEL).updated(words[:, :40])
    restored = EProcess.restored(GUMBEL, json.loads(json.dumps(half.to_dict(), allow_nan=False)))
    assert restored == half
    assert restored.updated(words[:, 40:]) == half.updated(words[:, 40:])
    fresh = EProcess(GUMBEL)
    assert EProcess.restored(GUMBEL, fresh.to_dict()) == fresh


@pytest.mark.parametrize(
    "damage",
    [
        {"totals": [1.0]},
        {"totals": "x"},
        {"log_e": 3.0},
        {"log_peak": -9.0},
        {"n_scored": 0},
        {"log_peak": math.inf},
    ],
)
def test_a_damaged_state_is_refused(damage: dict[str, object]) -> None:
    payload = EProcess(GUMBEL).updated(_uniform((1, 80), 13)).to_dict()
    with pytest.raises(ResultError, match="start a new one"):
        EProcess.restored(GUMBEL, payload | damage)
    with pytest.raises(ResultError, match="damaged"):
        EProcess.restored(GUMBEL, [])
    with pytest.raises(ResultError, match="other bets"):
        EProcess.restored(tilts_for(RedGreen()), payload)


def test_nothing_scored_is_inconclusive_and_e_is_one() -> None:
    nothing = EProcess(GUMBEL).updated(np.empty((1, 0), np.uint32))
    assert (nothing.log10_e, nothing.log10_p, nothing.n_scored) == (0.0, 0.0, 0)
    assert nothing.verdict(1e-6, 0.05) is Verdict.INCONCLUSIVE
    assert nothing.value().log10_e == 0.0
    assert len(log_e_path(GUMBEL, np.empty((1, 0), np.uint32))) == 0


def test_enough_words_without_a_signal_are_a_negative() -> None:
    n = n_powered(0.3, 1e-6)
    process = EProcess(GUMBEL).updated(_uniform((1, n), 14))
    assert process.verdict(1e-6, 0.3) is Verdict.NO_SIGNAL
    assert process.verdict(1e-6, 0.1) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("listed", [[0.5, 1.1], [-0.1, 1.0], [1.0] * 3, [math.nan, 1.0]])
def test_weights_that_are_no_part_of_a_bet_are_refused(listed: list[float]) -> None:
    weights = np.array(listed)
    with pytest.raises(ValueError, match="weight"):
        EProcess(GUMBEL).updated(_uniform((1, 2), 15), Known(weights))
    with pytest.raises(ValueError, match="numbers"):
        EProcess(GUMBEL).updated(_uniform((1, 1), 15), Known(None, np.array([np.nan])))


def test_no_single_word_ruins_a_bet_for_good() -> None:
    """Word 0 has u = 0: text that was edited must still be found."""
    for bets in (Spectra(0.0, (0.1, 0.9)), GUMBEL):
        first = log_e_path(bets, np.zeros((1, 1), np.uint32))
        assert -4 < first[0] < 0


def test_any_score_with_a_law_can_be_tilted() -> None:
    """A table of scores: found on marked text, and worth 1 on the mean under the null."""
    table = score_table(Gumbel(), TYPICAL, marked_share=0.5)
    bets = tilts_for(table)
    marked = _marked_words(preset("gumbel"), 200)
    assert EProcess(bets).updated(marked).log10_p < -6
    # Every cell of 2^12 words once; within a cell the table is all but constant.
    cells = np.arange(1 << 20, dtype=np.uint32)[None] << np.uint32(12)
    for weights in (None, np.full(1 << 20, 0.3)):
        means = np.exp(bets.summaries(cells, Known(weights))).mean(axis=0)
        assert means == pytest.approx(1.0, abs=1e-3)
