"""Keys that another engine's hash merges are no two accounts, and its few keys bound a p-value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detect import unlike_keys
from detect.attribution import attribute
from detect.key_floor import key_floor, with_floor
from detect.scoring.scores import select_pairs
from detect.tracing.texts.families import Account, KeyFamily
from detect.tracing.texts.outcome import conclude_search
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.reading import SingleText, TokenizedDocument
from detect.tracing.texts.search import Search
from detect.tracing.texts.trace import trace_text
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError
from watermark.interop.sbw import Sbw, sbw_green_list
from watermark.interop.sglang import SglangWords
from watermark.interop.three_bricks import ThreeBricks
from watermark.interop.transformers_kgw import TransformersKgw
from watermark.interop.vllm import VllmPhilox
from watermark.prf import NATIVE
from watermark.schemes.green_list import GreenList
from watermark.schemes.gumbel import Gumbel
from watermark.tokens import TextTokenizer
from watermark.word_sources import WordSource

SGLANG = WatermarkConfig(Gumbel(), 2, source=SglangWords())
LEFT = TransformersKgw(vocab_size=1000)
SELF = TransformersKgw(seeding_scheme="selfhash", vocab_size=1000)
LISTS = GreenList(LEFT.n_green, 1000)
BRICKS = ThreeBricks(vocab_size=1000)
# Two of the 64-bit keys of which SGLang's hash keeps the same 32 bits: found among 200,000.
ALIKE = (8_664_825_296_425_194_797, 2_739_639_474_829_393_329)
P, Q, R, S = 3_000_001, 500_003, 700_001, 1013


@pytest.fixture(autouse=True)
def _nothing_compared_before() -> Iterator[None]:
    unlike_keys._UNLIKE.clear()
    yield
    unlike_keys._UNLIKE.clear()


def _plan(config: WatermarkConfig, keys: Sequence[object], alpha: float = 1e-6) -> TracePlan:
    integers = np.array(keys, np.uint64).reshape(len(keys), -1)
    accounts = [Account(f"account-{i}", str(i)) for i in range(len(keys))]
    return TracePlan(config, KeyFamily(accounts, integers), alpha)


@pytest.mark.parametrize(
    ("config", "keys", "words"),
    [
        (SGLANG, ALIKE, "the same words as"),
        (WatermarkConfig(LISTS, 1, source=LEFT), (15485863, 15485863 + (1 << 32)), "the same"),
        (WatermarkConfig(LISTS, 0, source=SELF), ((5 << 32) | 77, (9 << 32) | 77), "nearly"),
        (WatermarkConfig(LISTS, 3, source=SELF), ((5 << 32) | 77, (9 << 32) | 77), "nearly"),
        (WatermarkConfig(Gumbel(), 1, source=BRICKS), ((P * Q, R * S), (P * S, R * Q)), "the same"),
    ],
)
def test_two_keys_of_the_same_words_are_refused_and_named(
    config: WatermarkConfig, keys: tuple[int, ...], words: str
) -> None:
    other = config.source.fresh_keys(1, 0)[0].tolist()
    family = np.array([np.atleast_1d(np.array(key, np.uint64)) for key in (other, *keys)])
    with pytest.raises(ConfigError, match=rf"'account-2' makes {words}.*'account-1'"):
        _plan(config, family)
    width = config.context_width
    pairs = select_pairs(np.arange(90), width, drop_repeated_contexts=True, source=config.source)
    with pytest.raises(ConfigError, match=rf"key 2 makes {words}.*key 1 "):
        attribute(pairs, config.scheme, family, alpha=0.5, source=config.source)


@pytest.mark.parametrize(
    "config",
    [
        SGLANG,
        WatermarkConfig(LISTS, 1, source=LEFT),
        WatermarkConfig(LISTS, 0, source=SELF),
        WatermarkConfig(LISTS, 3, source=SELF),
        WatermarkConfig(Gumbel(), 1, source=BRICKS),
        WatermarkConfig(Gumbel(), 3, source=VllmPhilox()),
        WatermarkConfig(sbw_green_list(0.25, 2.0), 3, source=Sbw()),
    ],
    ids=lambda config: f"{config.source.name}-{config.context_width}",
)
def test_keys_drawn_at_random_are_not_refused(config: WatermarkConfig) -> None:
    _plan(config, list(config.source.fresh_keys(40, 1)))


@pytest.mark.parametrize("source", [LEFT, SELF, BRICKS], ids=lambda source: source.name)
def test_few_pairs_of_a_small_vocabulary_refuse_nobody_by_chance(source: WordSource) -> None:
    small = replace(source, vocab_size=30)  # type: ignore[type-var]
    scheme = Gumbel() if source is BRICKS else GreenList(small.n_green, 30)
    _plan(WatermarkConfig(scheme, 1, source=small), list(small.fresh_keys(40, 1)))


def test_equal_words_are_found_among_keys_too_many_to_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unlike_keys, "NEAR_KEYS", 2)
    keys = [*SGLANG.source.fresh_keys(1500, 1)[:, 0].tolist(), *ALIKE]
    with pytest.raises(ConfigError, match="'account-1501' makes the same words"):
        _plan(SGLANG, keys)


def test_near_words_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlike_keys, "_BLOCK", 3)
    config = WatermarkConfig(LISTS, 0, source=SELF)
    keys = [(5 << 32) | 77, *SELF.fresh_keys(7, 1)[:, 0].tolist(), (9 << 32) | 77]
    with pytest.raises(ConfigError, match=r"'account-8' makes nearly .*'account-0'"):
        _plan(config, keys)


def test_our_own_keys_have_no_floor() -> None:
    assert _plan(preset("default"), list(NATIVE.fresh_keys(3, 1))).floor == -math.inf
    assert key_floor(NATIVE, 25_000) == -math.inf


def test_our_own_keys_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlike_keys, "_words", pytest.fail)
    _plan(preset("default"), list(NATIVE.fresh_keys(3, 1)))
    assert not unlike_keys._UNLIKE


def test_a_family_is_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same family nothing changes; other keys, widths and words are another one."""
    compared, words = [], unlike_keys._words

    def counted(family: Any, pairs: Any) -> Any:
        compared.append(family)
        return words(family, pairs)

    monkeypatch.setattr(unlike_keys, "_words", counted)
    keys = SGLANG.source.fresh_keys(4, 1)
    pairs = select_pairs(np.arange(90), 2, drop_repeated_contexts=True, source=SGLANG.source)
    for _ in range(3):
        _plan(SGLANG, list(keys))
        attribute(pairs, SGLANG.scheme, keys.copy(), alpha=0.5, source=SGLANG.source)
    assert len(compared) == 1
    _plan(SGLANG, list(keys[:3]))
    _plan(SGLANG, list(keys[::-1]))
    _plan(replace(SGLANG, context_width=3), list(keys))
    _plan(WatermarkConfig(Gumbel(), 2, source=VllmPhilox()), list(keys))
    assert len(compared) == 5
    # A family that was refused is refused again.
    for _ in range(2):
        with pytest.raises(ConfigError, match="the same words"):
            _plan(SGLANG, ALIKE)
    assert not any(bytes(key) in digest for key in keys for digest in unlike_keys._UNLIKE)


