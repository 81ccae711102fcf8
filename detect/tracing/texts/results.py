"""The result of a search for the writer: a ranking for the pool, a row a document, who is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from detect.decoys import DecoyResult
from detect.fraction.interval import FractionInterval, Strength
from detect.results import Tail, Verdict, json_p
from detect.scanning.results import Deduplication, LeftOut
from detect.tracing.texts.families import Account
from watermark.config import WatermarkConfig

__all__ = [
    "AccountShare",
    "DocumentRow",
    "FamilyControl",
    "RankedAccount",
    "Shares",
    "TraceResult",
]

# Files not read that are named; all are counted.
_N_NAMED: Final = 5


@final
@dataclass(frozen=True, slots=True)
class RankedAccount:
    """One account, in the pool and in the documents.

    Attributes:
        account: whose.
        statistic: summed score of the pool's pairs under its key.
        log10_p: of the pool under this key alone.
        log10_p_adjusted: for all keys searched, and for looking at pool and documents both.
        n_documents: documents that name it.
        log10_p_documents: smallest adjusted value of a document that was best under this key, or
            named it; 0 if none was.
        is_named: whether pool or documents name it at the family-wise level.
        is_named_revoked: whether they would, if its key had not been revoked: others may have
            written the text.
        by_passages: whether `log10_p_documents` is a p-value of passages (a bound), not of a sum.
    """

    account: Account
    statistic: float
    log10_p: float
    log10_p_adjusted: float
    n_documents: int
    log10_p_documents: float
    is_named: bool
    is_named_revoked: bool = False
    by_passages: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            **_shown(self.account),
            "statistic": self.statistic,
            "p_value": json_p(self.log10_p),
            "log10_p": self.log10_p,
            "log10_p_adjusted": self.log10_p_adjusted,
            "n_documents": self.n_documents,
            "log10_p_documents": self.log10_p_documents,
            "named": self.is_named,
            "named_revoked": self.is_named_revoked,
            "by_passages": self.by_passages,
            **_revoked(self.account),
        }


def _shown(account: Account) -> dict[str, Any]:
    labels = account.labels.to_dict() if account.labels else None
    return {"account": account.name, "labels": labels, "key_id": account.key_id}


def _revoked(account: Account) -> dict[str, Any]:
    revocation = account.revocation
    return {
        "revoked": revocation is not None,
        "revoked_at": revocation.at if revocation else None,
        "revoked_reason": revocation.reason if revocation else None,
    }


@final
@dataclass(frozen=True, slots=True)
class DocumentRow:
    """One document and the account that fits it best.

    Attributes:
        id: its name.
        source: where it stands.
        n_tokens: its tokens.
        n_scored: distinct pairs in its statistics.
        best: the best account; None if nothing was scored.
        statistic: summed score under the best account's key.
        log10_p: under this key alone; with passages, for looking at them and at the sum.
        log10_p_adjusted: for all keys and documents, and for looking at the pool too.
        named: all accounts that the document names, best first.
        named_revoked: accounts that it would name, if their keys had not been revoked.
        verdict: SIGNAL if it names any.
        by_passages: whether the best account's p-value is that of passages (a bound), not that of
            the sum (exact).
    """

    id: str
    source: str
    n_tokens: int
    n_scored: int
    best: Account | None
    statistic: float
    log10_p: float
    log10_p_adjusted: float
    named: tuple[Account, ...]
    named_revoked: tuple[Account, ...]
    verdict: Verdict
    by_passages: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "id": self.id,
            "source": self.source,
            "n_tokens": self.n_tokens,
            "n_scored": self.n_scored,
            "account": self.best.name if self.best else None,
            "key_id": self.best.key_id if self.best else None,
            "statistic": self.statistic,
            "p_value": json_p(self.log10_p),
            "log10_p": self.log10_p,
            "log10_p_adjusted": self.log10_p_adjusted,
            "named": [account.name for account in self.named],
            "named_revoked": [account.name for account in self.named_revoked],
            "verdict": self.verdict.value,
            "by_passages": self.by_passages,
        }


@final
@dataclass(frozen=True, slots=True)
class FamilyControl:
    """The same search among families of fresh keys, which nobody was served under.

    Attributes:
        decoys: where the family's best statistic ranks among the best of each fresh family.
        n_keys: keys of each family.
        n_sampled: pairs that were searched: those with the least hashes, if not all.
        log10_p_adjusted: of the best of the family's keys on these pairs.
    """

    decoys: DecoyResult
    n_keys: int
    n_sampled: int
    log10_p_adjusted: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "n_decoys": self.decoys.n_decoys,
            "n_keys": self.n_keys,
            "n_at_least": self.decoys.n_at_least,
            "rank": self.decoys.n_at_least + 1,
            "p_value": self.decoys.p_value,
            "n_sampled": self.n_sampled,
            "log10_p_adjusted": self.log10_p_adjusted,
            "seed": self.decoys.seed,
        }


@final
@dataclass(frozen=True, slots=True)
class AccountShare:
    """An account's share of the corpus's scored tokens."""

    account: Account
    interval: FractionInterval

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**_shown(self.account), **self.interval.to_dict()}


@final
@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the named accounts, and of all that is not theirs.

    Attributes:
        accounts: largest first.
        rest: unmarked, or of accounts that are not named.
        strength: what marked text scores, from the reference.
        n_scored: tokens that the shares are of, each context in one document.
        n_documents: documents with such tokens.
    """

    accounts: tuple[AccountShare, ...]
    rest: FractionInterval
    strength: Strength
    n_scored: int
    n_documents: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "accounts": [share.to_dict() for share in self.accounts],
            "rest": self.rest.to_dict(),
            "reference": self.strength.to_dict(),
            "n_scored": self.n_scored,
            "n_documents": self.n_documents,
        }


