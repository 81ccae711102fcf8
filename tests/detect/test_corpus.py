"""Corpora: copies count once, documents are corrected, ids and text mix."""

from __future__ import annotations

import numpy as np
import pytest

from detect.corpus import DocumentResult, scan_corpus
from detect.documents import Document
from detect.multiplicity import holm
from detect.results import Verdict
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.engine_settings import engine_config
from watermark.errors import DocumentError
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")


def _document(name: str, ids: np.ndarray) -> Document:
    return Document(name, name, None, tuple(ids.tolist()))


def test_marked_documents_are_found_among_plain_ones(tokenizer: TextTokenizer) -> None:
    def ids(key: SecretKey | None, seed: int) -> np.ndarray:
        return marked_ids(CONFIG, key, 90, vocabulary=tokenizer.vocab_size, seed=seed)

    documents = [_document(f"plain {i}", ids(None, i)) for i in range(20)]
    documents += [_document(f"marked {i}", ids(KEY, 100 + i)) for i in range(5)]
    result = scan_corpus(documents, tokenizer=tokenizer, config=CONFIG, key=KEY, n_decoys=99)
    payload = result.to_dict()
    found = [d["id"] for d in payload["documents"] if d["verdict"] == "signal"]
    assert found == [f"marked {i}" for i in range(5)]
    assert payload["n_significant"] == 5
    assert payload["verdict"] == "signal"
    assert payload["n_tokens"] == 25 * 90


def test_a_thousand_copies_count_as_one(tokenizer: TextTokenizer) -> None:
    """Broken, the pool of copies would multiply one lucky text's statistic by a thousand."""
    text = marked_ids(CONFIG, None, 60, vocabulary=tokenizer.vocab_size, seed=5)
    once = scan_corpus([_document("a", text)], tokenizer=tokenizer, config=CONFIG, key=KEY)
    copies = [_document(str(i), text) for i in range(1000)]
    many = scan_corpus(copies, tokenizer=tokenizer, config=CONFIG, key=KEY)
    assert many.finding.tail == once.finding.tail
    assert many.finding.n_scored == once.finding.n_scored
    assert many.reasons["pair_in_earlier_document"] == 999 * once.finding.n_scored


def test_an_empty_corpus_is_inconclusive(tokenizer: TextTokenizer) -> None:
    result = scan_corpus([], tokenizer=tokenizer, config=CONFIG, key=KEY, n_decoys=9).to_dict()
    assert result["verdict"] == "inconclusive"
    assert result["p_value"] == 1.0
    assert result["documents"] == []


def test_a_foreign_id_names_its_document(tokenizer: TextTokenizer) -> None:
    bad = Document("x", "corpus.jsonl, line 3", None, (10**6,))
    with pytest.raises(DocumentError, match=r"corpus\.jsonl, line 3"):
        scan_corpus([bad], tokenizer=tokenizer, config=CONFIG, key=KEY)


def test_holm_steps_down() -> None:
    # R 4.3: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") = 0.03 0.06 0.06 0.02
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert 10 ** holm(np.log10(p)) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([-0.01, 0.0])).tolist() == [0.0, 0.0]
    assert holm(np.array([-np.inf, -3.0]))[0] == -np.inf


def test_a_documents_verdict_pays_for_all_documents(tokenizer: TextTokenizer) -> None:
    """At a level between a document's own p-value and its adjusted one, nothing is found."""
    marked = marked_ids(CONFIG, KEY, 40, vocabulary=tokenizer.vocab_size, seed=100)
    plain = [
        _document(str(i), marked_ids(CONFIG, None, 40, vocabulary=tokenizer.vocab_size, seed=i))
        for i in range(9)
    ]
    corpus = [*plain, _document("marked", marked)]

    def last(alpha: float) -> DocumentResult:
        result = scan_corpus(corpus, tokenizer=tokenizer, config=CONFIG, key=KEY, alpha=alpha)
        return result.documents[-1]

    own = last(1e-6).log10_p
    assert own < -4
    assert last(1e-6).log10_p_holm == pytest.approx(own + 1)
    assert last(10 ** (own + 0.5)).verdict != Verdict.SIGNAL
    assert last(10 ** (own + 1.1)).verdict == Verdict.SIGNAL


def test_a_document_without_a_test_of_its_own_is_inconclusive(tokenizer: TextTokenizer) -> None:
    """Decoys are drawn for the pool alone: of a document "no signal" would be said unlooked."""
    config = engine_config("textseal", {})
    ids = np.random.default_rng(0).integers(0, tokenizer.vocab_size, 2_000)
    document = _document("a", ids)
    result = scan_corpus([document], tokenizer=tokenizer, config=config, key=KEY, n_decoys=99)
    assert result.documents[0].n_scored > result.finding.plan.n_powered
    assert result.documents[0].verdict is Verdict.INCONCLUSIVE
