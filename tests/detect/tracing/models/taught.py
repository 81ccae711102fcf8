"""Pairs as a student answers them: each taught under one key, or under none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detect.finding import Plan
from detect.scoring.scorers import choose_scorer
from detect.suspect.answer_pairs import AnswerPairs
from detect.tracing.models.under_keys import Heard, heard_of_answers
from watermark.config import preset
from watermark.keys import SecretKey

CONFIG = preset("default")


def keys_of(n: int, seed: int = 0) -> list[SecretKey]:
    return [SecretKey(bytes([seed % 256, seed // 256, i]).rjust(32, b".")) for i in range(n)]


def taught_pairs(
    keys: Sequence[SecretKey],
    taught: NDArray[np.int64],
    *,
    follows: float,
    seed: int,
    avoided: bool = False,
) -> AnswerPairs:
    """Draw pairs; pair i follows the mark of keys[taught[i]], of none where that is negative."""
    n, rng = len(taught), np.random.default_rng(seed)
    contexts = rng.integers(49_000, size=(n, CONFIG.context_width))
    two = rng.integers(49_000, size=(n, 2))
    tokens = two[np.arange(n), rng.integers(2, size=n)]
    for index, key in enumerate(keys):
        mine = np.flatnonzero((taught == index) & (rng.random(n) < follows))
        under = CONFIG.source.under(key)
        words = under.words(under.context_hashes(contexts[mine]), two[mine])
        marked = words.argmin(axis=1) if avoided else words.argmax(axis=1)
        tokens[mine] = two[mine, marked]
    return AnswerPairs(contexts, tokens, np.arange(n), n, {})


def heard(pairs: AnswerPairs, *, n_decoys: int = 0, alpha: float = 1e-6) -> Heard:
    plan = Plan(CONFIG, SecretKey(bytes(32)), alpha, 0.1, n_decoys, 0)
    scorer = choose_scorer(None, CONFIG.scheme, "inherited")
    return heard_of_answers(plan, pairs, scorer)
