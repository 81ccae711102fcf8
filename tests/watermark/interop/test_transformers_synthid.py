"""SynthID-Text of transformers: its own processor as the oracle; what its one table does to p."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from transformers import SynthIDTextWatermarkingConfig
from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor

from detect.attribution import attribute
from detect.calibrating.calibration import calibrate
from detect.corpus import scan_corpus
from detect.documents import Document
from detect.finding import Plan, null_tail
from detect.fraction.estimate import assess_fraction
from detect.results import Verdict
from detect.scoring.scores import refuse_dependent_words, score_pairs, select_pairs
from detect.segments.localisation import locate_text
from detect.sequential.watching import Deployment
from detect.suspect.beforehand import refuse_weak_hash
from detect.tails.convolution import convolution_log_tails
from detect.tails.layers import layer_parts
from detect.tails.nulls import log_tails, tail
from detect.text import assess_tokens
from tests.detect.synthetic import marked_ids
from tests.watermark.interop.synthid_marks import (
    deployment,
    fresh_key,
    g_values,
    marked_pairs,
    rows_of,
)
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop.transformers_synthid import TransformersSynthID
from watermark.keys import EngineKey, SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.tournament import Tournament
from watermark.tokens import TextTokenizer, load_tokenizer
from watermark.word_sources import Pairs

SOURCE = TransformersSynthID()
SCHEME = Tournament(30)
KEY = fresh_key(SOURCE, 41)
# Of the first 200 seeds the one whose table has the most ones: 33,110, 50.5 %.
MOST_ONES = 194


def _processor(
    keys: tuple[int, ...], ngram_len: int = 5, size: int = 65_536, seed: int = 0
) -> SynthIDTextWatermarkLogitsProcessor:
    return SynthIDTextWatermarkLogitsProcessor(
        ngram_len=ngram_len,
        keys=list(keys),
        sampling_table_size=size,
        sampling_table_seed=seed,
        context_history_size=1024,
        device=torch.device("cpu"),
    )


def _theirs(processor: SynthIDTextWatermarkLogitsProcessor, ids: np.ndarray) -> np.ndarray:
    found: np.ndarray = processor.compute_g_values(torch.from_numpy(ids)[None])[0].numpy()
    return found


@pytest.mark.parametrize("row", rows_of("transformers_synthid"))
def test_frozen_g_values(row: dict) -> None:
    key = EngineKey([int(k) for k in row["keys"]])
    found = g_values(
        TransformersSynthID(len(row["keys"])), key, np.array(row["token_ids"]), row["ngram_len"]
    )
    assert ["".join(map(str, r)) for r in found.tolist()] == row["g_values"]


@pytest.mark.parametrize(
    ("ngram_len", "n_layers", "size", "seed"),
    [(5, 30, 65_536, 0), (2, 30, 65_536, 0), (3, 9, 65_536, 7), (5, 32, 256, 2**40 + 3)],
)
def test_g_values_are_those_of_transformers(
    ngram_len: int, n_layers: int, size: int, seed: int
) -> None:
    """More than 100,000 of them, in numpy's two ways: few tokens, and looked up."""
    source = TransformersSynthID(n_layers, size, seed)
    ids = np.random.default_rng(seed).integers(0, 128_256, 5_000)
    for key in (fresh_key(source, 3), EngineKey(range(1, n_layers + 1))):
        theirs = _theirs(_processor(key.integers, ngram_len, size, seed), ids)
        assert (g_values(source, key, ids, ngram_len) == theirs).all()
        assert (g_values(source, key, ids[:100], ngram_len) == theirs[: 101 - ngram_len]).all()


