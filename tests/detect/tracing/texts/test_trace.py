"""Who wrote it: the right accounts, all of them, never an innocent one, and what silence means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from detect.attribution import attribute
from detect.decoys import decoy_keys
from detect.documents import Document
from detect.results import Verdict
from detect.scanning.parts import DAMAGED
from detect.scanning.results import LeftOut
from detect.scoring.scores import select_pairs
from detect.tails.nulls import tail
from detect.tracing.named_keys import derived_keys
from detect.tracing.texts import search as searching
from detect.tracing.texts.families import Account, KeyFamily, family_of
from detect.tracing.texts.passage_draws import log_p_values
from detect.tracing.texts.passages import log_ratios, passage_table
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.reading import TokenizedDocument
from detect.tracing.texts.results import TraceResult
from detect.tracing.texts.shares import measure_reference
from detect.tracing.texts.trace import trace_text
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import ConfigError, DocumentError
from watermark.interop import make_source
from watermark.keyring.labels import KeyLabels
from watermark.keyring.listed_keys import ListedKey, Revocation
from watermark.keys import SecretKey
from watermark.prf import NATIVE
from watermark.tokens import TextTokenizer
from watermark.word_sources import Pairs

MASTER = SecretKey(bytes(range(32)))
CONFIG = preset("default")
LABELS = [KeyLabels(account=f"account-{i}") for i in range(200)]
FAMILY = family_of(derived_keys(MASTER, LABELS), NATIVE)
Ids = NDArray[np.int64]


class Held:
    """Documents that are in memory."""

    left_out, files_not_read, size = LeftOut({}, ()), (), 0

    def __init__(self, documents: Sequence[Ids]) -> None:
        self._documents = documents

    def batches(self, tokenizer: TextTokenizer) -> Iterator[tuple[list[TokenizedDocument], int]]:
        for number, ids in enumerate(self._documents):
            yield [TokenizedDocument(str(number), f"here, line {number}", ids)], 1


def _written(account: int | None, n: int, seed: int, vocabulary: int = 380) -> Ids:
    key = None if account is None else LABELS[account].key_from(MASTER)
    return marked_ids(CONFIG, key, n, vocabulary=vocabulary, seed=seed)


Trace = Callable[..., TraceResult]


@pytest.fixture
def trace(tokenizer: TextTokenizer) -> Trace:
    def run(documents: Sequence[Ids], *, family: KeyFamily = FAMILY, **options: object):  # type: ignore[no-untyped-def]  # noqa: ANN202
        fixed = {k: options.pop(k) for k in ("prompt", "reference") if k in options}
        plan = TracePlan(CONFIG, family, **options)  # type: ignore[arg-type]
        return trace_text(Held(documents), plan=plan, tokenizer=tokenizer, **fixed)  # type: ignore[arg-type]

    return run


def _named(result: TraceResult) -> list[str]:
    return [row.account.name for row in result.named]


def test_one_document_is_the_search_of_attribute(trace: Trace) -> None:
    ids = _written(17, 90, 1)
    result = trace([ids], n_decoys=19, with_passages=False)
    selection = select_pairs(ids, 2, special_ids=(0, 1), drop_repeated_contexts=True)
    plan = TracePlan(CONFIG, FAMILY)
    single = attribute(selection, plan.scorer, FAMILY.integers, alpha=1e-6)
    assert [key.index for key in single.named] == [17]
    assert _named(result) == ["account-17"]
    best = result.ranking[0]
    assert (best.log10_p, best.log10_p_adjusted) == (
        single.best.log10_p, single.best.log10_p_adjusted
    )  # fmt: skip
    assert result.tail.log10_p == single.best.log10_p_adjusted
    assert (result.n_searches, result.verdict) == (1, Verdict.SIGNAL)
    row = result.documents[0]
    assert (row.log10_p_adjusted, row.verdict) == (best.log10_p_adjusted, Verdict.SIGNAL)
    assert (row.best, row.named) == (best.account, (best.account,))
    assert len(result.ranking) == 10
    payload = result.to_dict()
    assert payload["key_id"] == LABELS[17].key_from(MASTER).key_id
    assert payload["ranking"][0]["labels"] == {"account": "account-17"}
    assert payload["decoys"]["rank"] == 1
    assert payload["p_value"] == pytest.approx(10 ** payload["log10_p"])


def test_a_corpus_pays_for_pool_and_documents(trace: Trace) -> None:
    documents = [_written(account, 60, 10 + i) for i, account in enumerate([3, None, 5, 3, None])]
    result = trace(documents)
    assert sorted(_named(result)) == ["account-3", "account-5"]
    assert [[a.name for a in row.named] for row in result.documents] == [
        ["account-3"], [], ["account-5"], ["account-3"], [],
    ]  # fmt: skip
    assert (result.n_searches, result.n_documents_named) == (2, 3)
    for row in result.documents:
        paid = row.log10_p + math.log10(2 * 200 * 5)
        assert row.log10_p_adjusted == pytest.approx(min(paid, 0.0))
    first = result.ranking[0]
    assert first.log10_p_adjusted == pytest.approx(first.log10_p + math.log10(2 * 200))
    assert {row.account.name: row.n_documents for row in result.named} == {
        "account-3": 2, "account-5": 1,
    }  # fmt: skip


def test_many_short_documents_speak_together(trace: Trace) -> None:
    result = trace([_written(9, 5, 300 + i) for i in range(20)])
    assert _named(result) == ["account-9"]
    assert result.n_documents_named == 0
    assert result.verdict == Verdict.SIGNAL


def test_copies_count_once_in_the_pool(trace: Trace) -> None:
    """A thousandfold copy of a document that says little still says little."""
    ids = _written(9, 7, 3)
    once, often = trace([ids]), trace([ids] * 50)
    assert often.n_scored == once.n_scored
    assert often.deduplication.n_pairs == 50 * once.n_scored
    assert often.ranking[0].statistic == once.ranking[0].statistic
    assert often.reasons["pair_in_earlier_document"] == 49 * once.n_scored
    assert _named(often) == []


def test_blocks_change_nothing(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [_written([None, 3, 4][i % 3], 40, i, vocabulary=30) for i in range(9)]
    whole = trace(documents, alpha=0.01)
    for pairs, number in ((1, 100), (50, 100), (1 << 16, 2)):
        monkeypatch.setattr(searching, "_BLOCK_PAIRS", pairs)
        monkeypatch.setattr(searching, "_BLOCK_DOCUMENTS", number)
        assert trace(documents, alpha=0.01).to_dict() == whole.to_dict()


def test_of_very_many_documents_the_strongest_are_listed(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [_written(3 if i in (4, 7, 8) else None, 60, i) for i in range(12)]
    every = trace(documents).documents
    assert len(every) == 12
    monkeypatch.setattr(searching, "MAX_LISTED", 2)
    result = trace(documents)
    strongest = sorted(every, key=lambda row: row.log10_p)[:2]
    assert {row.id for row in strongest} < {"4", "7", "8"}
    assert result.documents == tuple(row for row in every if row in strongest)
    assert (result.n_documents, result.n_documents_named) == (12, 3)


def test_several_accounts_in_one_document_are_all_named(trace: Trace) -> None:
    """Each signs for itself; no innocent one is drawn in."""
    parts = [_written(account, 110, 20 + account) for account in (2, 50, 120)]
    mixed = np.concatenate([piece for i in range(0, 110, 22) for piece in
                            (part[i : i + 22] for part in parts)])  # fmt: skip
    rng = np.random.default_rng(0)
    edited = np.where(rng.random(len(mixed)) < 0.1, rng.integers(2, 380, len(mixed)), mixed)
    for text in (mixed, edited):
        result = trace([text], n_decoys=19)
        assert sorted(_named(result)) == ["account-120", "account-2", "account-50"]
        assert len(result.documents[0].named) == 3


def test_pieces_are_documents_of_their_own_and_are_paid_for(trace: Trace) -> None:
    """A passage that a long document dilutes is found in its piece."""
    ids = np.concatenate([_written(None, 800, 31), _written(8, 40, 32), _written(None, 360, 33)])
    whole = trace([ids], with_passages=False)
    cut = trace([ids], piece_tokens=100, with_passages=False)
    assert _named(whole) == []
    assert _named(cut) == ["account-8"]
    assert [row.id for row in cut.documents if row.named] == ["0 [800:900]"]
    assert cut.documents[8].source == "here, line 0, tokens 800 to 900"
    assert (cut.n_documents, cut.n_searches, cut.n_tokens) == (12, 2, 1200)
    # The same pairs, whether or not the document is cut.
    assert (cut.n_scored, cut.reasons) == (whole.n_scored, whole.reasons)
    assert sum(row.n_scored for row in cut.documents) == whole.n_scored
    row = cut.documents[8]
    assert row.log10_p_adjusted == pytest.approx(row.log10_p + math.log10(2 * 200 * 12))
    with pytest.raises(ValueError, match="at least one token"):
        trace([ids], piece_tokens=0)


def test_a_passage_is_found_in_a_document_left_whole(trace: Trace) -> None:
    """Fails without passages; both looks are paid for."""
    ids = np.concatenate([_written(None, 800, 31), _written(8, 40, 32), _written(None, 360, 33)])
    # At a level so low that the draws decide; far below a level Markov's bound is enough.
    result = trace([ids], alpha=1e-17)
    assert _named(result) == ["account-8"]
    (row,) = result.documents
    assert (row.by_passages, result.to_dict()["documents"][0]["by_passages"]) == (True, True)
    selection = select_pairs(ids, 2, special_ids=(0, 1), drop_repeated_contexts=True)
    table, pairs = passage_table(CONFIG.scheme), Pairs(selection.contexts, selection.tokens)
    assert table is not None
    ratios = log_ratios(table, FAMILY.integers[8:9], pairs)
    p = log_p_values(table, ratios, len(pairs.tokens))[0] / math.log(10)
    assert p < -ratios[0] / math.log(10) - 1
    assert row.log10_p == pytest.approx(math.log10(4) + p)
    assert row.log10_p_adjusted == pytest.approx(math.log10(4 * 200) + p)
    (deep,) = trace([ids]).documents
    assert deep.log10_p == pytest.approx(math.log10(4) - ratios[0] / math.log(10))
    (named,) = result.named
    assert (named.n_documents, named.log10_p_documents) == (1, row.log10_p_adjusted)
    assert (result.tail.log10_p, result.tail.method) == (row.log10_p_adjusted, "bound")


def test_the_sum_of_a_single_document_pays_for_passages(trace: Trace) -> None:
    """Or pool and document together would spend more than alpha."""
    ids = _written(17, 90, 1)
    alone, both = trace([ids], with_passages=False), trace([ids])
    paid = math.log10(4 / 3)
    assert both.ranking[0].log10_p == alone.ranking[0].log10_p
    assert both.ranking[0].log10_p_adjusted == pytest.approx(
        alone.ranking[0].log10_p_adjusted + paid
    )
    assert not both.documents[0].by_passages
    assert both.tail.log10_p == pytest.approx(alone.tail.log10_p + paid)
    assert both.tail.method == alone.tail.method != "bound"
    # Of several documents the pool has a level of its own.
    two = [ids, _written(None, 40, 2)]
    pools = [trace(two, with_passages=w).ranking[0].log10_p_adjusted for w in (False, True)]
    assert pools[0] == pools[1]


def test_schemes_without_a_likelihood_are_searched_by_sums_alone(tokenizer: TextTokenizer) -> None:
    plan = TracePlan(preset("red-green"), FAMILY)
    assert (plan.passages, plan.sum_cost) == (None, 0.0)
    result = trace_text(Held([_written(None, 60, 1)]), plan=plan, tokenizer=tokenizer)
    assert not result.with_passages
    best = result.ranking[0]
    assert best.log10_p_adjusted == pytest.approx(min(best.log10_p + math.log10(200), 0.0))


@pytest.mark.parametrize("guilty", [None, 7])
def test_passages_of_innocent_keys_are_named_no_more_often_than_alpha(
    trace: Trace, guilty: int | None
) -> None:
    """All keys but the guilty one, over a long text that it wrote in part; alpha is 0.2.

    Fails without the factor of the keys; the count is too large with 1e-6 only.
    """
    text = np.concatenate([_written(None, 60, 1), _written(guilty, 60, 2), _written(None, 60, 3)])
    accounts = [Account(str(i), str(i)) for i in range(20)]
    families = (KeyFamily(accounts, decoy_keys(20, 900 + seed)) for seed in range(100))
    hits = sum(bool(trace([text], family=family, alpha=0.2).named) for family in families)
    assert hits <= binom.ppf(1 - 1e-6, 100, 0.2)


def _null_search(trace: Trace, ids: Ids, n_keys: int, seed: int) -> TraceResult:
    accounts = [Account(str(i), str(i)) for i in range(n_keys)]
    return trace([ids], family=KeyFamily(accounts, decoy_keys(n_keys, seed)), alpha=0.05)


@pytest.mark.parametrize("guilty", [None, 7])
def test_innocent_keys_are_named_no_more_often_than_alpha(trace: Trace, guilty: int | None) -> None:
    """The best of 40 fresh keys, paid for, over unmarked text and text of somebody else.

    Fails without the factor of the keys, and if marked text were special for innocent keys. The
    counts lie in bands that binomials leave with 1e-6 each.
    """
    texts, n = [_written(guilty, 30, 500 + i) for i in range(2)], 200
    found = [_null_search(trace, texts[seed % 2], 40, seed) for seed in range(n)]
    adjusted = np.array([result.tail.log10_p for result in found])
    for alpha in (0.5, 0.2, 0.05):
        hits = int((adjusted <= math.log10(alpha)).sum())
        # Bonferroni: 1 - (1 - a/K)^K, a little below a.
        low, high = binom.ppf([1e-6, 1 - 1e-6], n, 1 - (1 - alpha / 40) ** 40)
        assert low <= hits <= high, (alpha, hits)
        named = sum(bool(result.named) for result in found)
    assert named == int((adjusted <= math.log10(0.05)).sum())


def test_a_corpus_of_innocent_documents_is_paid_for_too(trace: Trace) -> None:
    """Fails without the factor of the documents or that of looking at both, and with twice it."""
    n_keys, n_documents, n, alpha = 10, 8, 200, 0.9
    documents = [_written(None, 12, 700 + i) for i in range(n_documents)]
    accounts = [Account(str(i), str(i)) for i in range(n_keys)]
    families = (KeyFamily(accounts, decoy_keys(n_keys, seed)) for seed in range(n))
    hits = sum(bool(trace(documents, family=f, alpha=alpha).named) for f in families)

    def expected(paid: float) -> float:
        """Of documents and pool, each of which Bonferroni's bound leaves alpha / paid."""
        quiet = (1 - alpha / paid / n_keys) ** n_keys
        quiet *= (1 - alpha / paid / n_keys / n_documents) ** (n_keys * n_documents)
        return float(1 - quiet)

    # One document of eight has little to do with the pool: they are nearly independent. 0.6.
    low, high = binom.ppf([1e-4, 1 - 1e-4], n, [0.95 * expected(2), expected(2)])
    assert low <= hits <= high
    # The band tells: neither no factor (0.84) nor twice the factor (0.36) lies in it.
    assert high < binom.ppf(0.05, n, 0.95 * expected(1))
    assert low > binom.ppf(0.95, n, expected(4))


