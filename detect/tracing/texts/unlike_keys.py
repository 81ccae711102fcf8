"""Keys of one family that make the same words, or nearly: no text can tell their accounts apart.

Other engines' hashes merge keys whose integers differ. So the words of some hundred fixed pairs are
made under every key and compared. The correlation of two keys with independent words has a standard
deviation of 1 / sqrt(n), n words; the family is refused if that of two keys is so large that chance
reaches it in one of 10^9 families (by the normal tail: 7 of these deviations for two keys, 9 for
25,000).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.key_floor import key_floor
from detect.tracing.texts.plans import TracePlan
from watermark.contexts import group_rows
from watermark.errors import ConfigError
from watermark.word_sources import Pairs, WordSource

__all__ = ["NEAR_KEYS", "floor_of", "refuse_like_keys"]

_LEAST_PAIRS, _MOST_PAIRS = 400, 4096
# Words of our own PRF, which so many pairs may cost; the least number is tried anyway.
_BUDGET_WORDS: Final = 1_000_000_000
# Products of words that comparing every key with every other may take: some ten seconds.
_BUDGET_PRODUCTS: Final = 300_000_000_000
# Beyond so many keys only equal words are looked for: all pairs of keys would take minutes.
NEAR_KEYS: Final = 50_000
_FAMILIES_REFUSED_BY_CHANCE: Final = 1e-9
# Few pairs, as a small vocabulary gives them, show equal words only.
_EQUAL: Final = 0.99
_BLOCK: Final = 1024
_SEED: Final = 0


class _Alike(NamedTuple):
    first: int
    second: int
    share: float


def floor_of(plan: TracePlan) -> float:
    """Bound from below what may be said of a whole family, log10.

    A key drawn at random has the words of a given other key with probability 2^-bits. So where
    somebody marked a text whose key is not in the family, some key of the family is taken for it
    with up to K 2^-bits, whatever the text's own p-value says.

    Args:
        plan: of the search.

    Returns:
        log10(K 2^-bits); -inf for 128 bits and more.
    """
    return key_floor(plan.config.source, len(plan.family))


def refuse_like_keys(plan: TracePlan, vocab_size: int) -> None:
    """Refuse a family in which the words of two keys agree far beyond chance.

    Args:
        plan: of the search.
        vocab_size: of the tokenizer.

    Raises:
        ConfigError: names the two accounts.
    """
    family, source = plan.family, plan.config.source
    if key_floor(source) == -math.inf or len(family) < 2:
        return
    words = _words(plan, _fixed_pairs(source, plan, vocab_size))
    if found := _equal(words) or (_near(words) if len(words) <= NEAR_KEYS else None):
        one, other = (family.accounts[i].name for i in (found.first, found.second))
        what = "makes the same words as" if found.share == 1 else "makes nearly the words of"
        raise ConfigError(
            f"the key of {other!r} {what} that of {one!r} (correlation {found.share:.2f} in "
            f"{source.name}, whose hash merges keys); no text tells the two apart. Leave one out, "
            "and mark under another key from now on"
        )


def _fixed_pairs(source: WordSource, plan: TracePlan, vocab_size: int) -> Pairs:
    """Draw pairs that are evidence of different things."""
    cost = len(plan.family) * plan.scorer.n_streams * source.word_cost
    affordable = min(_BUDGET_WORDS / cost, _BUDGET_PRODUCTS / len(plan.family) ** 2)
    n = min(max(int(affordable), _LEAST_PAIRS), _MOST_PAIRS)
    size = min(vocab_size, getattr(source, "vocab_size", vocab_size))
    ids = np.setdiff1d(np.arange(size), sorted(source.unkeyed_ids))
    rng, width = np.random.default_rng(_SEED), plan.config.context_width
    drawn = source.canonical(Pairs(rng.choice(ids, (2 * n, width)), rng.choice(ids, 2 * n)))
    kept = np.sort(group_rows(np.ascontiguousarray(source.evidence(drawn)))[0])[:n]
    return Pairs(np.ascontiguousarray(drawn.contexts[kept]), drawn.tokens[kept])


def _words(plan: TracePlan, pairs: Pairs) -> NDArray[np.float32]:
    """Standardise the words of every key, shape (K, n)."""
    source, integers, streams = plan.config.source, plan.family.integers, plan.scorer.n_streams
    n = len(pairs.tokens)
    rows = np.arange(n)
    found = np.empty((len(integers), streams * n), np.float32)
    for start in range(0, len(integers), _BLOCK):
        some = slice(start, start + _BLOCK)
        words = source.words_for_keys(integers[some], pairs.contexts, rows, pairs.tokens, streams)
        table = words.reshape(len(words), -1).astype(np.float64)
        table -= table.mean(axis=1, keepdims=True)
        lengths = np.sqrt((table**2).sum(axis=1, keepdims=True))
        found[some] = table / np.where(lengths > 0, lengths, 1)
    return found


def _equal(words: NDArray[np.float32]) -> _Alike | None:
    first: dict[bytes, int] = {}
    for number, row in enumerate(words):
        if (other := first.setdefault(row.tobytes(), number)) != number:
            return _Alike(other, number, 1.0)
    return None


def _near(words: NDArray[np.float32]) -> _Alike | None:
    n_keys, n = words.shape
    deviations = math.sqrt(2 * math.log(n_keys**2 / _FAMILIES_REFUSED_BY_CHANCE))
    limit = min(deviations / math.sqrt(max(n, 1)), _EQUAL)
    for start in range(0, n_keys, _BLOCK):
        for other in range(start, n_keys, _BLOCK):
            table = words[other : other + _BLOCK] @ words[start : start + _BLOCK].T
            if other == start:
                table = np.tril(table, -1)
            if table.max() > limit:
                second, first = np.unravel_index(int(table.argmax()), table.shape)
                return _Alike(start + int(first), other + int(second), float(table.max()))
    return None
