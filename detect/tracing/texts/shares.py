"""Shares of a mixed corpus by account, with intervals; and the rest that is nobody's who is named.

The estimates are those of `detect.fraction.interval`, each account's under its own key: text of all
others is unmarked under it. Of the named accounts together the summed scores tell the share: what
is unmarked has the null variance of as many scores, what one of them marked that of all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.documents import Document
from detect.finding import Plan
from detect.fraction.contexts import one_document_each
from detect.fraction.estimate import strength_of
from detect.fraction.interval import FractionInterval, Strength, Units, estimate_fraction
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Selection
from detect.text import DIRECT_EFFECT
from detect.tracing.texts.families import Account
from detect.tracing.texts.plans import TracePlan
from detect.tracing.texts.results import AccountShare, Shares
from watermark.errors import ConfigError
from watermark.keys import Key
from watermark.tokens import TextTokenizer
from watermark.word_sources import Pairs

__all__ = ["LEVEL", "CorpusPairs", "Reference", "measure_reference", "share_out", "shares_of"]

LEVEL: Final = 0.95


class Reference(NamedTuple):
    """What marked text scores, and the score that it was measured with.

    Attributes:
        strength: of the provider's own marked answers, under any key of the config.
        scorer: made for tokens of which few are marked.
        level: confidence level of the intervals.
    """

    strength: Strength
    scorer: Scorer
    level: float = LEVEL


def measure_reference(
    documents: Iterable[Document],
    key: Key,
    tokenizer: TextTokenizer,
    plan: TracePlan,
    level: float = LEVEL,
) -> Reference:
    """Measure how strongly the deployment marks.

    Args:
        documents: the provider's own marked answers, none of them in the corpus.
        key: under which they were marked.
        tokenizer: the provider's.
        plan: of the search.
        level: confidence level of the intervals.

    Returns:
        The reference.

    Raises:
        ConfigError: a config without context, in which each distinct token counts once, whoever
            wrote it.
        DocumentError: a document that cannot be read, or a reference without a clear mark.
    """
    config = plan.config
    if config.context_width == 0:
        raise ConfigError("shares need a context width of at least 1; leave out --reference")
    scorer = choose_scorer(plan.score, config.scheme, "inherited")
    measured = Plan(config, key, plan.alpha, DIRECT_EFFECT, 0, plan.seed, scorer)
    return Reference(strength_of(documents, tokenizer, measured), scorer, level)


@final
@dataclass
class CorpusPairs:
    """Scored pairs of all documents, held in memory: 8 bytes a token of context and pair."""

    rows: list[NDArray[np.int64]]
    n_documents: int = 0

    def add(self, selection: Selection) -> None:
        """Add a document."""
        number = np.full(selection.n_scored, self.n_documents)
        self.rows.append(np.column_stack([selection.contexts, selection.tokens, number]))
        self.n_documents += 1


def share_out(
    plan: TracePlan, reference: Reference, corpus: CorpusPairs, named: Sequence[int]
) -> Shares | None:
    """Estimate the shares of the named accounts and of the rest.

    Approximate, as `estimate_fraction` is; an account is named by exact tests, never by its share.

    Args:
        plan: of the search.
        reference: what marked text scores.
        corpus: scored pairs of all documents.
        named: numbers of the named accounts.

    Returns:
        The shares; None if nobody is named.
    """
    if not named:
        return None
    rows = np.concatenate(corpus.rows)
    source = plan.config.source
    kept = one_document_each(rows[:, :-1], rows[:, -1], corpus.n_documents, source, plan.seed)
    chosen = _Chosen(
        Pairs(np.ascontiguousarray(rows[kept, :-2]), rows[kept, -2]),
        np.unique(rows[kept, -1], return_inverse=True)[1],
    )
    accounts = [plan.family.accounts[number] for number in named]
    scores = (_centred(plan, reference.scorer, chosen.pairs, number) for number in named)
    return shares_of(accounts, scores, chosen.document, reference)


def shares_of(
    accounts: Sequence[Account],
    scores: Iterable[NDArray[np.float64]],
    document: NDArray[np.int64],
    reference: Reference,
) -> Shares:
    """Estimate shares from scores.

    Args:
        accounts: the named ones, at least one.
        scores: of each account float64, shape (n,), score - null mean of every pair under its key.
        document: int64, shape (n,), the document of each pair, numbered without gaps.
        reference: what marked text scores.

    Returns:
        The shares.
    """
    total, shares = np.zeros(len(document)), []
    for account, centred in zip(accounts, scores, strict=True):
        total += centred
        shares.append(AccountShare(account, _estimate(document, centred, reference, 1)))
    together = _estimate(document, total, reference, len(accounts))
    shares.sort(key=lambda share: -share.interval.estimate)
    rest = FractionInterval(
        1 - together.estimate, 1 - together.high, 1 - together.low, together.level
    )
    n_documents = int(document.max(initial=-1)) + 1
    return Shares(tuple(shares), rest, reference.strength, len(document), n_documents)


class _Chosen(NamedTuple):
    """Pairs, and the document of each, numbered without gaps."""

    pairs: Pairs
    document: NDArray[np.int64]


def _centred(plan: TracePlan, scorer: Scorer, pairs: Pairs, number: int) -> NDArray[np.float64]:
    source, key = plan.config.source, plan.family.integers[number]
    hashes = source.context_hashes(key, pairs.contexts)
    streams = range(scorer.n_streams)
    words = np.stack([source.words(key, hashes, pairs.tokens, stream) for stream in streams])
    centred: NDArray[np.float64] = scorer.score(words) - scorer.law.mean
    return centred


def _estimate(
    document: NDArray[np.int64], centred: NDArray[np.float64], reference: Reference, n_keys: int
) -> FractionInterval:
    """Estimate the share of tokens marked under any of `n_keys` keys, from their summed scores."""
    counts = np.bincount(document)
    sums, squares = np.zeros((2, len(counts)))
    np.add.at(sums, document, centred)
    np.add.at(squares, document, centred**2)
    units = Units(counts, sums, squares)
    null, strength = reference.scorer.law.variance, reference.strength
    # A token marked under one key is unmarked under the others, whose scores vary as before.
    varied = replace(strength, token_variance=strength.token_variance + (n_keys - 1) * null)
    return estimate_fraction(units, varied, null_variance=n_keys * null, level=reference.level)