@final
@dataclass(frozen=True)
class TraceResult:
    """Who wrote it, as far as the keys tell.

    Attributes:
        config: the deployment.
        score_name: what was added up.
        tail: of the best account whose key was not revoked, with the whole search paid for.
        best: that account; None if nothing was scored, or all keys were revoked.
        n_scored: distinct pairs of the pool.
        n_powered: scored pairs below which a document that names nobody means nothing.
        verdict: SIGNAL if anybody is named.
        alpha: family-wise level.
        n_keys: keys searched.
        n_searches: 1 for a document alone, 2 where documents and their pool are both searched.
        piece_tokens: documents were cut into pieces of so many tokens, each a document here; None
            if they were not.
        with_passages: whether documents were also searched for passages of an account.
        ranking: all named accounts, and the best of the others, best first.
        documents: in order; of a large corpus those with the smallest p-values.
        n_documents: how many were read.
        n_documents_named: documents that name somebody.
        n_tokens: of all documents.
        reasons: unscored tokens of the pool by reason.
        deduplication: of the pool.
        left_out: documents that could not be read.
        files_not_read: files of the folder whose endings are none of a corpus.
        control: the search among fresh keys, if there was one.
        shares: if there was a reference.
        seed: of fresh keys and of the shares' order of documents.
        warnings: why a verdict was held back, if it was.
        limits: what the result does not show.
    """

    config: WatermarkConfig
    score_name: str
    tail: Tail
    best: RankedAccount | None
    n_scored: int
    n_powered: int
    verdict: Verdict
    alpha: float
    n_keys: int
    n_searches: int
    piece_tokens: int | None
    with_passages: bool
    ranking: tuple[RankedAccount, ...]
    documents: tuple[DocumentRow, ...]
    n_documents: int
    n_documents_named: int
    n_tokens: int
    reasons: dict[str, int]
    deduplication: Deduplication
    left_out: LeftOut
    files_not_read: tuple[str, ...]
    control: FamilyControl | None
    shares: Shares | None
    seed: int
    warnings: tuple[str, ...]
    limits: tuple[str, ...]

    @property
    def named(self) -> tuple[RankedAccount, ...]:
        """Accounts that are named at the family-wise level, best first."""
        return tuple(row for row in self.ranking if row.is_named)

    @property
    def named_revoked(self) -> tuple[RankedAccount, ...]:
        """Accounts that would be named, if others had not known their keys; best first."""
        return tuple(row for row in self.ranking if row.is_named_revoked)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        return {
            "kind": "trace_text",
            "p_value": json_p(self.tail.log10_p),
            "log10_p": self.tail.log10_p,
            "log10_p_ceiling": self.tail.log10_p_ceiling,
            "method": self.tail.method,
            "statistic": self.best.statistic if self.best else 0.0,
            "n_scored": self.n_scored,
            "verdict": self.verdict.value,
            "alpha": self.alpha,
            "n_powered": self.n_powered,
            "scheme": self.config.scheme.name,
            "score": self.score_name,
            "context_width": self.config.context_width,
            "key_id": self.best.account.key_id if self.best else None,
            "config_fingerprint": self.config.fingerprint,
            "n_keys": self.n_keys,
            "n_searches": self.n_searches,
            "piece_tokens": self.piece_tokens,
            "with_passages": self.with_passages,
            "named": [row.account.name for row in self.named],
            "named_revoked": [row.account.name for row in self.named_revoked],
            "ranking": [row.to_dict() for row in self.ranking],
            "documents": [row.to_dict() for row in self.documents],
            "n_tokens": self.n_tokens,
            "n_documents": self.n_documents,
            "n_documents_named": self.n_documents_named,
            "shares": self.shares.to_dict() if self.shares else None,
            "decoys": self.control.to_dict() if self.control else None,
            "reasons": self.reasons,
            "deduplication": self.deduplication.to_dict(),
            "left_out": self.left_out.to_dict(),
            "files_not_read": {
                "n": len(self.files_not_read),
                "examples": list(self.files_not_read[:_N_NAMED]),
            },
            "seed": self.seed,
            "curve": None,
            "warnings": list(self.warnings),
            "limits": list(self.limits),
        }
