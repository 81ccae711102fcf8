"""A corpus: a result for each document, corrected for their number, and one for the pool.

The pool scores each distinct (context, token) pair of the whole corpus once, so that a thousand
copies of one marked sentence count as one.
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
from detect.finding import Finding, Plan, assess_scores, null_tail
from detect.multiplicity import holm
from detect.results import ALPHA, Tail, Verdict, decide, json_p
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import Selection, score_pairs, select_pairs
from detect.tails.nulls import log_tails
from detect.text import DIRECT_EFFECT, binding_limits
from watermark.config import WatermarkConfig
from watermark.contexts import group_rows
from watermark.errors import DocumentError
from watermark.keys import Key
from watermark.tokens import TextTokenizer, check_fingerprint
from watermark.word_sources import Pairs

__all__ = ["CorpusResult", "DocumentResult", "scan_corpus"]

_BATCH: Final = 256
_IN_EARLIER_DOCUMENT: Final = "pair_in_earlier_document"
_LIMITS: Final = (
    "A small p-value shows that the corpus depends on the key. It does not show how the marked "
    "text came into it: public text of the provider's model is a rival explanation.",
    "A large p-value shows nothing: edited, paraphrased or low-entropy text carries little of "
    "the mark, and few marked documents drown in many unmarked ones.",
)


@final
@dataclass(frozen=True)
class DocumentResult:
    """One document of a corpus.

    Attributes:
        id: its name.
        source: where it stands.
        n_tokens: its tokens.
        n_scored: distinct pairs in its own statistic.
        statistic: their summed score.
        log10_p: of the document alone.
        log10_p_holm: adjusted for the number of documents.
        verdict: by the adjusted value.
    """

    id: str
    source: str
    n_tokens: int
    n_scored: int
    statistic: float
    log10_p: float
    log10_p_holm: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "id": self.id,
            "source": self.source,
            "n_tokens": self.n_tokens,
            "n_scored": self.n_scored,
            "statistic": self.statistic,
            "p_value": json_p(self.log10_p),
            "log10_p": self.log10_p,
            "log10_p_holm": self.log10_p_holm,
            "verdict": self.verdict.value,
        }


@final
@dataclass(frozen=True)
class CorpusResult:
    """The result of a scan.

    Attributes:
        finding: the pooled test over distinct pairs.
        documents: one result each, in order.
        n_tokens: tokens of all documents.
        reasons: unscored tokens of the pool by reason.
        limits: what the result does not show.
    """

    finding: Finding
    documents: tuple[DocumentResult, ...]
    n_tokens: int
    reasons: dict[str, int]
    limits: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        significant = sum(d.verdict == Verdict.SIGNAL for d in self.documents)
        return {
            "kind": "corpus",
            **self.finding.to_dict(),
            "n_tokens": self.n_tokens,
            "n_documents": len(self.documents),
            "n_significant": significant,
            "reasons": self.reasons,
            "documents": [d.to_dict() for d in self.documents],
            "limits": list(self.limits),
        }


def scan_corpus(
    documents: Iterable[Document],
    *,
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    alpha: float = ALPHA,
    n_decoys: int = 0,
    seed: int = 0,
    score: str | None = None,
    on_document: Callable[[int], object] = lambda n_tokens: None,
) -> CorpusResult:
    """Scan a corpus for a mark.

    H0 of the pool: no document depends on the key; the scores of its distinct pairs are then
    independent with the scheme's law. H0 of a document: it does not depend on the key; Holm's
    method controls the error over all documents.

    Args:
        documents: the corpus; read once, held as pairs only.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key.
        alpha: level of a positive verdict.
        n_decoys: decoy keys for the pool; 0 for none, or `detect.decoys.AUTOMATIC`.
        seed: of the decoy keys.
        score: name of the score (`detect.scoring.scorers.SCORES`); None is the default.
        on_document: called after each document with its number of tokens.

    Returns:
        The result; an empty corpus is INCONCLUSIVE.

    Raises:
        ConfigError: the config's borders are not in the vocabulary.
        DocumentError: a document that cannot be read; names it.
        FingerprintError: the config is bound to another tokenizer.
    """
    check_fingerprint(tokenizer, config.tokenizer)
    if config.reasoning is not None:
        config.reasoning.check_vocabulary(tokenizer.vocab_size)
    scorer = choose_scorer(score, config.scheme, "direct")
    plan = Plan(config, key, alpha, DIRECT_EFFECT, n_decoys, seed, scorer)
    pool, rows = _Pool(), []
    prf = config.source.under(key)
    for document, token_ids in _tokenised(documents, tokenizer):
        selection = select_pairs(
            token_ids,
            config.context_width,
            special_ids=tokenizer.special_ids,
            drop_repeated_contexts=True,
            source=config.source,
            reasoning=config.reasoning,
        )
        scores = score_pairs(selection, config, prf, scorer)
        pool.add(selection, scores)
        rows.append(_row(document, selection, scores, plan))
        on_document(selection.n_tokens)
    finding, reasons = pool.assess(plan)
    return CorpusResult(
        finding,
        _document_results(rows, plan),
        sum(row.n_tokens for row in rows),
        reasons,
        (*_LIMITS, *binding_limits(config)),
    )


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
                yield document, _logged_ids(document, tokenizer)


def _logged_ids(document: Document, tokenizer: TextTokenizer) -> NDArray[np.int64]:
    ids = np.array(document.token_ids, np.int64)
    if ids.size and ids.max() >= tokenizer.vocab_size:
        raise DocumentError(
            f"{document.source}: token id {ids.max()} is not in the tokenizer, which has "
            f"{tokenizer.vocab_size} tokens"
        )
    return ids


@final
class _Pool:
    """Pairs and scores of all documents, in order."""

    def __init__(self) -> None:
        self._pairs: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.float64]] = []
        self._reasons: Counter[str] = Counter()

    def add(self, selection: Selection, scores: NDArray[np.float64]) -> None:
        self._pairs.append(np.column_stack([selection.contexts, selection.tokens]))
        self._scores.append(scores)
        self._reasons.update(selection.reason_counts())

    def assess(self, plan: Plan) -> tuple[Finding, dict[str, int]]:
        """Test the distinct pairs; also count the tokens left out, by reason."""
        width = plan.config.context_width + 1
        pairs = np.concatenate([np.empty((0, width), np.int64), *self._pairs])
        scores = np.concatenate([np.empty(0), *self._scores])
        rows = plan.config.source.evidence(Pairs(pairs[:, :-1], pairs[:, -1]))
        first, _ = group_rows(rows)
        finding = assess_scores(plan, pairs[first, :-1], pairs[first, -1], scores[first])
        repeats = len(pairs) - len(first)
        if repeats:
            self._reasons[_IN_EARLIER_DOCUMENT] = repeats
        return finding, dict(self._reasons)


class _Row(NamedTuple):
    """One document; `own_log10_p` where the source's layers give its null, else 0."""

    document: Document
    n_tokens: int
    n_scored: int
    statistic: float
    own_log10_p: float