def test_another_table_can_be_given() -> None:
    """What a processor on an accelerator would hold, here that of another seed."""
    table = np.packbits(_processor(KEY.integers, seed=5).sampling_table).tobytes().hex()
    given_table = TransformersSynthID(table=table)
    ids = np.arange(300)
    expected = g_values(TransformersSynthID(table_seed=5), KEY, ids, 5)
    assert (g_values(given_table, KEY, ids, 5) == expected).all()
    assert (g_values(SOURCE, KEY, ids, 5) != expected).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**62), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_there_are_only_65536_classes(seed: int, width: int, token: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = Pairs(rng.integers(0, 1 << 32, (8, width)), np.append(rng.integers(0, 9, 7), token))
    canonical = SOURCE.canonical(pairs)
    assert canonical.contexts.shape == pairs.contexts.shape
    assert not canonical.contexts.any()
    assert int(canonical.tokens.min()) >= 0
    assert int(canonical.tokens.max()) < 65_536
    key = SOURCE.fresh_keys(1, seed)[0]
    words = [SOURCE.words(key, SOURCE.context_hashes(key, p.contexts), p.tokens, 0) for p in
             (pairs, canonical)]  # fmt: skip
    assert (words[0] == words[1]).all()


def test_only_the_low_bits_of_a_key_matter() -> None:
    ids = np.arange(400)
    same = EngineKey([k % 65_536 for k in KEY.integers])
    assert (g_values(SOURCE, KEY, ids, 5) == g_values(SOURCE, same, ids, 5)).all()


def test_totals_are_those_of_every_key_one_by_one() -> None:
    source = TransformersSynthID(3, 64, 1)
    rng = np.random.default_rng(5)
    pairs = Pairs(rng.integers(0, 50, (300, 2)), rng.integers(0, 50, 300))
    key = np.array([70, 5, 6], np.uint64)
    layers = source.layers(key, pairs, 0)
    for start in range(0, 64, 3):
        tried = np.arange(start, start + 3).astype(np.uint64)
        words = source.words(tried, source.context_hashes(tried, pairs.contexts), pairs.tokens, 0)
        totals = [int((words >> np.uint32(31 - layer) & 1).sum()) for layer in range(3)]
        assert totals == [layers.totals[k % 64] for k in range(start, start + 3)]
    assert len(np.unique(layers.same)) == 2  # 70 is 6.


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_layers": 0}, "1 to 32"),
        ({"n_layers": 33}, "1 to 32"),
        ({"table_size": 65_535}, "power of two"),
        ({"table_size": 4}, "power of two"),
        ({"table_seed": "0"}, "integer"),
        ({"table": "xy"}, "hexadecimal"),
        ({"table": "ff"}, "16384 hexadecimal"),
    ],
)
def test_bad_parameters(parameters: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformersSynthID(**parameters)


def test_other_schemes_and_numbers_of_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="only the scheme tournament"):
        WatermarkConfig(Gumbel(), 4, source=SOURCE)
    with pytest.raises(ConfigError, match="same n_layers"):
        WatermarkConfig(Tournament(9), 4, source=SOURCE)
    with pytest.raises(ConfigError, match="depend on each other"):
        refuse_dependent_words(SOURCE)


def test_tests_that_need_independent_words_refuse(tokenizer: TextTokenizer) -> None:
    """Broken, their laws of one score would be wrong by the deviations shown below."""
    config, common = deployment(SOURCE), {"tokenizer": tokenizer, "key": KEY}
    pairs = select_pairs(np.arange(40), 4, drop_repeated_contexts=True, source=SOURCE)
    keys = SOURCE.fresh_keys(2, 1)
    refusals: list[Callable[[], object]] = [
        lambda: locate_text("a b", config=config, **common),
        lambda: assess_fraction([], [], config=config, **common),
        lambda: calibrate([], config=config, n_keys=1, length=9, **common),
        lambda: attribute(pairs, SCHEME, keys, alpha=0.01, source=SOURCE),
        lambda: refuse_weak_hash(config),
        lambda: Deployment(config, KEY, tokenizer, 1e-6),
    ]
    for refused in refusals:
        with pytest.raises(ConfigError, match=r"depend on each other|that depend"):
            refused()


