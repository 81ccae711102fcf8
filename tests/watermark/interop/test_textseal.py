"""TextSeal's hash: frozen draws of its own code, what it confuses, the null and the power."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gamma as gamma_law

from detect.attribution import attribute, prf_keys
from detect.finding import Plan, assess_scores
from detect.results import Verdict
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop.textseal import N_CELLS, TextSealWords, green_cells
from watermark.keys import EngineKey
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.green_list import GreenList, cell_words
from watermark.schemes.gumbel import Gumbel
from watermark.word_sources import Pairs

VECTORS = Path(__file__).parents[2] / "vectors" / "textseal.json"
SETS = json.loads(VECTORS.read_text())["sets"]
CONFIG = WatermarkConfig(Gumbel(), 2, source=TextSealWords())
IDS = st.integers(0, 300_000)


@pytest.mark.parametrize("frozen", SETS, ids=lambda s: f"h={len(s['contexts'][0])}")
@pytest.mark.parametrize("method", ["uniform", "binary"])
def test_cells_are_those_that_textseal_gave(frozen: dict[str, list[int]], method: str) -> None:
    source = TextSealWords(method)
    contexts, tokens = np.array(frozen["contexts"]), np.array(frozen["tokens"])
    scheme = GreenList(n_green=green_cells(0.25), n_cells=N_CELLS)
    rows = zip(frozen["keys"], frozen["cells"], frozen["green"], strict=True)
    for integer, cells, green in rows:
        key = np.array([integer], np.uint64)
        words = source.words(key, source.context_hashes(key, contexts), tokens, 0)
        if method == "binary":
            assert (words == cell_words(np.array(cells), N_CELLS)).all()
            assert scheme.score(words[None]).tolist() == green
        else:
            assert words.tolist() == [(c << 32) // N_CELLS for c in cells]


def test_each_stream_is_a_key_of_its_own() -> None:
    contexts, tokens = np.array([[5, 6]]), np.array([7])
    both, one = TextSealWords(dual_key=True), TextSealWords()
    key = np.array([42, 42 + 12345], np.uint64)
    hashes = both.context_hashes(key, contexts)
    for stream in (0, 1):
        alone = one.context_hashes(key[stream : stream + 1], contexts)
        assert both.words(key, hashes, tokens, stream) == one.words(key, alone, tokens, 0)


@given(a=IDS, b=IDS, token=IDS, key=st.integers(0, 2**64 - 1))
def test_pairs_with_one_sum_are_one_pair(a: int, b: int, token: int, key: int) -> None:
    """A lattice vector of (10000019, 10000247, 100000007): the sum stays, every word stays."""
    # 10000247 * 10000019 = 10000019 * 10000247
    contexts = np.array([[a, b], [a + 10000247, b - 10000019]]) + 10000019
    source = TextSealWords()
    pairs = source.canonical(Pairs(contexts, np.array([token, token])))
    assert (pairs.contexts[0] == pairs.contexts[1]).all()
    integers = np.array([key], np.uint64)
    words = source.words(
        integers, source.context_hashes(integers, contexts), np.array([token, token]), 0
    )
    assert words[0] == words[1]


def test_pairs_of_one_sum_count_once() -> None:
    shift = np.array([10000247, -10000019])
    text = np.concatenate([np.array([20000000, 20000000]), [5], shift + 20000000, [5]])
    selection = select_pairs(text, 2, drop_repeated_contexts=True, source=CONFIG.source)
    assert selection.reason_counts()["repeated_pair"] == 1


@pytest.mark.parametrize(
    ("source", "scheme", "width"),
    [
        (TextSealWords(), DualGumbel(), 2),
        (TextSealWords(dual_key=True), Gumbel(), 2),
        (TextSealWords(), GreenList(n_green=4096, n_cells=N_CELLS), 2),
        (TextSealWords("binary"), GreenList(n_green=1, n_cells=4), 2),
        (TextSealWords("binary"), Gumbel(), 2),
        (TextSealWords(), Gumbel(), 11),
    ],
)
def test_what_textseal_lacks_is_refused(source: TextSealWords, scheme: Scheme, width: int) -> None:
    with pytest.raises(ConfigError, match="textseal"):
        WatermarkConfig(scheme, width, source=source)


@pytest.mark.parametrize("parameters", [("float",), ("binary", True), ("uniform", 1)])
def test_bad_parameters_are_refused(parameters: tuple[str, bool]) -> None:
    with pytest.raises(ConfigError):
        TextSealWords(*parameters)


def test_words_of_gumbel_are_never_above_a_uniform_word_of_their_cell() -> None:
    """With U uniform in [k / 8191, (k + 1) / 8191), floor(2^32 U) is at least the word of k.

    So any score that grows with the word is at most that of a uniform word, and its law bounds it.
    """
    words = TextSealWords()._words(np.arange(2_000_000, dtype=np.uint64))
    assert len(np.unique(words)) == N_CELLS
    cells = np.arange(N_CELLS, dtype=object)
    lowest = np.array([(k << 32) // N_CELLS for k in cells.tolist()])
    assert (np.unique(words) == lowest).all()
    assert (lowest * N_CELLS <= cells << 32).all()
    # The exponential law: P(score >= its value at cell k) = 1 - k / 8191 <= exp(-value).
    scores = Gumbel().score(lowest.astype(np.uint32)[None])
    assert (1 - np.arange(N_CELLS) / N_CELLS <= np.exp(-scores) * (1 + 1e-12)).all()
    for name in ("typical", "minimax", "weak"):
        scorer = choose_scorer(name, Gumbel(), "direct")
        bounds = np.sort(lowest.astype(np.uint32))[None]
        assert (np.diff(scorer.score(bounds)) >= 0).all(), name


def test_p_values_hold_over_keys_for_a_text_that_no_key_made() -> None:
    """H0: text independent of the key. 40,000 keys, 200 pairs of unrelated text.

    40 expected below 1e-3. The words' dependence moves variances by 2 %, these counts by 8 %.
    """
    source, rng = TextSealWords(), np.random.default_rng(3)
    contexts, tokens = rng.integers(0, 49_152, (200, 2)), rng.integers(0, 49_152, 200)
    words = source.words_for_keys(source.fresh_keys(40_000, 4), contexts, np.arange(200), tokens, 1)
    sums = Gumbel().score(words.reshape(1, -1)).reshape(-1, 200).sum(axis=1)
    p_values = gamma_law.sf(sums, 200)
    assert (p_values < 1e-3).sum() < 75
    assert (p_values < 0.1).mean() == pytest.approx(0.1, abs=0.01)


def _marked(key: int, n_tokens: int, n_candidates: int = 16) -> np.ndarray:
    """Text of tokens that are equally likely, the best of each `n_candidates` by its word."""
    source, rng = TextSealWords(), np.random.default_rng(key)
    integers, text = np.array([key], np.uint64), [1, 2]
    for _ in range(n_tokens):
        candidates = rng.integers(0, 49_152, n_candidates)
        hashes = source.context_hashes(integers, np.array([text[-2:]]))
        text.append(int(candidates[source.words(integers, hashes, candidates[None], 0).argmax()]))
    return np.array(text)


def test_a_text_of_another_key_is_not_accused() -> None:
    """What the tail of independent words gets wrong, and decoys do not.

    The text is independent of the key under test, so that p <= 1e-3 should come once in 1,000.
    """
    text = _marked(7, 3000)
    selection = select_pairs(text, 2, drop_repeated_contexts=True, source=CONFIG.source)
    keys = np.random.default_rng(1).integers(0, 1 << 63, 4000, np.uint64)
    words = CONFIG.source.words_for_keys(
        keys[:, None], selection.contexts, np.arange(selection.n_scored), selection.tokens, 1
    )
    scores = Gumbel().score(words.reshape(1, -1)).reshape(len(keys), -1)
    sums, n = scores.sum(axis=1), selection.n_scored
    worst = int(sums.argmax())
    assert (gamma_law.sf(sums, n) < 1e-6).mean() > 1e-3
    plan = Plan(CONFIG, EngineKey([int(keys[worst])]), 1e-4, 0.344, 0, 0)
    found = assess_scores(plan, selection.contexts, selection.tokens, scores[worst])
    assert found.tail.method == "decoys"
    assert found.tail.p_value >= 1 / 10_000
    assert found.tail.p_value > 1000 * gamma_law.sf(sums[worst], n)


def test_what_rests_on_tails_alone_is_refused() -> None:
    selection = select_pairs(_marked(7, 20), 2, drop_repeated_contexts=True, source=CONFIG.source)
    keys = prf_keys([EngineKey([7])], CONFIG.source)
    with pytest.raises(ConfigError, match="depend on each other"):
        attribute(selection, CONFIG.scheme, keys, alpha=1e-6, source=CONFIG.source)


def test_marked_text_is_found_as_far_as_decoys_reach() -> None:
    key = EngineKey([7])
    selection = select_pairs(_marked(7, 200), 2, drop_repeated_contexts=True, source=CONFIG.source)
    scores = score_pairs(selection, CONFIG, CONFIG.source.under(key))
    assert gamma_law.sf(scores.sum(), len(scores)) < 1e-6
    for alpha, verdict in ((1e-3, Verdict.SIGNAL), (1e-6, Verdict.INCONCLUSIVE)):
        plan = Plan(CONFIG, key, alpha, 0.344, 0, 0)
        found = assess_scores(plan, selection.contexts, selection.tokens, scores)
        assert found.verdict == verdict
        assert found.decoys is not None
        assert found.tail.p_value == pytest.approx(1 / (found.decoys.n_decoys + 1))
    assert "ask for 1000000" in found.warnings[0]
