"""Whose key? One text tested under many keys, paid for by their number.

H0 of a key: the text is independent of it; its p-value is then exact. With Bonferroni over
all keys that could have been named, the chance that any wrong key is named is at most alpha,
however the keys' statistics depend on each other. Keys that were not searched cannot be named.
Where another engine's hash merges keys, the search is refused among keys that are alike, and the
adjusted p-values have a floor (`detect.unlike_keys`).
This is the library's search of one text; `detect.tracing.texts` searches families of accounts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from detect.decoys import decoy_statistics
from detect.key_floor import key_floor, with_floor
from detect.key_sums import is_fused, key_units, whole
from detect.scoring.score_tables import Scorer
from detect.scoring.scores import Selection, refuse_dependent_words
from detect.scoring.units import score_step
from detect.tails.nulls import log_tails
from detect.unlike_keys import refuse_like_keys
from watermark.errors import ResultError
from watermark.keys import Key
from watermark.prf import NATIVE
from watermark.word_sources import Pairs, WordSource

__all__ = ["Attribution", "FoundKey", "attribute", "prf_keys"]


@final
@dataclass(frozen=True, slots=True)
class FoundKey:
    """One key that the text points to, in the library's search of one text.

    Attributes:
        index: which of the keys.
        log10_p: of this key alone.
        log10_p_adjusted: for the number of keys searched; not below their floor.
    """

    index: int
    log10_p: float
    log10_p_adjusted: float


@final
@dataclass(frozen=True, slots=True)
class Attribution:
    """What a search over keys found.

    Attributes:
        named: keys with an adjusted p-value of at most alpha, best first; empty if there is none.
        best: the best key, named or not.
        n_keys: keys searched.
        n_scored: pairs in each statistic.
        alpha: family-wise level.
    """

    named: tuple[FoundKey, ...]
    best: FoundKey
    n_keys: int
    n_scored: int
    alpha: float


def prf_keys(keys: Sequence[Key], source: WordSource = NATIVE) -> NDArray[np.uint64]:
    """Derive the PRF keys of many secrets, once for all texts.

    Args:
        keys: the secrets.
        source: what makes the words.

    Returns:
        uint64, shape (N, n_key_integers). As secret as the keys themselves.
    """
    return np.stack([source.key_of(key) for key in keys])


def attribute(
    selection: Selection,
    scorer: Scorer,
    keys: NDArray[np.uint64],
    *,
    alpha: float,
    source: WordSource = NATIVE,
) -> Attribution:
    """Search the key that marked a text among many.

    Args:
        selection: the text's scored pairs; they depend on the text alone.
        scorer: what scores words.
        keys: uint64, shape (N, n_key_integers), all keys that could be named (`prf_keys`).
        alpha: family-wise level.
        source: what makes the words.

    Returns:
        The keys that the text points to.

    Raises:
        ConfigError: a mark whose words are dependent; two keys of the same words, or nearly.
        ResultError: no keys.
    """
    refuse_dependent_words(source)
    if not len(keys):
        raise ResultError("no keys to search; give at least one")
    refuse_like_keys(
        keys,
        source,
        n_streams=scorer.n_streams,
        context_width=selection.contexts.shape[1],
        name=lambda row: f"key {row}",
    )
    n, law = selection.n_scored, scorer.law
    sums = _sums(selection, scorer, keys, source)
    log10_p = log_tails(law, sums, np.full(len(keys), n)) / math.log(10)
    order = np.argsort(log10_p, kind="stable")
    # Bonferroni's method; and a writer whose key is not among these may have one like one of them.
    adjusted = with_floor(log10_p + math.log10(len(keys)), key_floor(source, len(keys)))

    def named(index: int) -> FoundKey:
        return FoundKey(index, float(log10_p[index]), float(adjusted[index]))

    n_named = int((adjusted <= math.log10(alpha)).sum())
    found = [named(int(i)) for i in order[:n_named]]
    return Attribution(tuple(found), named(int(order[0])), len(keys), n, alpha)


def _sums(
    selection: Selection, scorer: Scorer, keys: NDArray[np.uint64], source: WordSource
) -> NDArray[np.float64]:
    contexts, tokens = selection.contexts, selection.tokens
    if is_fused(scorer, source):
        units = key_units(scorer, keys, whole(Pairs(contexts, tokens)), source)[0]
        sums: NDArray[np.float64] = units.astype(np.float64) * score_step(scorer)
        return sums
    centred = decoy_statistics(scorer, keys, contexts, tokens, source=source)
    return centred + len(tokens) * scorer.law.mean