def _random_pairs(n: int, seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    return Pairs(rng.integers(0, 49_152, (n, 4)), rng.integers(0, 49_152, n))


@pytest.mark.parametrize(("table_seed", "too_often"), [(0, 0.0), (MOST_ONES, 1.0)])
def test_p_values_of_a_big_corpus_are_uniform(table_seed: int, too_often: float) -> None:
    """200,000 distinct pairs, none marked, random keys (KS; false-alarm rate 1e-6).

    Fair independent bits would be a null 1.6 deviations too high for the default table, and 22 too
    low for the other: every innocent corpus would be accused.
    """
    source = TransformersSynthID(table_seed=table_seed)
    pairs = _random_pairs(200_000, 11)
    rng = np.random.default_rng(13)
    layers = source.layers(source.fresh_keys(1, 1)[0], pairs, 0)
    keys = rng.integers(0, 65_536, (400, 30))
    statistics = layers.totals[keys] @ np.arange(30, 0, -1)
    parts, left_out = layer_parts(range(30, 0, -1), layers.totals)
    p = np.exp(convolution_log_tails(parts, statistics - left_out))
    assert kstest(p, "uniform").pvalue > 1e-6
    fair = log_tails(SCHEME.law, statistics.astype(float), np.full(400, 200_000))
    assert np.mean(fair < math.log(1e-6)) == too_often
    assert kstest(np.exp(fair), "uniform").pvalue < 1e-6


def test_a_mark_under_another_key_of_the_table_is_no_evidence() -> None:
    """One of 900 pairs of layer keys is equal in 1.4 % of all cases: then a layer is shared.

    As independent bits, the shared layer alone would accuse whoever bought marked text elsewhere.
    """
    other = fresh_key(SOURCE, 61)
    contexts, tokens, _ = marked_pairs(SOURCE, other, 8_000, rounds=4, seed=1)
    own = EngineKey([other.integers[0], *fresh_key(SOURCE, 62).integers[1:]])
    plan = Plan(deployment(SOURCE), own, 1e-6, 0.3, 0, 0)
    under = SOURCE.under(own)
    scores = SCHEME.score(under.words(under.context_hashes(contexts), tokens)[None])
    statistic = float(scores.sum())
    assert tail(SCHEME.law, statistic, len(scores)).log10_p < -10
    # The layer of the greatest weight has the key that marked most: one or two in 65,536.
    exact = null_tail(plan, contexts, tokens, statistic)
    assert math.log10(1 / 65_536) < exact.log10_p < math.log10(0.01)
    strong = Plan(deployment(SOURCE), other, 1e-6, 0.3, 0, 0)
    scores = SCHEME.score(
        SOURCE.under(other).words(SOURCE.under(other).context_hashes(contexts), tokens)[None]
    )
    assert null_tail(strong, contexts, tokens, float(scores.sum())).log10_p < -40


def test_equal_layer_keys_are_one_layer() -> None:
    """Broken, a key of 30 equal integers would multiply one layer's luck by 30."""
    pairs = _random_pairs(200, 3)
    p = []
    for k in range(40):
        key = EngineKey([1000 * k + 17] * 30)
        plan, under = Plan(deployment(SOURCE), key, 1e-6, 0.3, 0, 0), SOURCE.under(key)
        words = under.words(under.context_hashes(pairs.contexts), pairs.tokens)
        p.append(null_tail(plan, *pairs, float(SCHEME.score(words[None]).sum())).p_value)
    # Discrete: one layer of 200 bits.
    assert min(p) > 1e-3
    assert kstest(p, "uniform").pvalue > 1e-5


def _plain(tokenizer: TextTokenizer, n: int, seed: int) -> np.ndarray:
    return marked_ids(deployment(SOURCE), None, n, vocabulary=tokenizer.vocab_size, seed=seed)


def test_p_values_of_plain_text_are_uniform(tokenizer: TextTokenizer) -> None:
    """Fresh keys on random text, through the whole test (KS; false-alarm rate 1e-6)."""
    p = []
    for i in range(60):
        ids = _plain(tokenizer, 120, i % 4)
        config, key = deployment(SOURCE), fresh_key(SOURCE, 100 + i)
        found = assess_tokens(ids, tokenizer=tokenizer, config=config, key=key)
        p.append(found.finding.tail.p_value)
    assert kstest(p, "uniform").pvalue > 1e-6
    assert found.finding.to_dict()["method"] == "exact"
    assert found.finding.curve is None


def _their_text(tokenizer: TextTokenizer, key: EngineKey, n: int, seed: int) -> np.ndarray:
    """Random logits, marked by transformers' own processor."""
    generator = torch.Generator().manual_seed(seed)
    processor, ids = _processor(key.integers), torch.zeros((1, 7)).long()
    for _ in range(n):
        logits = 1.5 * torch.randn(1, tokenizer.vocab_size, generator=generator)
        shares = processor(ids, logits).softmax(dim=1)
        ids = torch.cat([ids, torch.multinomial(shares, 1, generator=generator)], dim=1)
    found: np.ndarray = ids[0, 7:].numpy()
    return found


def test_text_marked_by_transformers_is_found(tokenizer: TextTokenizer) -> None:
    config = deployment(SOURCE)
    for seed in range(3):
        ids = _their_text(tokenizer, KEY, 200, seed)
        found = assess_tokens(ids, tokenizer=tokenizer, config=config, key=KEY, n_decoys=99)
        assert found.finding.tail.log10_p < -6
        assert found.finding.verdict is Verdict.SIGNAL
        assert found.finding.decoys is not None
        assert found.finding.decoys.is_best
        wrong = assess_tokens(ids, tokenizer=tokenizer, config=config, key=fresh_key(SOURCE, seed))
        assert wrong.finding.tail.p_value > 1e-4


def test_our_text_is_found_by_transformers(tokenizer: TextTokenizer) -> None:
    """The mean g-value of contexts met for the first time; one half in plain text."""
    generator = torch.Generator().manual_seed(3)
    marker, response = Marker(deployment(SOURCE), KEY), torch.empty((1, 0)).long()
    for _ in range(200):
        logits = 1.5 * torch.randn(1, tokenizer.vocab_size, generator=generator)
        shares = marker(response, logits, generator).softmax(dim=1)
        token = torch.multinomial(shares, 1, generator=generator)
        response = torch.cat([response, token], dim=1)
    processor = _processor(KEY.integers)
    mask = processor.compute_context_repetition_mask(response)
    g = processor.compute_g_values(response)[mask.bool()].double()
    # 196 positions of 30 bits: the mean's deviation is 0.0065.
    assert float(g.mean()) > 0.5 + 5 * 0.0065


def test_our_marker_is_their_processor(tokenizer: TextTokenizer) -> None:
    """The same logits, wherever a whole context of the response is there."""
    generator = torch.Generator().manual_seed(9)
    processor, marker = _processor(KEY.integers), Marker(deployment(SOURCE), KEY)
    ids = torch.randint(0, 400, (1, 1), generator=generator)
    for step in range(40):
        logits = torch.randn(1, tokenizer.vocab_size, generator=generator).double()
        theirs, ours = processor(ids, logits), marker(ids[:, 1:], logits)
        if step >= 4:
            torch.testing.assert_close(theirs.softmax(dim=1), ours.softmax(dim=1))
        # Two tokens only, so that contexts repeat; not 0, with which theirs begin.
        token = torch.randint(1, 3, (1, 1), generator=generator)
        ids = torch.cat([ids, token], dim=1)


def test_a_corpus_has_the_exact_null(tokenizer: TextTokenizer) -> None:
    """Of the table with too many ones; copies count once, and repeats of a class as often."""
    config = deployment(TransformersSynthID(table_seed=MOST_ONES))
    texts = [_plain(tokenizer, 150, i) for i in range(5)]
    documents = [Document(str(i), str(i), None, tuple(t.tolist())) for i, t in enumerate(texts)]
    p = []
    for seed in range(12):
        key = fresh_key(SOURCE, seed)
        found = scan_corpus(documents, tokenizer=tokenizer, config=config, key=key)
        p.append(found.finding.tail.p_value)
        assert min(d.log10_p for d in found.documents) > -4
    # A text twice is one text: pairs, not classes, are distinct.
    copies = scan_corpus(documents * 2, tokenizer=tokenizer, config=config, key=key)
    assert copies.finding.tail == found.finding.tail
    assert kstest(p, "uniform").pvalue > 1e-5


def test_marked_documents_are_found_in_a_corpus(tokenizer: TextTokenizer) -> None:
    config = deployment(SOURCE)
    secret = SecretKey(bytes(range(32)))
    texts = [
        marked_ids(config, secret if i < 2 else None, 200, vocabulary=tokenizer.vocab_size, seed=i)
        for i in range(6)
    ]
    documents = [Document(str(i), str(i), None, tuple(t.tolist())) for i, t in enumerate(texts)]
    found = scan_corpus(documents, tokenizer=tokenizer, config=config, key=secret, n_decoys=99)
    assert [d.verdict is Verdict.SIGNAL for d in found.documents] == [True] * 2 + [False] * 4
    assert found.finding.verdict is Verdict.SIGNAL


def test_a_corpus_that_fills_the_table_still_tells() -> None:
    """Each class is met some 9 times: counted once each, keys would sum to nearly the same."""
    contexts, tokens, scores = marked_pairs(SOURCE, KEY, 600_000, rounds=2, seed=5)
    pairs = Pairs(contexts, tokens)
    classes = SOURCE.canonical(pairs).tokens
    assert len(np.unique(classes)) > 60_000
    plan = Plan(deployment(SOURCE), KEY, 1e-6, 0.3, 0, 0)
    assert null_tail(plan, contexts, tokens, float(scores.sum())).log10_p < -30


def test_long_texts_select_pairs_not_classes() -> None:
    ids = np.random.default_rng(1).integers(0, 49_152, 30_000)
    selection = select_pairs(ids, 4, drop_repeated_contexts=True, source=SOURCE)
    assert selection.n_scored == 30_000 - 4
    scores = score_pairs(selection, deployment(SOURCE), SOURCE.under(KEY))
    assert len(scores) == selection.n_scored


@pytest.mark.model
@pytest.mark.slow
def test_smollm2_marked_by_transformers_is_found() -> None:
    """Through `generate`, with the config that its users write."""
    folder = resolve_model("smollm2")
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    prompt = torch.from_numpy(tokenizer.encode("The old lighthouse keeper had a secret:"))[None]
    torch.manual_seed(7)
    with torch.no_grad():
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            watermarking_config=SynthIDTextWatermarkingConfig(keys=list(KEY.integers), ngram_len=5),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=200,
            min_new_tokens=200,
            pad_token_id=0,
        )
    ids = out[0, prompt.shape[1] :].numpy()
    config = deployment(SOURCE)
    found = assess_tokens(ids, tokenizer=tokenizer, config=config, key=KEY)
    assert found.finding.tail.log10_p < -6
    wrong = assess_tokens(ids, tokenizer=tokenizer, config=config, key=fresh_key(SOURCE, 5))
    assert wrong.finding.tail.p_value > 1e-4
