"""How much of a corpus is marked: copies, order, repetition, and references that are none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from detect.documents import Document
from detect.fraction.estimate import FractionResult, assess_fraction
from detect.fraction.interval import FractionInterval
from detect.scoring.scores import score_pairs, select_pairs
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig, preset
from watermark.contexts import first_occurrences
from watermark.errors import ConfigError, DocumentError
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")

Assess = Callable[..., FractionResult]


def _documents(
    n: int, key: SecretKey | None, seed: int, *, vocabulary: int = 380
) -> list[Document]:
    rows = [marked_ids(CONFIG, key, 60, vocabulary=vocabulary, seed=seed + i) for i in range(n)]
    return [Document(str(seed + i), "here", None, tuple(r.tolist())) for i, r in enumerate(rows)]


MARKED, PLAIN, REFERENCE = (
    _documents(20, KEY, 100),
    _documents(60, None, 200),
    _documents(30, KEY, 300),
)


@pytest.fixture
def assess(tokenizer: TextTokenizer) -> Assess:
    def run(
        corpus: list[Document], reference: list[Document] = REFERENCE, **options: object
    ) -> FractionResult:
        settings = {"tokenizer": tokenizer, "config": CONFIG, "key": KEY, **options}
        return assess_fraction(corpus, reference, **settings)  # type: ignore[arg-type]

    return run


def _share(result: FractionResult) -> FractionInterval:
    assert result.interval is not None
    return result.interval


def test_a_quarter_is_a_quarter(assess: Assess) -> None:
    result = assess(PLAIN + MARKED, n_decoys=99)
    share, payload = _share(result), result.to_dict()
    assert share.low < 0.25 < share.high
    assert share.high - share.low < 0.15
    assert payload["verdict"] == "signal"
    assert payload["decoys"]["n_at_least"] == 0
    assert payload["fraction"]["estimate"] == share.estimate
    assert payload["reference"]["n_documents"] == 30
    assert payload["higher_criticism"]["log10_p"] < -6
    assert payload["n_documents"] == payload["n_documents_scored"] == 80
    assert payload["n_scored"] + sum(payload["reasons"].values()) == payload["n_tokens"]


def test_unmarked_text_has_no_share_and_no_signal(assess: Assess) -> None:
    result = assess(PLAIN)
    assert _share(result).low < 0 < _share(result).high
    assert result.to_dict()["verdict"] != "signal"
    assert result.sparse is not None
    assert result.sparse.log10_p > -3


def test_an_interval_above_0_is_no_verdict(assess: Assess) -> None:
    """One marked document among many: an interval above 0, and a p-value far above alpha."""
    result = assess(PLAIN[:30] + MARKED[:1], alpha=1e-12, level=0.5)
    assert _share(result).low > 0
    assert result.to_dict()["verdict"] == "inconclusive"


def test_copies_count_once(assess: Assess) -> None:
    once, copied = assess(PLAIN + MARKED), assess(PLAIN + MARKED * 5)
    assert copied.finding.n_scored == once.finding.n_scored
    assert copied.n_units < copied.n_documents == 160
    assert abs(_share(copied).estimate - _share(once).estimate) < 0.02
    assert copied.reasons["context_in_other_document"] > 4 * 20 * 50


def test_sorting_the_corpus_moves_nothing(assess: Assess) -> None:
    """Met in text order, contexts that both parts share would all go to the part in front.

    Half of the contexts are repeats; in text order the estimates would be 0.65 and 0.37.
    """
    marked, plain, reference = (
        _documents(n, key, seed, vocabulary=50)
        for n, key, seed in ((25, KEY, 500), (25, None, 600), (15, KEY, 700))
    )
    front, back = assess(marked + plain, reference), assess(plain + marked, reference)
    assert front.finding.n_scored == back.finding.n_scored < 0.6 * 50 * 58
    for result in (front, back):
        assert abs(_share(result).estimate - 0.5) < 0.08


def test_a_corpus_that_repeats_itself_stays_whole(assess: Assess, tokenizer: TextTokenizer) -> None:
    """Broken (each distinct pair once), a marked corpus of few contexts looks half marked."""
    corpus = _documents(60, KEY, 1000, vocabulary=12)
    reference = _documents(6, KEY, 2000, vocabulary=12)
    result = assess(corpus, reference, score="own")
    assert _share(result).low < 1 < _share(result).high
    chosen = [
        select_pairs(
            np.array(d.token_ids), 2, special_ids=tokenizer.special_ids, drop_repeated_contexts=True
        )
        for d in corpus
    ]
    pairs = np.concatenate([np.column_stack([s.contexts, s.tokens]) for s in chosen])
    scores = np.concatenate([score_pairs(s, CONFIG, Prf.from_key(KEY)) for s in chosen])
    by_pairs = (scores[first_occurrences(pairs)].mean() - 1) / result.strength.mean
    assert by_pairs < 0.7 < _share(result).estimate


def test_the_reference_does_not_choose_what_is_scored(assess: Assess) -> None:
    """Broken (pairs of the marked reference left out), innocent text would look less than clean."""
    one, two = assess(PLAIN), assess(PLAIN, MARKED)
    assert one.finding.tail == two.finding.tail


def test_an_empty_corpus_is_inconclusive(assess: Assess) -> None:
    for corpus in ([], [Document("short", "here", None, (5, 6))]):
        payload = assess(corpus).to_dict()
        assert payload["verdict"] == "inconclusive"
        assert payload["fraction"] is None
        assert payload["higher_criticism"] is None


def test_one_document_has_a_share_and_no_higher_criticism(assess: Assess) -> None:
    result = assess(MARKED[:1])
    assert _share(result).estimate > 0.5
    assert result.sparse is None


def test_an_unmarked_reference_is_refused(assess: Assess) -> None:
    for reference in (PLAIN, []):
        with pytest.raises(DocumentError, match="do not carry the mark"):
            assess(MARKED, reference)


def test_a_config_without_context_is_refused(assess: Assess) -> None:
    config: WatermarkConfig = preset("unigram")
    with pytest.raises(ConfigError, match="context width of at least 1"):
        assess(MARKED, config=config)