def test_what_the_prompt_shows_is_not_scored(trace: Trace, tokenizer: TextTokenizer) -> None:
    """An answer that quotes the account's earlier answer from its prompt is not its work."""
    quoted = "The harbour was quiet when the first boat came in, line by line, and smiled."
    ids = tokenizer.encode(quoted)
    assert trace([ids]).n_scored > 10
    result = trace([ids], prompt=quoted)
    assert (result.n_scored, result.verdict) == (0, Verdict.INCONCLUSIVE)
    assert result.reasons["context_in_prompt"] > 10


def test_silence_means_something_only_where_documents_are_long_enough(trace: Trace) -> None:
    short, long = _written(None, 30, 1), _written(None, 900, 2)
    assert trace([short]).verdict == Verdict.INCONCLUSIVE
    result = trace([long])
    assert result.n_scored >= result.n_powered
    assert result.verdict == Verdict.NO_SIGNAL
    # A pool of short documents may have many writers.
    pool = trace([_written(None, 30, 100 + i) for i in range(60)])
    assert pool.n_scored > pool.n_powered
    assert pool.verdict == Verdict.INCONCLUSIVE


def test_nothing_to_score_names_nobody(trace: Trace) -> None:
    for documents in ([], [np.empty(0, np.int64)], [np.array([5, 6])] * 3):
        result = trace(documents, n_decoys=19)
        payload = result.to_dict()
        assert (payload["verdict"], payload["key_id"]) == ("inconclusive", None)
        assert (payload["log10_p"], payload["method"], payload["named"]) == (0.0, "none", [])
        assert payload["ranking"] == []
        assert payload["decoys"] is None
        assert payload["n_documents"] == len(documents)


