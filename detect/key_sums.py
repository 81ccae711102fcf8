"""Sums of scores of the same pairs under very many keys, in whole units: who of 25,000?

Our own words with a score that can be looked up go through one compiled kernel, which keeps no
word; all others through `WordSource.words_for_keys`, some keys at a time. The sums are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.score_tables import Scorer
from detect.scoring.units import lookup_of, score_units
from watermark.kernels.grouped_pairs import GroupedPairs
from watermark.prf import NATIVE, NativePrf
from watermark.word_sources import Pairs, WordSource

__all__ = ["group_pairs", "is_fused", "key_units", "whole"]

# Below this many words numpy is done before numba has been imported (0.5 s).
_COMPILE_FROM: Final = 500_000
# Words of one chunk of keys: keeps memory near 110 MB (one key's words at the least).
_CHUNK_WORDS: Final = 1 << 22
# Words of one call of the kernel, a second or two: no Ctrl-C is heard meanwhile. Enough keys for
# many cores.
_CALL_WORDS: Final = 1 << 29
_CALL_KEYS: Final = 1 << 11
_MAX_SUM: Final = (1 << 31) - 1
_MAX_ID: Final = (1 << 32) - 1


def group_pairs(pairs: Pairs, sums: NDArray[np.int64], n_sums: int) -> GroupedPairs:
    """Group pairs by their context, so that each context is hashed and each word made once.

    Args:
        pairs: in any order, with repeats.
        sums: int64, shape (n,), the sum that each adds to, in [0, n_sums).
        n_sums: how many sums there are.

    Returns:
        The same pairs; one that stands there twice for one sum adds twice.
    """
    rows = np.column_stack([*pairs, sums])
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    new = np.ones((2, len(rows)), np.bool_)
    new[0, 1:] = (rows[1:, :-2] != rows[:-1, :-2]).any(axis=1)
    new[1, 1:] = new[0, 1:] | (rows[1:, -2] != rows[:-1, -2])
    pair_at = np.flatnonzero(new[1])
    context_at = np.flatnonzero(new[0])
    return GroupedPairs(
        rows[context_at, :-2],
        np.append(np.searchsorted(pair_at, context_at), len(pair_at)),
        rows[pair_at, -2],
        np.append(pair_at, len(rows)),
        rows[:, -1],
        n_sums,
    )


def whole(pairs: Pairs) -> GroupedPairs:
    """Group pairs that all add to one sum."""
    return group_pairs(pairs, np.zeros(len(pairs.tokens), np.int64), 1)


def is_fused(scorer: Scorer, source: WordSource) -> bool:
    """Tell whether words and scores of many keys come from the compiled kernel."""
    return isinstance(source, NativePrf) and lookup_of(scorer) is not None


def key_units(
    scorer: Scorer, keys: NDArray[np.uint64], pairs: GroupedPairs, source: WordSource = NATIVE
) -> NDArray[np.int64]:
    """Add up scores under each of many keys.

    Args:
        scorer: what scores words.
        keys: uint64, shape (K, n_key_integers).
        pairs: what is scored, and the sums that it adds to.
        source: what makes the words.

    Returns:
        int64, shape (n_sums, K), in units (`detect.scoring.units`).

    Raises:
        ConfigError: an id outside [0, 2^32).
    """
    n_words = len(keys) * len(pairs.tokens) * scorer.n_streams
    if n_words < _COMPILE_FROM or not is_fused(scorer, source):
        return _by_words(scorer, keys, pairs, source)
    # The kernel trusts its ids; the slow path refuses the same ones.
    ids = (pairs.tokens, pairs.contexts)
    if any(x.min(initial=0) < 0 or x.max(initial=0) > _MAX_ID for x in ids):
        return _by_words(scorer, keys[:1], pairs, source)
    from watermark.kernels import numba_keys

    lookup = lookup_of(scorer)
    assert lookup is not None
    total = np.zeros((pairs.n_sums, len(keys)), np.int64)
    each = max(len(pairs.tokens) * scorer.n_streams, 1)
    size = max(_CALL_WORDS // each // _CALL_KEYS, 1) * _CALL_KEYS
    for part in _cut(pairs, _MAX_SUM // lookup.largest):
        for first in range(0, len(keys), size):
            some = slice(first, first + size)
            total[:, some] += numba_keys.key_sums(keys[some], part, lookup)
    return total


def _cut(pairs: GroupedPairs, most: int) -> Iterator[GroupedPairs]:
    """Cut pairs into parts of so few that no sum overflows; hardly ever more than one."""
    if len(pairs.sums) <= most:
        yield pairs
        return
    contexts = np.repeat(np.arange(len(pairs.contexts)), np.diff(pairs.pair_starts))
    each = np.repeat(np.arange(len(pairs.tokens)), np.diff(pairs.sum_starts))
    for start in range(0, len(pairs.sums), most):
        part = slice(start, start + most)
        rows = Pairs(pairs.contexts[contexts[each[part]]], pairs.tokens[each[part]])
        yield group_pairs(rows, pairs.sums[part], pairs.n_sums)


def _by_words(
    scorer: Scorer, keys: NDArray[np.uint64], pairs: GroupedPairs, source: WordSource
) -> NDArray[np.int64]:
    n_streams, n = scorer.n_streams, len(pairs.tokens)
    contexts = np.repeat(np.arange(len(pairs.contexts)), np.diff(pairs.pair_starts))
    each = np.repeat(np.arange(n), np.diff(pairs.sum_starts))
    order = np.argsort(pairs.sums, kind="stable")
    columns, rows = each[order], pairs.sums[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    total = np.zeros((pairs.n_sums, len(keys)), np.int64)
    if not n:
        return total
    size = max(_CHUNK_WORDS // (n * n_streams), 1)
    for first in range(0, len(keys), size):
        part = slice(first, first + size)
        words = source.words_for_keys(
            keys[part], np.ascontiguousarray(pairs.contexts), contexts, pairs.tokens, n_streams
        )
        flat = words.transpose(1, 0, 2).reshape(n_streams, -1)
        units = score_units(scorer, flat).reshape(len(words), -1)[:, columns]
        total[rows[starts], part] = np.add.reduceat(units, starts, axis=1, dtype=np.int64).T
    return total
