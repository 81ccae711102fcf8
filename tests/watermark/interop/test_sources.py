"""The contract of every source of words; a new one is tested on arrival."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import chisquare

from watermark.errors import ConfigError, FingerprintError
from watermark.interop import SOURCES, make_source
from watermark.keys import EngineKey, SecretKey
from watermark.prf import NATIVE
from watermark.word_sources import Pairs, WordSource

SECRET = SecretKey(bytes(range(32)))
H = 4


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> WordSource:
    return SOURCES[request.param]()


def _pairs(n: int, seed: int = 1) -> Pairs:
    rng = np.random.default_rng(seed)
    return Pairs(rng.integers(0, 49_152, (n, H)), rng.integers(0, 49_152, n))


def _words(source: WordSource, key: np.ndarray, pairs: Pairs) -> np.ndarray:
    return source.words(key, source.context_hashes(key, pairs.contexts), pairs.tokens, 0)


def test_a_source_comes_back_from_its_json(source: WordSource) -> None:
    parameters = json.loads(json.dumps(source.parameters()))
    assert make_source(source.name, parameters) == source


def test_words_are_pure_and_keep_their_shape(source: WordSource) -> None:
    key, pairs = source.fresh_keys(1, 3)[0], _pairs(6)
    hashes = source.context_hashes(key, pairs.contexts)
    one_each = source.words(key, hashes, pairs.tokens, 0)
    assert one_each.dtype == np.uint32
    table = source.words(key, hashes, np.tile(pairs.tokens, (6, 1)), 0)
    assert table.shape == (6, 6)
    assert (table.diagonal() == one_each).all()


def test_nothing_has_no_words(source: WordSource) -> None:
    """An empty text, and one that is shorter than its context."""
    keys, pairs = source.fresh_keys(2, 3), _pairs(0)
    hashes = source.context_hashes(keys[0], pairs.contexts)
    assert source.words(keys[0], hashes, pairs.tokens, 0).shape == (0,)
    assert source.scan_words(keys[0], pairs, 0).shape == (0,)
    words = source.words_for_keys(keys, pairs.contexts, np.arange(0), pairs.tokens, 1)
    assert words.shape == (2, 1, 0)


def test_words_are_uniform_over_keys(source: WordSource) -> None:
    """One pair under many keys: what every p-value rests on."""
    pairs = _pairs(4)
    keys = source.fresh_keys(400, 5)
    words = source.words_for_keys(keys, pairs.contexts, np.arange(4), pairs.tokens, 1)[:, 0]
    for column in words.T:
        counts = np.bincount(column >> np.uint32(30), minlength=4)
        assert chisquare(counts).pvalue > 1e-5


def test_canonical_pairs_have_the_same_words(source: WordSource) -> None:
    pairs = _pairs(50)
    canonical = source.canonical(pairs)
    assert canonical.contexts.shape == pairs.contexts.shape
    assert (source.canonical(canonical).tokens == canonical.tokens).all()
    for key in source.fresh_keys(5, 7):
        assert (_words(source, key, canonical) == _words(source, key, pairs)).all()
    same = all(np.array_equal(a, b) for a, b in zip(pairs, canonical, strict=True))
    same &= np.array_equal(source.evidence(pairs), np.column_stack(pairs))
    # A scan takes what tells pairs apart through kernels that rename nothing.
    assert same or not source.tells_pairs_apart


def test_many_keys_are_one_after_another(source: WordSource) -> None:
    pairs, keys = _pairs(9), source.fresh_keys(3, 11)
    many = source.words_for_keys(keys, pairs.contexts, np.arange(9), pairs.tokens, 1)
    for found, key in zip(many[:, 0], keys, strict=True):
        assert (found == _words(source, key, pairs)).all()


def test_fresh_keys_are_reproducible_and_differ(source: WordSource) -> None:
    assert (source.fresh_keys(9, 3)[:4] == source.fresh_keys(4, 3)).all()
    assert not (source.fresh_keys(4, 3) == source.fresh_keys(4, 4)).all(axis=1).any()


def test_a_key_of_ours_gives_a_key_of_the_system(source: WordSource) -> None:
    key = source.key_of(SECRET)
    assert key.shape == (source.n_key_integers,)
    assert (key == source.key_of(SECRET)).all()
    assert int(key.max()) < 1 << source.key_bits
    assert "hidden" in repr(source.under(SECRET))


def test_a_key_of_another_system_is_refused(source: WordSource) -> None:
    wrong = EngineKey([5] * (source.n_key_integers + 1))
    with pytest.raises(FingerprintError):
        source.key_of(wrong)
    if source.key_bits < 64 and source is not NATIVE:
        with pytest.raises(FingerprintError):
            source.key_of(EngineKey([1 << source.key_bits] * source.n_key_integers))


def test_unknown_names_and_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown PRF"):
        make_source("nobody", {})
    with pytest.raises(ConfigError, match="takes the parameters"):
        make_source("heirmark-1", {"width": 3})