def _row(document: Document, selection: Selection, scores: NDArray[np.float64], plan: Plan) -> _Row:
    statistic, own = float(scores.sum()), 0.0
    if plan.config.source.null == "layers":
        own = null_tail(plan, selection.contexts, selection.tokens, statistic).log10_p_ceiling
    return _Row(document, selection.n_tokens, len(scores), statistic, own)


def _log10_tails(rows: list[_Row], plan: Plan) -> NDArray[np.float64]:
    # Decoys are drawn for the pool only: a document alone then has no p-value, which is one of 1.
    if plan.config.source.null != "independent":
        return np.array([row.own_log10_p for row in rows])
    statistics = np.array([row.statistic for row in rows])
    n_scored = np.array([row.n_scored for row in rows], np.int64)
    return log_tails(plan.scoring.law, statistics, n_scored) / math.log(10)


def _document_results(rows: list[_Row], plan: Plan) -> tuple[DocumentResult, ...]:
    if not rows:
        return ()
    log10_p = _log10_tails(rows, plan)
    adjusted = holm(log10_p)
    is_tested = plan.config.source.null != "decoys"
    return tuple(
        DocumentResult(
            row.document.id,
            row.document.source,
            row.n_tokens,
            row.n_scored,
            row.statistic,
            float(p),
            float(p_holm),
            decide(
                Tail(float(p), float(p_holm), "exact"),
                row.n_scored,
                alpha=plan.alpha,
                n_powered=plan.n_powered,
            )
            if is_tested
            else Verdict.INCONCLUSIVE,
        )
        for row, p, p_holm in zip(rows, log10_p, adjusted, strict=True)
    )