def test_decoys_win(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    """If fresh keys fit as well, words are not independent, and nobody is named."""
    from detect.tracing.texts import control

    family = family_of(derived_keys(MASTER, LABELS[:1]), NATIVE)

    def same(n: int, seed: int) -> NDArray[np.uint64]:
        return np.repeat(family.integers, n, axis=0)

    monkeypatch.setattr(control, "_LEAST_PAIRS", 40)
    ids = _written(0, 90, 1)
    assert _named(trace([ids], family=family, n_decoys=99)) == ["account-0"]
    monkeypatch.setattr(type(NATIVE), "fresh_keys", lambda self, n, seed: same(n, seed))
    result = trace([ids], family=family, n_decoys=99)
    assert result.named == ()
    assert result.verdict == Verdict.INCONCLUSIVE
    assert result.documents[0].named == ()
    assert "Nobody is named" in result.warnings[0]
    assert result.control is not None
    assert result.control.decoys.n_at_least == 99


def test_the_control_is_exact_for_the_best_of_many_keys(trace: Trace) -> None:
    """Its rank is uniform where no key of the family is in the text."""
    ids = _written(4, 30, 8)
    accounts = [Account(str(i), str(i)) for i in range(20)]
    ranks = []
    for seed in range(100):
        family = KeyFamily(accounts, decoy_keys(20, 10_000 + seed))
        control = trace([ids], family=family, n_decoys=9, seed=seed).control
        assert control is not None
        ranks.append(control.decoys.n_at_least)
    low, high = binom.ppf([1e-6, 1 - 1e-6], 100, 0.1)
    assert low <= ranks.count(0) <= high


def test_names_without_a_control_are_said_to_have_none(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detect.tracing.texts import control

    text = [_written(3, 60, 40)]
    assert trace(text, n_decoys=-1).warnings == ()
    monkeypatch.setattr(control, "_BUDGET_WORDS", 100)
    result = trace(text, n_decoys=-1)
    assert (_named(result), result.control) == (["account-3"], None)
    assert "no control" in result.warnings[0]
    # Asked for none; or nobody is named.
    assert trace(text, n_decoys=0).warnings == ()
    assert trace([_written(None, 60, 40)], n_decoys=-1).warnings == ()


@pytest.mark.parametrize(
    ("reasons", "verdict"),
    [
        ({}, Verdict.NO_SIGNAL),
        ({"not_json": 2}, Verdict.NO_SIGNAL),
        ({"not_json": 2, "no_text_and_no_ids": 1}, Verdict.INCONCLUSIVE),
        ({DAMAGED: 1}, Verdict.INCONCLUSIVE),
    ],
)
@pytest.mark.parametrize("piece", [None, 800])
def test_silence_says_nothing_of_what_was_not_read(
    trace: Trace,
    monkeypatch: pytest.MonkeyPatch,
    reasons: dict[str, int],
    verdict: Verdict,
    piece: int | None,
) -> None:
    """Documents count, not their pieces."""
    monkeypatch.setattr(Held, "left_out", LeftOut(reasons, ()))
    result = trace([_written(None, 1600, i) for i in (2, 3)], piece_tokens=piece)
    assert result.verdict == verdict
    assert ("could not be read" in " ".join(result.warnings)) is (verdict != Verdict.NO_SIGNAL)
    assert trace([_written(3, 60, 40)]).verdict == Verdict.SIGNAL


def test_long_input_is_controlled_on_a_sample(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detect.tracing.texts import control

    monkeypatch.setattr(control, "_BUDGET_WORDS", 19 * 200 * 2 * 300)
    monkeypatch.setattr(control, "_LEAST_PAIRS", 10)
    found = trace([_written(3, 60, 40 + i) for i in range(10)], n_decoys=-1).control
    assert found is not None
    assert (found.decoys.n_decoys, found.n_sampled) == (19, 300)
    # The sample's own p-value is what its rank is held against.
    assert -430 < found.log10_p_adjusted < -370


def test_a_control_is_as_large_as_its_cost_allows() -> None:
    from detect.tracing.texts.control import affordable_families

    assert affordable_families(100, 10, 1, 1.0) == 999
    assert affordable_families(300, 25_000, 2, 1.0) == 200
    assert affordable_families(1_000_000, 25_000, 2, 1.0) == 19
    assert affordable_families(300, 25_000, 1, 1000.0) == 0


def test_tails_are_exact_also_where_a_document_names_everybody() -> None:
    scorer = TracePlan(CONFIG, FAMILY).scorer
    statistics = np.arange(300, dtype=np.float64) * scorer.law.step * 3  # type: ignore[attr-defined]
    top, logs = searching.best_tails(scorer.law, statistics, 50, 0.0)
    assert top.tolist() == list(range(299, -1, -1))
    for place, log in zip(top[::40].tolist(), logs[::40].tolist(), strict=True):
        assert log == pytest.approx(tail(scorer.law, float(statistics[place]), 50).log10_p)
    few, _ = searching.best_tails(scorer.law, statistics, 50, -1000.0)
    assert few.tolist() == list(range(299, 283, -1))


def _reference(n: int, account: int = 150) -> list[Document]:
    rows = [_written(account, 60, 900 + i) for i in range(n)]
    return [Document(str(i), "reference", None, tuple(r.tolist())) for i, r in enumerate(rows)]


def test_shares_of_a_mixed_corpus(trace: Trace, tokenizer: TextTokenizer) -> None:
    writers = [1] * 12 + [2] * 6 + [3] * 3 + [None] * 9
    documents = [_written(account, 40, 2000 + i) for i, account in enumerate(writers)]
    plan = TracePlan(CONFIG, FAMILY)
    key = LABELS[150].key_from(MASTER)
    reference = measure_reference(_reference(12), key, tokenizer, plan, level=0.9999)
    result = trace(documents, reference=reference)
    shares = result.shares
    assert shares is not None
    assert [share.account.name for share in shares.accounts] == [
        "account-1", "account-2", "account-3",
    ]  # fmt: skip
    for share, truth in zip(shares.accounts, (0.4, 0.2, 0.1), strict=True):
        assert share.interval.low < truth < share.interval.high
        assert share.interval.high - share.interval.low < 0.4
    assert shares.rest.low < 0.3 < shares.rest.high
    assert shares.rest.estimate == pytest.approx(
        1 - sum(share.interval.estimate for share in shares.accounts)
    )
    assert any("Shares are estimates" in limit for limit in result.limits)


def test_nobody_named_has_no_share(trace: Trace, tokenizer: TextTokenizer) -> None:
    key = LABELS[150].key_from(MASTER)
    reference = measure_reference(_reference(5), key, tokenizer, TracePlan(CONFIG, FAMILY))
    assert trace([_written(None, 60, 5)], reference=reference).shares is None


def test_bad_references_and_configs(tokenizer: TextTokenizer) -> None:
    plan = TracePlan(CONFIG, FAMILY)
    with pytest.raises(DocumentError, match="do not carry the mark"):
        measure_reference(_reference(5), LABELS[0].key_from(MASTER), tokenizer, plan)
    unigram = TracePlan(preset("unigram"), FAMILY)
    with pytest.raises(ConfigError, match="context width"):
        measure_reference(_reference(5), LABELS[0].key_from(MASTER), tokenizer, unigram)


def test_dependent_words_are_refused(tokenizer: TextTokenizer) -> None:
    from dataclasses import replace

    source = make_source("transformers-synthid", {})
    config = replace(preset("tournament"), source=source, context_width=4)
    family = KeyFamily([Account("a", "a")], source.fresh_keys(1, 1))
    with pytest.raises(ConfigError, match="depend on each other"):
        trace_text(Held([]), plan=TracePlan(config, family), tokenizer=tokenizer)


def _revoked_family(*revoked: int) -> KeyFamily:
    listed = [
        ListedKey(each, "revoked", Revocation("2026-11-20T10:00:00.000000Z", "stolen"))
        if number in revoked
        else ListedKey(each)
        for number, each in enumerate(LABELS)
    ]
    return family_of(derived_keys(MASTER, listed), NATIVE)


def test_a_key_that_others_know_accuses_nobody(trace: Trace) -> None:
    result = trace([_written(3, 90, 1)], family=_revoked_family(3))
    assert result.named == ()
    assert [row.account.name for row in result.named_revoked] == ["account-3"]
    assert result.verdict == Verdict.INCONCLUSIVE
    payload = result.to_dict()
    row = payload["ranking"][0]
    assert row["log10_p_adjusted"] < -20
    assert (row["named"], row["named_revoked"], row["revoked"]) == (False, True, True)
    assert row["revoked_at"] == "2026-11-20T10:00:00.000000Z"
    assert row["revoked_reason"] == "stolen"
    # The p-value, statistic and key at the top are those of somebody whom it could name.
    assert payload["log10_p"] > -3
    assert payload["key_id"] != row["key_id"]
    assert "account-3" in payload["warnings"][0]
    assert "2026-11-20 (stolen)" in payload["warnings"][0]
    document = payload["documents"][0]
    assert (document["named"], document["named_revoked"]) == ([], ["account-3"])
    assert (document["verdict"], payload["n_documents_named"]) == ("inconclusive", 0)


def test_a_revoked_key_takes_nothing_from_the_others(trace: Trace) -> None:
    texts = [_written(3, 90, 1), _written(8, 90, 2), np.concatenate([_written(3, 90, 3),
             _written(8, 90, 4)])]  # fmt: skip
    result = trace(texts, family=_revoked_family(3, 4))
    plain = trace(texts)
    assert _named(result) == ["account-8"]
    assert [row.account.name for row in result.named_revoked] == ["account-3"]
    assert result.verdict == Verdict.SIGNAL
    assert (plain.n_documents_named, result.n_documents_named) == (3, 2)
    assert [row.verdict for row in result.documents] == [
        Verdict.INCONCLUSIVE, Verdict.SIGNAL, Verdict.SIGNAL,
    ]  # fmt: skip
    by_name = {row.account.name: row.log10_p_adjusted for row in plain.ranking}
    assert result.tail.log10_p == pytest.approx(
        min(by_name["account-8"], next(r.log10_p_documents for r in plain.ranking
            if r.account.name == "account-8"))
    )  # fmt: skip


@pytest.mark.parametrize("is_passage", [True, False])
def test_a_revoked_key_does_not_say_what_the_p_value_of_another_rests_on(
    trace: Trace, *, is_passage: bool
) -> None:
    """One account wrote the document but for a passage of another one."""
    long, short = _written(3, 400, 1), _written(8, 40, 32)
    ids = np.concatenate([long[:200], short, long[200:]])
    result = trace([ids], family=_revoked_family(3 if is_passage else 8))
    assert _named(result) == (["account-8"] if is_passage else ["account-3"])
    (named,), (revoked,) = result.named, result.named_revoked
    assert (named.by_passages, revoked.by_passages) == (is_passage, not is_passage)
    assert (result.tail.method == "bound") is is_passage
    assert [row["by_passages"] for row in result.to_dict()["ranking"][:2]] == [
        is_passage, not is_passage,
    ]  # fmt: skip


def test_a_family_of_revoked_keys_alone_names_nobody(trace: Trace) -> None:
    result = trace([_written(3, 90, 1)], family=_revoked_family(*range(len(LABELS))))
    assert (result.named, result.verdict, result.best) == ((), Verdict.INCONCLUSIVE, None)
    assert result.tail.log10_p == 0.0
    silent = trace([_written(None, 900, 2)], family=_revoked_family(*range(len(LABELS))))
    assert silent.named_revoked == ()
    assert silent.warnings == ()


def test_the_best_of_the_others_is_listed_behind_many_revoked(trace: Trace) -> None:
    revoked = tuple(range(12))
    text = np.concatenate([_written(number, 90, number) for number in revoked])
    result = trace([text], family=_revoked_family(*revoked))
    assert len(result.named_revoked) == 12
    assert len(result.warnings) == 6
    assert "7 more revoked keys" in result.warnings[-1]
    assert result.best is not None
    assert result.best == result.ranking[-1]
    assert result.best.account.revocation is None
