"""A corpus: a result for each document, corrected for their number, and one for the pool.

The pool scores each distinct (context, token) pair of the whole corpus once, so that a thousand
copies of one marked sentence count as one. Here a corpus that fits into memory; larger ones, and
`heirmark scan`, are in `detect.scanning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, final

import numpy as np

from detect.documents import Document
from detect.finding import Plan
from detect.results import ALPHA
from detect.scanning.parts import Bad
from detect.scanning.plans import ScanPlan, sample_size
from detect.scanning.pool import add_pools, pool_groups
from detect.scanning.results import CorpusResult, DocumentResult
from detect.scanning.scanner import Located, Scanner
from detect.scanning.summary import HeldPart, finalise
from detect.text import DIRECT_EFFECT
from watermark.config import WatermarkConfig
from watermark.errors import DocumentError
from watermark.keys import Key
from watermark.tokens import TextTokenizer, check_fingerprint

__all__ = ["CorpusResult", "DocumentResult", "scan_corpus"]

_BATCH: Final = 256


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
    """Scan a corpus for a mark; see `detect.scanning.summary.finalise` for the tests.

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
    config.check_vocabulary(tokenizer.vocab_size)
    key_integers = config.source.key_of(key)
    scan = ScanPlan(config, key_integers, score, seed, sample_size(config, n_decoys))
    plan = Plan(config, key, alpha, DIRECT_EFFECT, n_decoys, seed, scan.scorer)
    scanner, parts = Scanner(scan, tokenizer), []
    sources: list[str] = []
    iterator = iter(documents)
    while batch := list(islice(iterator, _BATCH)):
        located = [_located(document, len(sources) + i) for i, document in enumerate(batch)]
        sources += [document.source for document in batch]
        part = scanner.scan(located)
        if part.examples:
            first = part.examples[0]
            raise DocumentError(_Named(sources).message(first), reason=first.reason)
        for n_tokens in part.documents.n_tokens.tolist():
            on_document(n_tokens)
        parts.append(part)
    held = HeldPart(scanner.merge(parts))
    pool = add_pools([held.pool], pool_groups([held.pool]))
    return finalise([held], pool, plan=plan, scan=scan, naming=lambda lines: _Named(sources))


def _located(document: Document, place: int) -> Located:
    ids = None if document.text is not None else np.array(document.token_ids, np.int64)
    return Located(0, place, document.id, document.text, ids)


@final
@dataclass(frozen=True)
class _Named:
    """Documents know where they stand."""

    sources: list[str]

    def source(self, piece: int, place: int) -> str:
        return self.sources[place]

    def message(self, bad: Bad) -> str:
        return bad.message.replace("{document}", self.sources[bad.place], 1)
