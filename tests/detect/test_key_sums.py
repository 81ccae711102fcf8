"""Sums under many keys: the compiled kernel gives the integers of the readable reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detect import key_sums
from detect.attribution import attribute
from detect.decoys import decoy_keys, decoy_statistics
from detect.key_sums import group_pairs, is_fused, key_units, whole
from detect.scoring.cells import cell_bounds
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import select_pairs
from detect.scoring.units import lookup_of, score_step, score_units
from detect.tails.nulls import log_tails
from watermark.config import preset
from watermark.errors import ConfigError
from watermark.interop.sglang import SglangWords
from watermark.kernels.grouped_pairs import BYTES, ONE_CELL, THRESHOLD, GroupedPairs, Lookup
from watermark.prf import NATIVE
from watermark.prf_reference import prf_word
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament
from watermark.word_sources import Pairs

SCORERS: dict[str, Scorer] = {
    "default": choose_scorer(None, preset("default").scheme, "direct"),
    "weak": choose_scorer("weak", preset("default").scheme, "direct"),
    "gumbel": choose_scorer(None, Gumbel(), "direct"),
    "red-green": RedGreen(gamma=0.25),
    "tournament": Tournament(n_layers=30),
    "few-layers": Tournament(n_layers=5),
}
WIDTHS = st.integers(0, 5)


def _pairs(n: int, h: int, seed: int, vocabulary: int = 40) -> Pairs:
    rng = np.random.default_rng(seed)
    return Pairs(rng.integers(0, vocabulary, (n, h)), rng.integers(0, vocabulary, n))


def _one_by_one(
    scorer: Scorer, keys: NDArray[np.uint64], pairs: Pairs, sums: NDArray[np.int64], n_sums: int
) -> NDArray[np.int64]:
    """Word by word from the readable reference."""
    found = np.zeros((n_sums, len(keys)), np.int64)
    for k, key in enumerate(keys):
        for context, token, s in zip(*pairs, sums, strict=True):
            words = [
                prf_word(int(key[0]), int(key[1]), context.tolist(), int(token), stream)
                for stream in range(scorer.n_streams)
            ]
            found[s, k] += score_units(scorer, np.array(words, np.uint32)[:, None])[0]
    return found


@pytest.mark.parametrize("name", list(SCORERS))
@pytest.mark.parametrize("compiled", [False, True])
def test_sums_are_those_of_the_reference(
    name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_sums, "_COMPILE_FROM", 0 if compiled else 1 << 60)
    scorer, keys = SCORERS[name], decoy_keys(3, 1)
    for h in range(5):
        pairs = _pairs(12, h, seed=h, vocabulary=4)
        sums = np.random.default_rng(h).integers(0, 3, 12)
        found = key_units(scorer, keys, group_pairs(pairs, sums, 3))
        assert found.tolist() == _one_by_one(scorer, keys, pairs, sums, 3).tolist()


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(list(SCORERS)),
    h=WIDTHS,
    n=st.integers(1, 60),
    n_keys=st.sampled_from([1, 255, 256, 257, 700]),
    n_sums=st.integers(1, 4),
    seed=st.integers(0, 1 << 30),
)
def test_the_kernel_equals_the_slow_path(
    name: str, h: int, n: int, n_keys: int, n_sums: int, seed: int
) -> None:
    scorer, keys, pairs = SCORERS[name], decoy_keys(n_keys, seed), _pairs(n, h, seed)
    rng = np.random.default_rng(seed)
    sums = rng.integers(0, n_sums, n)
    expected = key_sums._by_words(scorer, keys, group_pairs(pairs, sums, n_sums), NATIVE)
    order = rng.permutation(n)
    shuffled = Pairs(pairs.contexts[order], pairs.tokens[order])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_sums, "_COMPILE_FROM", 0)
        found = key_units(scorer, keys, group_pairs(shuffled, sums[order], n_sums))
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads: int) -> None:
    import numba

    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("started with fewer threads")
    scorer, keys, pairs = SCORERS["default"], decoy_keys(2000, 3), whole(_pairs(200, 2, 3))
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        found = key_units(scorer, keys, pairs)
    finally:
        numba.set_num_threads(before)
    assert found.tolist() == key_sums._by_words(scorer, keys, pairs, NATIVE).tolist()


@pytest.mark.parametrize("name", list(SCORERS))
def test_every_kind_of_word_is_looked_up_as_it_is_scored(name: str) -> None:
    """Both ends of every cell, and random words: what the kernel reads from its table."""
    scorer, rng = SCORERS[name], np.random.default_rng(0)
    bounds = cell_bounds()
    edges = np.concatenate([bounds[:-1], bounds[1:] - 1, rng.integers(0, 1 << 32, 1000)])
    words = np.stack([edges.astype(np.uint32), rng.permutation(edges).astype(np.uint32)])
    words = words[: scorer.n_streams]
    lookup = lookup_of(scorer)
    assert lookup is not None
    units = _looked_up(lookup, words)
    assert units.tolist() == score_units(scorer, words).tolist()
    assert np.abs(units).max() <= lookup.largest


def _looked_up(lookup: Lookup, words: NDArray[np.uint32]) -> NDArray[np.int64]:
    table = lookup.table.astype(np.int64)
    if lookup.kind == THRESHOLD:
        return (words[0] < lookup.table.view(np.uint32)[0]).astype(np.int64)
    if lookup.kind == BYTES:
        places = [256 * i + ((words[0] >> np.uint32(24 - 8 * i)) & 255) for i in range(4)]
        return np.sum([table[place] for place in places], axis=0)
    cells = [_kernel_cell(row) for row in words]
    return table[cells[0] if lookup.kind == ONE_CELL else 256 * cells[0] + cells[1]]


def _kernel_cell(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    upper = words >= 1 << 31
    distance = np.where(upper, ~words, words).astype(np.int64) + 1
    exponent = np.array([int(d).bit_length() - 1 for d in distance])
    fraction = ((distance << 2) >> exponent) & 3
    return 4 * exponent + fraction + 128 * upper


def test_sums_too_large_for_the_kernel_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sums, "_COMPILE_FROM", 0)
    scorer, keys = SCORERS["default"], decoy_keys(5, 3)
    pairs = group_pairs(_pairs(100, 1, 3), np.arange(100) % 3, 3)
    expected = key_units(scorer, keys, pairs)
    lookup = lookup_of(scorer)
    assert lookup is not None
    monkeypatch.setattr(key_sums, "_MAX_SUM", 7 * lookup.largest)
    assert key_units(scorer, keys, pairs).tolist() == expected.tolist()
    from watermark.kernels import numba_keys

    many = pairs._replace(sums=np.broadcast_to(np.int64(0), 1 << 31))
    with pytest.raises(OverflowError):
        numba_keys.key_sums(keys, many, lookup)


def test_ids_that_no_token_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_sums, "_COMPILE_FROM", 0)
    scorer, keys = SCORERS["default"], decoy_keys(5, 3)
    for wrong in (-1, 1 << 32):
        for pairs in (
            Pairs(np.array([[wrong, 1]]), np.array([2])),
            Pairs(np.array([[1, 1]]), np.array([wrong])),
        ):
            with pytest.raises(ConfigError, match="token ids"):
                key_units(scorer, keys, whole(pairs))


def test_no_pairs_and_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    for compile_from in (0, 1 << 60):
        monkeypatch.setattr(key_sums, "_COMPILE_FROM", compile_from)
        scorer, keys = SCORERS["default"], decoy_keys(5, 3)
        assert key_units(scorer, keys, whole(_pairs(0, 2, 0))).tolist() == [[0] * 5]
        same = Pairs(np.empty((2, 0), np.int64), np.array([7, 7]))
        once = key_units(scorer, keys, whole(Pairs(same.contexts[:1], same.tokens[:1])))
        assert key_units(scorer, keys, whole(same)).tolist() == (2 * once).tolist()


def test_other_words_and_scores_are_summed_as_well() -> None:
    assert not is_fused(SCORERS["default"], SglangWords())
    assert not is_fused(Gumbel(), NATIVE)
    pairs, source = _pairs(30, 2, 1), SglangWords()
    keys = source.fresh_keys(4, 1)
    centred = decoy_statistics(Gumbel(), keys, *pairs, source=source)
    units = key_units(Gumbel(), keys, whole(pairs), source)[0]
    # Rounded down, by less than a step a pair.
    lost = centred + 30 * Gumbel().law.mean - units * score_step(Gumbel())
    assert (lost > -1e-9).all()
    assert (lost < 30 * 2.0**-32 + 1e-9).all()


@pytest.mark.parametrize("name", ["default", "gumbel", "red-green", "tournament"])
def test_a_search_gives_the_p_values_of_decoy_statistics(name: str) -> None:
    """Bit for bit what the search gave before it had a kernel of its own."""
    scorer, keys = SCORERS[name], decoy_keys(3000, 7)
    selection = select_pairs(
        np.random.default_rng(2).integers(0, 500, 250), 2, drop_repeated_contexts=True
    )
    found = attribute(selection, scorer, keys, alpha=0.4)
    centred = decoy_statistics(scorer, keys, selection.contexts, selection.tokens)
    sums = centred + selection.n_scored * scorer.law.mean
    logs = log_tails(scorer.law, sums, np.full(3000, selection.n_scored)) / math.log(10)
    assert (found.best.index, found.best.log10_p) == (int(np.argmin(logs)), float(logs.min()))


def test_grouping_makes_each_word_once() -> None:
    contexts = np.array([[1, 2], [1, 2], [0, 5], [1, 2]])
    grouped = group_pairs(Pairs(contexts, np.array([7, 7, 7, 3])), np.array([0, 1, 0, 0]), 2)
    expected = GroupedPairs(
        np.array([[0, 5], [1, 2]]), np.array([0, 1, 3]), np.array([7, 3, 7]),
        np.array([0, 1, 2, 4]), np.array([0, 0, 0, 1]), 2,
    )  # fmt: skip
    for one, other in zip(grouped, expected, strict=True):
        assert np.array_equal(one, other)
