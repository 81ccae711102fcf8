"""Keys that make the same words, or nearly: no text and no model can tell their owners apart.

Every search among several keys comes through here before it looks. Other engines' hashes merge keys
whose integers differ. So the words of some hundred fixed pairs are made under every key and
compared. The correlation of two keys with independent words has a standard deviation of
1 / sqrt(n), n words; the family is refused if that of two keys is so large that chance reaches it
in one of 10^9 families (by the normal tail: 7 of these deviations for two keys, 9 for 25,000).
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.key_floor import key_floor
from watermark.contexts import group_rows
from watermark.errors import ConfigError
from watermark.word_sources import Pairs, WordSource

__all__ = ["NEAR_KEYS", "refuse_like_keys"]

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
# Tokens of sources that take every id.
_IDS: Final = 1 << 15
# Families that were compared before, by a hash that says nothing of them outside of this process.
_SALT: Final = secrets.token_bytes(16)
_UNLIKE: Final[deque[bytes]] = deque(maxlen=64)


class _Alike(NamedTuple):
    first: int
    second: int
    share: float


class _Family(NamedTuple):
    """Keys as one search takes them: integers, uint64, shape (K, n_key_integers)."""

    integers: NDArray[np.uint64]
    source: WordSource
    n_streams: int
    context_width: int

    @property
    def digest(self) -> bytes:
        shape = (self.source, self.n_streams, self.context_width, self.integers.shape)
        return blake2b(repr(shape).encode() + self.integers.tobytes(), key=_SALT).digest()


def refuse_like_keys(
    integers: NDArray[np.uint64],
    source: WordSource,
    *,
    n_streams: int,
    context_width: int,
    name: Callable[[int], str],
) -> None:
    """Refuse keys of which the words of two agree far beyond chance.

    Keys of 128 bits and more are not looked at; a family that passed is not compared again.

    Args:
        integers: uint64, shape (K, n_key_integers).
        source: what makes the words.
        n_streams: words of each pair that are scored.
        context_width: tokens of a context.
        name: what an error calls a key, by its row: "the key of 'a-17'".

    Raises:
        ConfigError: names the two.
    """
    if key_floor(source) == -math.inf or len(integers) < 2:
        return
    family = _Family(integers, source, n_streams, context_width)
    if (digest := family.digest) in _UNLIKE:
        return
    words = _words(family, _fixed_pairs(family))
    if found := _equal(words) or (_near(words) if len(words) <= NEAR_KEYS else None):
        what = "makes the same words as" if found.share == 1 else "makes nearly the words of"
        raise ConfigError(
            f"{name(found.second)} {what} {name(found.first)} (correlation {found.share:.2f} in "
            f"{source.name}, whose hash merges keys); nothing tells the two apart. Leave one out, "
            "and mark under another key from now on"
        )
    _UNLIKE.append(digest)


def _fixed_pairs(family: _Family) -> Pairs:
    """Draw pairs that are evidence of different things."""
    source, n_keys = family.source, len(family.integers)
    cost = n_keys * family.n_streams * source.word_cost
    affordable = min(_BUDGET_WORDS / cost, _BUDGET_PRODUCTS / n_keys**2)
    n = min(max(int(affordable), _LEAST_PAIRS), _MOST_PAIRS)
    ids = np.setdiff1d(np.arange(getattr(source, "vocab_size", _IDS)), sorted(source.unkeyed_ids))
    rng, width = np.random.default_rng(_SEED), family.context_width
    drawn = source.canonical(Pairs(rng.choice(ids, (2 * n, width)), rng.choice(ids, 2 * n)))
    kept = np.sort(group_rows(np.ascontiguousarray(source.evidence(drawn)))[0])[:n]
    return Pairs(np.ascontiguousarray(drawn.contexts[kept]), drawn.tokens[kept])


def _words(family: _Family, pairs: Pairs) -> NDArray[np.float32]:
    """Standardise the words of every key, shape (K, n)."""
    integers, streams = family.integers, family.n_streams
    n = len(pairs.tokens)
    rows = np.arange(n)
    found = np.empty((len(integers), streams * n), np.float32)
    for start in range(0, len(integers), _BLOCK):
        some = slice(start, start + _BLOCK)
        words = family.source.words_for_keys(
            integers[some], pairs.contexts, rows, pairs.tokens, streams
        )
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