def test_a_floor_is_added_not_cut_to() -> None:
    logs = np.array([-300.0, -8.0, -0.5, 0.1])
    found = with_floor(logs, -8.0)
    assert found == pytest.approx([-8.0, math.log10(2e-8), math.log10(10**-0.5 + 1e-8), 0.0])
    assert with_floor(logs, -math.inf).tolist() == [-300.0, -8.0, -0.5, 0.0]


def _marked(key: NDArray[np.uint64]) -> NDArray[np.int64]:
    source = SGLANG.source
    rng, ids = np.random.default_rng(0), [7, 8]
    for _ in range(150):
        among = rng.integers(0, 40_000, 6)
        hashes = source.context_hashes(key, np.array([ids[-2:]]))
        ids.append(int(among[source.words(key, hashes, among[None], 0)[0].argmax()]))
    return np.array(ids)


def _concluded(alpha: float):  # type: ignore[no-untyped-def]  # noqa: ANN202
    keys = SGLANG.source.fresh_keys(500, 9)
    plan = _plan(SGLANG, list(keys), alpha)
    search, document = Search(plan, ()), TokenizedDocument("d", "d", _marked(keys[3]))
    search.add(document, search.select(document))
    search.flush()
    return conclude_search(plan, search, None)


def test_no_p_value_falls_below_what_the_keys_tell_apart() -> None:
    """A stranger's key is that of one of 500 accounts by chance, 500 / 2^32, whatever the text."""
    outcome = _concluded(1e-6)
    floor = math.log10(500) - 32 * math.log10(2)
    assert [row.account.name for row in outcome.ranking if row.is_named] == ["account-3"]
    best = outcome.ranking[0]
    assert best.log10_p < -30
    assert best.log10_p_adjusted == pytest.approx(floor)
    assert outcome.tail.log10_p == pytest.approx(floor)
    assert outcome.documents[0].log10_p_adjusted == pytest.approx(floor)
    # Added, not cut: at a p-value of the floor's size both count.
    assert outcome.ranking[1].log10_p_adjusted <= 0


def test_a_level_below_the_floor_names_nobody_and_says_why() -> None:
    outcome = _concluded(1e-7)
    assert not any(row.is_named for row in outcome.ranking)
    assert (outcome.documents[0].named, outcome.n_documents_named) == ((), 0)
    assert outcome.verdict.value == "inconclusive"
    assert "2^32 keys" in outcome.warnings[0]


def test_the_search_of_one_text_has_the_same_floor() -> None:
    keys = SGLANG.source.fresh_keys(500, 9)
    pairs = select_pairs(_marked(keys[3]), 2, drop_repeated_contexts=True, source=SGLANG.source)
    floor = math.log10(500) - 32 * math.log10(2)
    found = attribute(pairs, Gumbel(), keys, alpha=1e-6, source=SGLANG.source)
    assert [key.index for key in found.named] == [3]
    assert found.best.log10_p < -30
    assert found.best.log10_p_adjusted == pytest.approx(floor)
    below = attribute(pairs, Gumbel(), keys, alpha=10 ** (floor - 0.01), source=SGLANG.source)
    assert below.named == ()
    assert below.best == found.best


def test_a_result_says_what_few_keys_mean(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The harbour was quiet when the first boat came in.")
    held, plan = SingleText(str(tmp_path / "a.txt")), _plan(SGLANG, [1, 2, 3])
    limits = trace_text(held, plan=plan, tokenizer=tokenizer).limits
    assert any("at most 2^32 keys apart" in limit and "p = 7e-10" in limit for limit in limits)
