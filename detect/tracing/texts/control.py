"""The control of a search: the same search among families of fresh keys, served to nobody.

H0: what is searched depends on no key of the family. Then the best of the family's K statistics is
exchangeable with the best of each of M fresh families of K keys, and its rank has an exact p-value,
whatever the text and however the words of one key depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from detect.decoys import AUTOMATIC, DecoyResult
from detect.key_sums import key_units, whole
from detect.multiplicity import bonferroni
from detect.tails.nulls import log_tails
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.results import FamilyControl
from watermark.word_sources import Pairs

__all__ = ["affordable_families", "search_fresh_keys"]

# The best rank among so many families is 1/20; p-values far below are the exact test's business.
_LEAST, _MOST = 19, 999
# Words of our own PRF spent by default: about ten seconds on one core.
_BUDGET_WORDS: Final = 3_000_000_000
# With fewer pairs than that a search shows little.
_LEAST_PAIRS: Final = 256
# Keys tried together.
_KEYS: Final = 1 << 15


def affordable_families(n_pairs: int, n_keys: int, n_streams: int, word_cost: float) -> int:
    """Choose how many families of fresh keys are tried, by what they cost.

    Args:
        n_pairs: pairs searched.
        n_keys: keys of each family.
        n_streams: words of each pair.
        word_cost: `WordSource.word_cost`.

    Returns:
        19 to 999; 0 where even few families cost too much on few pairs, as with other engines'
        slow words under many keys.
    """
    each = n_keys * n_streams * word_cost
    if each * _LEAST * min(n_pairs, _LEAST_PAIRS) > _BUDGET_WORDS:
        return 0
    return min(max(int(_BUDGET_WORDS / max(n_pairs * each, 1)), _LEAST), _MOST)


def search_fresh_keys(
    plan: TracePlan, pairs: Pairs, on_family: Callable[[int], object] = lambda n: None
) -> FamilyControl | None:
    """Rank the best key of the family among the best of fresh families.

    Args:
        plan: what was fixed beforehand.
        pairs: distinct, in an order that no key has a part in; where all of them cost too much, the
            first ones are searched.
        on_family: called with the number of families that were tried.

    Returns:
        The rank; None if no control was asked for or can be afforded, or there are no pairs.
    """
    if not plan.n_decoys or not len(pairs.tokens):
        return None
    n_keys, source = len(plan.family), plan.config.source
    cost = n_keys * plan.scorer.n_streams * source.word_cost
    n_families = plan.n_decoys
    if n_families == AUTOMATIC:
        n_families = affordable_families(
            len(pairs.tokens), n_keys, plan.scorer.n_streams, source.word_cost
        )
    if not n_families:
        return None
    n = min(len(pairs.tokens), max(int(_BUDGET_WORDS / (cost * n_families)), _LEAST_PAIRS))
    grouped = whole(Pairs(pairs.contexts[:n], pairs.tokens[:n]))
    best = int(key_units(plan.scorer, plan.family.integers, grouped, source).max())
    found = np.empty(n_families, np.int64)
    together = max(_KEYS // n_keys, 1)
    for chunk, first in enumerate(range(0, n_families, together)):
        size = min(together, n_families - first)
        keys = source.fresh_keys(size * n_keys, plan.seed + chunk)
        units = key_units(plan.scorer, keys, grouped, source)
        found[first : first + size] = units.reshape(size, n_keys).max(axis=1)
        on_family(size)
    statistic = np.array([best * plan.step])
    log10_p = float(log_tails(plan.scorer.law, statistic, np.array([n]))[0]) / math.log(10)
    return FamilyControl(
        DecoyResult(
            n_decoys=n_families,
            n_at_least=int((found >= best).sum()),
            seed=plan.seed,
            mean=float(found.mean()) * plan.step,
            deviation=float(found.std()) * plan.step,
            n_at_most=int((found <= best).sum()),
        ),
        n_keys,
        n,
        bonferroni(log10_p, n_keys),
    )
