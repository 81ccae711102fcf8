"""What a finished search says: who is named, in which order, and how sure a silence is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.decoys import AUTOMATIC
from detect.key_floor import with_floor
from detect.results import Tail, Verdict, decide, format_p
from detect.tails.nulls import log_tails, tail
from detect.tracing.revoked import revoked_words
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.results import DocumentRow, FamilyControl, RankedAccount
from detect.tracing.texts.search import Listed, Search, best_tails

__all__ = ["Outcome", "conclude_search"]

# Accounts that are listed anyway.
_BEST: Final = 10


@final
@dataclass(frozen=True)
class Outcome:
    """What a search says.

    Attributes:
        tail: of the best account whose key was not revoked, with the whole search paid for.
        best: that account; None if nothing was scored, or all keys were revoked.
        ranking: all named accounts, and the best of the others, best first.
        named: numbers of the named keys, ascending.
        documents: in order.
        n_documents_named: documents that name somebody, also those not listed.
        n_searches: 1 for a document alone, 2 where documents and their pool are both searched.
        n_powered: scored pairs below which a document that names nobody means nothing.
        verdict: SIGNAL if anybody is named.
        warnings: why somebody is not, although the p-values say so; and what makes a name or a
            silence weaker than it looks.
    """

    tail: Tail
    best: RankedAccount | None
    ranking: tuple[RankedAccount, ...]
    named: list[int]
    documents: tuple[DocumentRow, ...]
    n_documents_named: int
    n_searches: int
    n_powered: int
    verdict: Verdict
    warnings: tuple[str, ...]


class _Paid(NamedTuple):
    """Tests that were made, and what they leave of the level.

    Attributes:
        n_searches: pool and documents.
        pool: tests of the pool, log10.
        documents: tests of all documents, log10; those of the pool are paid for as well.
        alpha: log10 of the family-wise level.
        floor: log10 of what is added to every adjusted p-value; -inf for our own words.
    """

    n_searches: int
    pool: float
    documents: float
    alpha: float
    floor: float

    def by_pool(self, log10_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pay for the pool's tests."""
        return with_floor(log10_p + self.pool, self.floor)

    def by_documents(self, log10_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pay for the documents' tests."""
        return with_floor(log10_p + self.documents, self.floor)


def conclude_search(
    plan: TracePlan,
    search: Search,
    control: FamilyControl | None,
    *,
    is_unread: bool = False,
) -> Outcome:
    """Name who is significant, unless the control contradicts.

    Args:
        plan: what was fixed beforehand.
        search: all of it, flushed.
        control: the search among fresh keys, if there was one.
        is_unread: whether more documents could not be read than were, or nobody knows how many.

    Returns:
        The outcome.
    """
    n_keys, n_documents = len(plan.family), max(search.n_documents, 1)
    # The pool of one document is that document.
    n_searches = 1 if n_documents == 1 else 2
    n_tests = n_searches * n_keys * n_documents
    # Of a document alone the pool is the sum, next to which its passages are looked for.
    sum_cost = plan.sum_cost if n_searches == 1 else 0.0
    paid = _Paid(
        n_searches,
        math.log10(n_searches * n_keys) + sum_cost,
        math.log10(n_tests),
        math.log10(plan.alpha),
        plan.floor,
    )
    held_back = (*_contradiction(control), *_too_many_keys(plan, paid))
    by_pool, by_documents = _pool(plan, search, paid), _documents(search, paid)
    best = np.minimum(by_pool, by_documents)
    significant = (best <= paid.alpha) & (not held_back)
    named = significant & ~plan.family.is_revoked
    ranking = _ranking(plan, search, significant, (by_pool, by_documents), paid)
    revoked = tuple(row.account for row in ranking if row.is_named_revoked)
    # Of the level the floor takes its part.
    left = 1 - 10 ** min(paid.floor - paid.alpha, -0.1)
    n_powered = plan.n_powered(n_tests * 10**plan.sum_cost / left)
    first = next((row for row in ranking if row.account.revocation is None), None)
    overall = _overall(plan, search, ranking)
    n_naming = int((paid.by_documents(search.candidate_documents) <= paid.alpha).sum())
    only_revoked = bool(revoked) and not named.any()
    is_silent = bool(held_back) or only_revoked
    verdict = _verdict(overall, search, n_powered, plan.alpha, is_held_back=is_silent)
    if is_unread and verdict == Verdict.NO_SIGNAL:
        verdict = Verdict.INCONCLUSIVE
    return Outcome(
        tail=overall,
        best=first,
        ranking=ranking,
        named=np.flatnonzero(named).tolist(),
        documents=tuple(
            _row(plan, listed, paid, n_powered, is_held_back=bool(held_back))
            for listed in search.listed
        ),
        n_documents_named=0 if held_back else n_naming,
        n_searches=n_searches,
        n_powered=n_powered,
        verdict=verdict,
        warnings=(
            *held_back,
            *revoked_words(revoked),
            *_cautions(plan, control, is_named=bool(named.any()), is_unread=is_unread),
        ),
    )


def _too_many_keys(plan: TracePlan, paid: _Paid) -> tuple[str, ...]:
    if paid.floor < paid.alpha:
        return ()
    source = plan.config.source
    return (
        f"{source.name} tells no more than 2^{source.distinct_key_bits} keys apart: some key of "
        f"{len(plan.family):,} is like a stranger's by chance (p = {format_p(paid.floor)}), so "
        f"that nobody can be named at the level {plan.alpha:g}. Search fewer keys, or at a higher "
        "level.",
    )


def _cautions(
    plan: TracePlan, control: FamilyControl | None, *, is_named: bool, is_unread: bool
) -> tuple[str, ...]:
    found = []
    if is_named and control is None and plan.n_decoys == AUTOMATIC:
        found.append(
            "There is no control, since the words of so many fresh keys would take long: each name "
            "rests on its p-value alone. --decoys 19 makes one anyway."
        )
    if is_unread:
        found.append(
            "More documents could not be read than were, or a file is damaged: the result says "
            "nothing of those."
        )
    return tuple(found)


def _contradiction(control: FamilyControl | None) -> tuple[str, ...]:
    if control is None or not control.decoys.contradicts(control.log10_p_adjusted):
        return ()
    decoys = control.decoys
    return (
        f"In {decoys.n_at_least} of {decoys.n_decoys} families of fresh keys, which nobody was "
        "served, some key fits as well as the best of this family, which its p-value "
        f"({format_p(control.log10_p_adjusted)}) rules out: some pairs are not independent. Nobody "
        "is named.",
    )


def _pool(plan: TracePlan, search: Search, paid: _Paid) -> NDArray[np.float64]:
    """Adjusted log10 p of the pool under each key; 0 below the best ones."""
    adjusted = np.zeros(len(plan.family))
    if search.n_distinct:
        top, logs = best_tails(
            plan.scorer.law, search.statistics, search.n_distinct, paid.alpha - paid.pool,
            _BEST + 1,
        )  # fmt: skip
        adjusted[top] = paid.by_pool(logs)
    return adjusted


def _documents(search: Search, paid: _Paid) -> NDArray[np.float64]:
    """Smallest adjusted log10 p of a document under each key; 0 for one that was never the best."""
    return np.where(search.best < 0, paid.by_documents(search.best), 0.0)


def _ranking(
    plan: TracePlan,
    search: Search,
    significant: NDArray[np.bool_],
    adjusted: tuple[NDArray[np.float64], NDArray[np.float64]],
    paid: _Paid,
) -> tuple[RankedAccount, ...]:
    n = search.n_distinct
    if not n:
        return ()
    keys, logs = search.candidates
    is_naming = paid.by_documents(logs) <= paid.alpha
    n_naming = np.bincount(keys[is_naming], minlength=len(plan.family))
    by_pool, by_documents = adjusted
    statistics = search.statistics
    is_revoked = plan.family.is_revoked
    # Named ones first, then those that would be named.
    place = np.where(significant, is_revoked, 2)
    order = np.lexsort((-statistics, np.minimum(by_pool, by_documents), place))
    n_shown = max(int(significant.sum()), min(_BEST, len(order)))
    order, rest = order[:n_shown], order[n_shown:]
    if is_revoked[order].all():
        # The p-value is about the best of the others.
        order = np.append(order, rest[~is_revoked[rest]][:1])
    log10_p = log_tails(plan.scorer.law, statistics[order], np.full(len(order), n)) / math.log(10)
    return tuple(
        RankedAccount(
            plan.family.accounts[key],
            float(statistics[key]),
            p,
            adjusted_p,
            int(n_naming[key]),
            float(by_documents[key]),
            bool(significant[key] and not is_revoked[key]),
            bool(significant[key] and is_revoked[key]),
            bool(search.by_passages[key]),
        )
        for key, p, adjusted_p in zip(
            order.tolist(), log10_p.tolist(), paid.by_pool(log10_p).tolist(), strict=True
        )
    )


def _overall(plan: TracePlan, search: Search, ranking: tuple[RankedAccount, ...]) -> Tail:
    rows = [row for row in ranking if row.account.revocation is None]
    if not rows:
        return Tail(0.0, 0.0, "none")
    first = min(rows, key=lambda row: min(row.log10_p_adjusted, row.log10_p_documents))
    best = min(first.log10_p_adjusted, first.log10_p_documents)
    # Listed documents do not tell: their first account may be one whose key was revoked.
    if first.by_passages and first.log10_p_documents < first.log10_p_adjusted:
        return Tail(best, best, "bound")
    method = tail(plan.scorer.law, rows[0].statistic, search.n_distinct).method
    # Where a tail is not exact, `log_tails` gives its rigorous ceiling.
    return Tail(best, best, method)


def _row(
    plan: TracePlan, listed: Listed, paid: _Paid, n_powered: int, *, is_held_back: bool
) -> DocumentRow:
    accounts = plan.family.accounts
    log10_p = listed.log10_p[0] if listed.keys else 0.0
    logs = paid.by_documents(np.array(listed.log10_p or (0.0,)))
    adjusted = float(logs[0])
    own = zip(listed.keys, logs.tolist(), strict=False)
    significant = [accounts[k] for k, p in own if p <= paid.alpha and not is_held_back]
    named = [account for account in significant if account.revocation is None]
    verdict = decide(
        Tail(adjusted, adjusted, "exact"), listed.n_scored, alpha=plan.alpha, n_powered=n_powered
    )
    if is_held_back or (significant and not named):
        verdict = Verdict.INCONCLUSIVE
    return DocumentRow(
        listed.id,
        listed.source,
        listed.n_tokens,
        listed.n_scored,
        accounts[listed.keys[0]] if listed.keys else None,
        listed.statistic,
        log10_p,
        adjusted,
        tuple(named),
        tuple(account for account in significant if account.revocation),
        verdict,
        listed.by_passages,
    )


def _verdict(
    overall: Tail, search: Search, n_powered: int, alpha: float, *, is_held_back: bool
) -> Verdict:
    """Decide; silence means something only if most documents were long enough to speak."""
    if is_held_back or not search.n_documents:
        return Verdict.INCONCLUSIVE
    typical = int(np.median(np.array(search.n_scored)))
    # A pool says SIGNAL however short its documents are.
    n = search.n_distinct if overall.log10_p <= math.log10(alpha) else typical
    return decide(overall, n, alpha=alpha, n_powered=n_powered)
