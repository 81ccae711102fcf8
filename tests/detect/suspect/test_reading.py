"""Weights of pairs: which contexts count, what is cut off, and what it all comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan
from detect.suspect import reading
from detect.suspect.distributions import assess_pairs
from detect.suspect.exchanges import Positions, ReadingText
from detect.suspect.reading import PairWeights, read_pairs
from detect.suspect.weighing import weigh
from tests.detect.synthetic import ToyReader, marked_ids
from watermark.config import PRESETS, preset
from watermark.errors import FingerprintError
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")
SPECIAL = frozenset({0, 1})
TEXTS = [
    ReadingText((2, 3, 4), tuple(marked_ids(CONFIG, None, 40, vocabulary=60, seed=i).tolist()))
    for i in range(12)
]


def _read(
    suspect: ToyReader, reference: ToyReader | None, texts: Sequence[ReadingText], h: int = 2
) -> PairWeights:
    return read_pairs(suspect, reference, texts, context_width=h, special_ids=SPECIAL)


def _contexts(pairs: PairWeights) -> set[tuple[int, ...]]:
    return set(map(tuple, pairs.contexts.tolist()))


def _p_values(pairs: PairWeights, name: str, n: int) -> NDArray[np.float64]:
    weighed = weigh(preset(name).scheme, pairs)
    sums = decoy_statistics(
        weighed.scorer, decoy_keys(n, 7), weighed.contexts, weighed.tokens, weighed.weights
    )
    return np.sort([weighed.tail(s).p_value for s in sums.tolist()])


@pytest.mark.parametrize("name", PRESETS)
def test_innocent_weights_have_uniform_p_values_under_every_preset(name: str) -> None:
    """100 keys, both signs of weight; Kolmogorov-Smirnov at 1e-6 (2.7 / sqrt(n))."""
    config = preset(name)
    suspect, reference = ToyReader(config, seed=1), ToyReader(config, seed=2)
    pairs = _read(suspect, reference, TEXTS[:3], config.context_width)
    assert (pairs.weights > 0).any()
    assert (pairs.weights < 0).any()
    p = _p_values(pairs, name, 100)
    assert np.abs(p - np.arange(1, 101) / 100).max() < 2.7 / 100**0.5


def test_pairs_counted_apart_instead_of_added_up_accuse_the_innocent() -> None:
    """The same pairs 16 times, taken for different ones: a quarter of the keys below 1e-3 / 2."""
    once = _read(ToyReader(CONFIG, seed=1), ToyReader(CONFIG, seed=2), TEXTS[:3])
    broken = PairWeights(
        np.tile(once.contexts, (16, 1)),
        np.tile(once.tokens, 16),
        np.tile(once.weights, 16),
        np.tile(once.gained, 16),
        np.tile(once.likely, 16),
        0,
        0,
        {},
    )
    # Under the right law P(p <= 0.001) is 0.001: 5 or more of 60 keys come by chance at 5e-9.
    assert (_p_values(broken, "default", 60) <= 1e-3).sum() >= 5
    assert (_p_values(once, "default", 60) <= 1e-3).sum() < 5


def test_what_the_prompt_shows_is_not_read_whatever_follows() -> None:
    """Context (5, 6) stands in the prompt; the token after it, special or not, cannot hide that."""
    reader = ToyReader(CONFIG, seed=1)
    for following in (8, 0):
        text = ReadingText((4, 5, 6, 7), (9, 5, 6, following, 20, 21, 22))
        pairs = _read(reader, None, [text])
        assert (5, 6) not in _contexts(pairs)
        assert (9, 5) in _contexts(pairs)
        assert pairs.reasons["context_in_prompt"] == 1
    assert not np.isin(pairs.contexts, [0, 1]).any()
    assert pairs.reasons == {"no_context": 2, "special_context": 2, "context_in_prompt": 1}
    assert pairs.n_positions + sum(pairs.reasons.values()) == 7


def test_a_copied_continuation_of_a_marked_prompt_accuses_where_the_rule_is_broken() -> None:
    """An innocent that copies from its prompt: caught by dropping contexts the prompt shows."""
    marked = tuple(marked_ids(CONFIG, KEY, 200, vocabulary=60, seed=3).tolist())

    class Copying(ToyReader):
        def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
            for positions in super().read(texts):
                ids = list(texts[positions.index].token_ids)
                copied = 0.2 * positions.probabilities
                copied[range(len(ids)), ids] += 0.8
                yield Positions(positions.index, copied)

    innocent = Copying(CONFIG, seed=1)
    kept = _read(innocent, None, [ReadingText(marked, marked)])
    assert kept.n_positions == 0
    broken = _read(innocent, None, [ReadingText((2,), marked)])
    found = assess_pairs(Plan(CONFIG, KEY, 1e-6, 0.1, 0, 0), broken)
    assert found.tail.log10_p_ceiling < -6


@pytest.mark.parametrize("with_reference", [True, False])
def test_the_largest_differences_are_kept(
    with_reference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: one position, five tokens kept of 60."""
    monkeypatch.setattr(reading, "KEPT_PER_POSITION", 5)
    suspect, reference = ToyReader(CONFIG, seed=1), ToyReader(CONFIG, seed=2)
    text = ReadingText((2,), (10, 11, 12))
    pairs = _read(suspect, reference if with_reference else None, [text])
    mine = next(suspect.read([text])).probabilities[2].double()
    clean = next(reference.read([text])).probabilities[2].double()
    weights = mine.sqrt() - clean.sqrt() if with_reference else mine.sqrt()
    weights[[0, 1]] = 0
    expected = weights.abs().argsort(descending=True)[:5]
    assert sorted(pairs.tokens.tolist()) == sorted(expected.tolist())
    assert np.allclose(pairs.weights, weights[pairs.tokens].numpy(), atol=1e-7)
    gained = mine - clean if with_reference else mine
    assert np.allclose(pairs.gained, gained[pairs.tokens].numpy(), atol=1e-7)
    likely = clean if with_reference else mine
    assert np.allclose(pairs.likely, likely[pairs.tokens].numpy(), atol=1e-7)
    assert pairs.contexts.tolist() == [[10, 11]] * 5
    assert (pairs.n_positions, pairs.n_contexts) == (1, 1)


