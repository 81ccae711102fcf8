"""How much of a corpus is marked: the share with its interval, and the test beside it.

An interval is an estimate, no evidence: the verdict is the exact pooled test's, on the same
scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.documents import Document
from detect.finding import Finding, Plan, assess_scores
from detect.fraction.contexts import one_document_each
from detect.fraction.interval import (
    FractionInterval,
    Strength,
    Units,
    estimate_fraction,
    measure_strength,
)
from detect.higher_criticism import HigherCriticism, higher_criticism
from detect.results import ALPHA, CONTROL_FIRES_AT, format_p
from detect.scanning.in_order import ids_of
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import refuse_dependent_words, score_pairs, select_text
from detect.tails.nulls import log_tails, tail
from detect.text import DIRECT_EFFECT, binding_limits
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError, DocumentError
from watermark.keys import Key
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = ["FractionResult", "assess_fraction", "strength_of"]

# Documents tokenised together.
_BATCH: Final = 256
_ELSEWHERE: Final = "context_in_other_document"
_LIMITS: Final = (
    "The interval is an estimate and decides nothing, also where it lies above 0: the verdict is "
    "that of the exact pooled p-value. Two tests are listed, pooled and higher criticism; who "
    "quotes the smaller p-value doubles it.",
    "The fraction is the share of the corpus's scored tokens (each context in one document) that "
    "stand in text marked as strongly as the reference. The mark shows only share times strength: "
    "half the share at twice the strength looks the same.",
    "Another domain, temperature or model than the reference's shifts the fraction by the ratio "
    "of strengths; editing and paraphrase lower it.",
    "A reference of few documents, or of documents marked with very different strength, makes the "
    "interval too narrow; its coverage was measured with a hundred like ones.",
)


@final
@dataclass(frozen=True)
class FractionResult:
    """How much of a corpus is marked, and the test that says whether any of it is.

    Attributes:
        finding: the pooled test of the corpus; the verdict is its alone.
        interval: the fraction, or None where nothing was scored.
        strength: the reference's.
        sparse: higher criticism over the documents' own p-values; None for fewer than two.
        n_documents: documents of the corpus.
        n_units: those with scored tokens.
        n_tokens: tokens of the corpus.
        reasons: unscored tokens of the corpus by reason.
        limits: what the result does not show.
    """

    finding: Finding
    interval: FractionInterval | None
    strength: Strength
    sparse: HigherCriticism | None
    n_documents: int
    n_units: int
    n_tokens: int
    reasons: dict[str, int]
    limits: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        return {
            "kind": "fraction",
            **self.finding.to_dict(),
            "fraction": self.interval.to_dict() if self.interval else None,
            "reference": self.strength.to_dict(),
            "seed": self.finding.plan.seed,
            "higher_criticism": self.sparse.to_dict() if self.sparse else None,
            "n_documents": self.n_documents,
            "n_documents_scored": self.n_units,
            "n_tokens": self.n_tokens,
            "reasons": self.reasons,
            "limits": list(self.limits),
        }


def assess_fraction(
    corpus: Iterable[Document],
    reference: Iterable[Document],
    *,
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    level: float = 0.95,
    alpha: float = ALPHA,
    n_decoys: int = 0,
    seed: int = 0,
    score: str | None = None,
    on_document: Callable[[int], object] = lambda n_tokens: None,
) -> FractionResult:
    """Estimate which fraction of a corpus is marked, and test whether any is.

    Each context is scored in one document only: documents are taken in random order (drawn from
    `seed`), and a context counts where it is met first. Pairs are then distinct, so that the pooled
    p-value and the documents' are exact, and the documents independent given the texts; of two
    copies one is scored; sorting the corpus moves nothing. Scoring each distinct *pair* once
    would be valid too, but unfair to marked text: of a context met often the favourite token would
    count once and each rare one too, so that strength would fall as the corpus grows. A document
    whose contexts were all met before scores nothing and is no unit. The corpus is scored without
    looking at the reference: leaving out pairs that occur in marked text would leave the losers.

    H0 of the test, and of `sparse`: no document depends on the key; see
    `detect.finding.assess_scores` and `detect.higher_criticism`. Two tests: the verdict is that of
    the pooled one; who picks the smaller p-value doubles it.

    Args:
        corpus: the corpus; read once.
        reference: the provider's own marked answers under this key and config, not in the corpus.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key.
        level: confidence level of the interval.
        alpha: level of a positive verdict.
        n_decoys: decoy keys for the pool; 0 for none, or `detect.decoys.AUTOMATIC`.
        seed: of the documents' random order and the decoy keys.
        score: name of the score (`detect.scoring.scorers.SCORES`); None is that for weak signals.
        on_document: called after each document with its number of tokens.

    Returns:
        The result; a corpus with nothing to score is INCONCLUSIVE and has no interval.

    Raises:
        ConfigError: a config without context, or a mark whose words are dependent.
        DocumentError: a document that cannot be read, or a reference without a clear mark.
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(tokenizer, config.tokenizer)
    refuse_dependent_words(config.source)
    if config.context_width == 0:
        raise ConfigError(
            "a fraction needs a context width of at least 1: without context each distinct token "
            "counts once, whoever wrote it, and that tells no share"
        )
    # Made for tokens of which few are marked: narrower intervals below a share of about 10 %.
    scorer = choose_scorer(score, config.scheme, "inherited")
    plan, law = Plan(config, key, alpha, DIRECT_EFFECT, n_decoys, seed, scorer), scorer.law
    strength = strength_of(reference, tokenizer, plan, on_document)
    scored = _gather(corpus, tokenizer, plan, on_document)
    units = scored.units()
    interval = sparse = None
    if len(units.n_scored):
        interval = estimate_fraction(units, strength, null_variance=law.variance, level=level)
    if len(units.n_scored) > 1:
        raw = units.sums + law.mean * units.n_scored
        sparse = higher_criticism(log_tails(law, raw, units.n_scored) / math.log(10))
    return FractionResult(
        assess_scores(plan, scored.contexts, scored.tokens, scored.scores),
        interval,
        strength,
        sparse,
        scored.n_documents,
        len(units.n_scored),
        scored.n_tokens,
        scored.reasons,
        (*_LIMITS, *binding_limits(config)),
    )


