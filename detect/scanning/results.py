"""The result of a scan: one line a document, one finding for the pool, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

from detect.finding import Finding
from detect.results import Verdict, json_p
from detect.scanning.parts import DAMAGED

__all__ = ["CorpusResult", "Deduplication", "DocumentResult", "LeftOut"]


@final
@dataclass(frozen=True, slots=True)
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


class Deduplication(NamedTuple):
    """How equal pairs of different documents were found.

    Attributes:
        n_pairs: scored pairs of all documents.
        n_distinct: those in the pool's statistic.
        n_sampled: those with the least hashes, which decoy keys were tried on; 0 for none.
    """

    n_pairs: int
    n_distinct: int
    n_sampled: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "method": "exact over 64-bit hashes",
            "n_pairs": self.n_pairs,
            "n_dropped": self.n_pairs - self.n_distinct,
            "expected_collisions": self.n_distinct**2 / 2**65,
            "n_sampled": self.n_sampled,
        }


# Files not read that are named; all are counted.
_N_NAMED: Final = 5


class LeftOut(NamedTuple):
    """What could not be read: numbers by reason, and the messages of the first.

    A file that is damaged is none of the documents: how many it has beyond the damage nobody knows.
    """

    reasons: Mapping[str, int]
    examples: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        reasons = {name: n for name, n in sorted(self.reasons.items()) if name != DAMAGED}
        return {
            "n_documents": sum(reasons.values()),
            "reasons": reasons,
            "n_damaged_files": self.reasons.get(DAMAGED, 0),
            "examples": list(self.examples),
        }


@final
@dataclass(frozen=True)
class CorpusResult:
    """The result of a scan.

    Attributes:
        finding: the pooled test over distinct pairs.
        documents: one result each, in order; of a large corpus those with the smallest p-values.
        n_documents: how many were scanned.
        n_significant: of all documents.
        n_tokens: tokens of all documents.
        reasons: unscored tokens of the pool by reason.
        deduplication: of the pool.
        left_out: documents that could not be read.
        files_not_read: files of the folder whose endings are none of a corpus.
        limits: what the result does not show.
    """

    finding: Finding
    documents: tuple[DocumentResult, ...]
    n_documents: int
    n_significant: int
    n_tokens: int
    reasons: dict[str, int]
    deduplication: Deduplication
    left_out: LeftOut = field(default_factory=lambda: LeftOut({}, ()))
    limits: tuple[str, ...] = ()
    files_not_read: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        return {
            "kind": "corpus",
            **self.finding.to_dict(),
            "n_tokens": self.n_tokens,
            "n_documents": self.n_documents,
            "n_significant": self.n_significant,
            "reasons": self.reasons,
            "deduplication": self.deduplication.to_dict(),
            "left_out": self.left_out.to_dict(),
            "files_not_read": {
                "n": len(self.files_not_read),
                "examples": list(self.files_not_read[:_N_NAMED]),
            },
            "documents": [d.to_dict() for d in self.documents],
            "limits": list(self.limits),
        }