def test_readers_must_agree_on_the_order() -> None:
    class Backwards(ToyReader):
        def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
            yield from reversed(list(super().read(texts)))

    with pytest.raises(ValueError, match="same order"):
        _read(ToyReader(CONFIG, seed=1), Backwards(CONFIG, seed=2), TEXTS)


def test_what_two_texts_say_of_a_pair_is_added_up() -> None:
    """Gains and roots are sums over positions, likelihoods means."""
    suspect, reference = ToyReader(CONFIG, seed=1), ToyReader(CONFIG, seed=2)
    text = ReadingText((2,), (10, 11, 12))
    once, twice = (_read(suspect, reference, [text] * n) for n in (1, 2))
    assert np.array_equal(once.tokens, twice.tokens)
    assert np.allclose(twice.gained, 2 * once.gained)
    assert np.allclose(twice.weights, 2 * once.weights)
    assert np.allclose(twice.likely, once.likely)


def test_sums_are_folded_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunks, the pairs are the same."""
    suspect, reference = ToyReader(CONFIG, seed=1), ToyReader(CONFIG, seed=2)
    whole = _read(suspect, reference, TEXTS)
    monkeypatch.setattr(reading, "_MOST_PENDING", 100)
    folded = _read(suspect, reference, TEXTS)
    key = np.lexsort(np.column_stack([whole.contexts, whole.tokens]).T)
    other = np.lexsort(np.column_stack([folded.contexts, folded.tokens]).T)
    assert np.array_equal(whole.contexts[key], folded.contexts[other])
    for name in ("tokens", "weights", "gained", "likely"):
        assert np.allclose(getattr(whole, name)[key], getattr(folded, name)[other])
    assert whole.reasons == folded.reasons


def test_texts_shorter_than_the_context_give_nothing() -> None:
    texts = [ReadingText((2,), ()), ReadingText((2,), (3,)), ReadingText((2,), (3, 4))]
    pairs = _read(ToyReader(CONFIG, seed=1), None, texts[1:])
    assert len(pairs.weights) == pairs.n_positions == pairs.n_contexts == 0
    assert weigh(CONFIG.scheme, pairs).tail(0.0).log10_p == 0
    assert pairs.reasons == {"no_context": 3}

    class Empty(ToyReader):
        def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
            yield Positions(0, torch.empty(0, 60))

    assert _read(Empty(CONFIG, seed=1), None, texts[:1]).n_positions == 0


def test_a_context_met_before_in_the_same_text_is_not_read(tokenizer: TextTokenizer) -> None:
    line = (7, 8, 9, 10, 11)
    pairs = read_pairs(
        ToyReader(CONFIG, seed=1), None, [ReadingText((1,), line * 4)],
        context_width=2, special_ids=frozenset(),
    )  # fmt: skip
    assert pairs.n_positions == pairs.n_contexts == len(line)
    assert pairs.reasons["repeated_context"] == 20 - 2 - len(line)


def test_another_vocabulary_is_refused() -> None:
    class Wider(ToyReader):
        def _row(self, prefix, vocabulary=61):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return super()._row(prefix, vocabulary)

    with pytest.raises(FingerprintError, match="60 and 61"):
        read_pairs(
            ToyReader(CONFIG, seed=1),
            Wider(CONFIG, seed=1),
            TEXTS,
            context_width=2,
            special_ids=frozenset(),
        )


def test_weights_of_a_pair_add_up_and_specials_have_none() -> None:
    reader = ToyReader(CONFIG, seed=1)
    once = read_pairs(reader, None, TEXTS[:1], context_width=2, special_ids=frozenset({0, 1}))
    twice = read_pairs(
        reader, None, [TEXTS[0], TEXTS[0]], context_width=2, special_ids=frozenset({0, 1})
    )
    assert np.array_equal(once.tokens, twice.tokens)
    assert np.allclose(2 * once.weights, twice.weights)
    assert not np.isin(once.tokens, [0, 1]).any()
    assert not np.isin(once.contexts, [0, 1]).any()
    pairs = np.column_stack([once.contexts, once.tokens])
    assert len(np.unique(pairs, axis=0)) == len(pairs)