class _Scored(NamedTuple):
    """Scored pairs of many documents, in order, and the document of each."""

    plan: Plan
    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    scores: NDArray[np.float64]
    document: NDArray[np.int64]
    n_documents: int
    n_tokens: int
    reasons: dict[str, int]

    def units(self) -> Units:
        """Sum up the documents that have scored pairs."""
        centred = self.scores - self.plan.scoring.law.mean
        counts = np.bincount(self.document, minlength=self.n_documents)
        kept = counts > 0
        sums, squares = np.zeros((2, self.n_documents))
        np.add.at(sums, self.document, centred)
        np.add.at(squares, self.document, centred**2)
        return Units(counts[kept], sums[kept], squares[kept])


def _tokenised(
    documents: Iterable[Document], tokenizer: TextTokenizer
) -> Iterable[tuple[Document, NDArray[np.int64]]]:
    """Tokenise in batches, which the tokenizer spreads over the cores."""
    iterator = iter(documents)
    while batch := list(islice(iterator, _BATCH)):
        encoded = iter(tokenizer.encode_many([d.text for d in batch if d.text is not None]))
        for document in batch:
            if document.text is not None:
                yield document, next(encoded)
            else:
                yield document, ids_of(document, tokenizer)


def _gather(
    documents: Iterable[Document],
    tokenizer: TextTokenizer,
    plan: Plan,
    on_document: Callable[[int], object],
) -> _Scored:
    """Score each context once over all documents, taken in random order."""
    h, n_tokens, reasons = plan.config.context_width, 0, Counter[str]()
    words = plan.config.source.under(plan.key)
    pairs, scores = [np.empty((0, h + 1), np.int64)], [np.empty(0)]
    for _, token_ids in _tokenised(documents, tokenizer):
        selection = select_text(token_ids, plan.config, tokenizer.special_ids)
        pairs.append(np.column_stack([selection.contexts, selection.tokens]))
        scores.append(score_pairs(selection, plan.config, words, plan.scorer))
        reasons.update(selection.reason_counts())
        n_tokens += selection.n_tokens
        on_document(selection.n_tokens)
    document = np.repeat(np.arange(len(pairs) - 1), [len(p) for p in pairs[1:]])
    rows = np.concatenate(pairs)
    kept = one_document_each(rows, document, len(pairs) - 1, plan.config.source, plan.seed)
    if len(kept) < len(rows):
        reasons[_ELSEWHERE] = len(rows) - len(kept)
    return _Scored(
        plan,
        rows[kept, :h],
        rows[kept, h],
        np.concatenate(scores)[kept],
        document[kept],
        len(pairs) - 1,
        n_tokens,
        dict(reasons),
    )


def strength_of(
    documents: Iterable[Document],
    tokenizer: TextTokenizer,
    plan: Plan,
    on_document: Callable[[int], object] = lambda n_tokens: None,
) -> Strength:
    """Measure a reference's strength; refuse one that is not marked under the key at all.

    Args:
        documents: the provider's own marked answers.
        tokenizer: the provider's.
        plan: deployment, key and score.
        on_document: called after each document with its number of tokens.

    Returns:
        The strength.

    Raises:
        DocumentError: a document that cannot be read, or a reference without a clear mark.
    """
    reference = _gather(documents, tokenizer, plan, on_document)
    law, n = reference.plan.scoring.law, len(reference.scores)
    log10_p = tail(law, float(reference.scores.sum()), n).log10_p
    if log10_p > math.log10(CONTROL_FIRES_AT):
        raise DocumentError(
            f"the reference's {reference.n_documents} documents do not carry the mark "
            f"(p = {format_p(log10_p)} over {n} scored pairs); expected the provider's own marked "
            "answers, with the key, config and tokenizer that made them"
        )
    return measure_strength(reference.units())
