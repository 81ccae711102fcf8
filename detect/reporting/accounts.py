"""Shows a search for the writer: the ranking of accounts, documents by account, shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.reader import read_log10_p
from detect.reporting.share import IntervalView, read_interval
from detect.reporting.shown import Words, count, say
from detect.reporting.sourced import derived, source_of
from detect.reporting.words import VERDICTS

__all__ = [
    "AccountView",
    "AccountsView",
    "ShareRow",
    "SharesView",
    "WriterView",
    "read_accounts",
    "revoked_words",
]

_REVOKED: Final = (
    "No account is named: the key that the texts depend on was revoked, and others may know it."
)
_MOST_RANKED: Final = 100
_MOST_DOCUMENTS: Final = 200
_MOST_SHARES: Final = 60


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account in the pool and in the documents; p-values are corrected but the first.

    `revoked`: since when others may know its key, in words; "" for a key that nobody revoked.
    """

    name: str
    key_id: str
    log10_p: float | None
    log10_p_adjusted: float | None
    n_documents: int
    log10_p_documents: float | None
    is_named: bool
    is_named_revoked: bool
    revoked: str
    by_passages: bool


@dataclass(frozen=True, slots=True)
class WriterView:
    """One document, the account that fits it best, and all that it names."""

    id: str
    source: str
    account: str
    named: tuple[str, ...]
    named_revoked: tuple[str, ...]
    log10_p_adjusted: float | None
    n_scored: int
    verdict: str
    by_passages: bool


@dataclass(frozen=True, slots=True)
class ShareRow:
    """One account's interval; `key_id` is "" for the rest."""

    name: str
    key_id: str
    interval: IntervalView


@dataclass(frozen=True, slots=True)
class SharesView:
    """Shares on one axis, largest first, the rest last."""

    rows: tuple[ShareRow, ...]
    n_left_out: int
    n_scored: int
    n_documents: int
    strength: float
    n_reference: int


@dataclass(frozen=True, slots=True)
class AccountsView:
    """What the template reads; counts of what is not listed are 0 where everything is.

    `is_claimed`: False where decoys or controls hold the naming back.
    """

    ranking: tuple[AccountView, ...]
    n_keys: int
    n_unlisted: int
    documents: tuple[WriterView, ...]
    n_documents: int
    n_documents_named: int
    n_documents_listed: int
    alpha: float
    shares: SharesView | None
    is_claimed: bool


def read_accounts(fields: Fields) -> Exhibit:
    """Read what `heirmark trace text` found.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    named, n_keys = fields.sentences("named"), fields.count("n_keys")
    ranking = tuple(_account(row) for row in fields.objects("ranking"))
    if sorted(row.name for row in ranking if row.is_named) != sorted(named):
        raise fields.refusal("named", "a list of the accounts that the ranking names")
    revoked = fields.sentences("named_revoked")
    if sorted(row.name for row in ranking if row.is_named_revoked) != sorted(revoked):
        raise fields.refusal("named_revoked", "a list of the revoked keys that the ranking holds")
    if any(row.is_named and row.revoked for row in ranking):
        raise fields.refusal("named", "a list without accounts whose keys were revoked")
    is_claimed = fields.raw("verdict") == "signal"
    if is_claimed and not named:
        raise fields.refusal("named", "at least one account, since the verdict is signal")
    shown = ranking[:_MOST_RANKED]
    listed = derived(len(shown), f"min(len({fields.path('ranking')}), {_MOST_RANKED})")
    n_unlisted = derived(n_keys - listed, f"{source_of(n_keys)} - {source_of(listed)}")
    documents = _documents(fields)
    n_listed = f"min(len({fields.path('documents')}), {_MOST_DOCUMENTS})"
    view = AccountsView(
        ranking=shown,
        n_keys=n_keys,
        n_unlisted=n_unlisted,
        documents=documents,
        n_documents=fields.count("n_documents"),
        n_documents_named=fields.count("n_documents_named"),
        n_documents_listed=derived(len(documents), n_listed),
        alpha=fields.number("alpha"),
        is_claimed=is_claimed,
        shares=_shares(fields.inner("shares")) if fields.has("shares") else None,
    )
    n_named = count(derived(len(named), f"len({fields.path('named')})"))
    figures: tuple[Figure, ...] = (
        Figure("Accounts named", n_named, say("of {} keys searched", count(n_keys))),
        Figure("Documents that name one", count(view.n_documents_named),
               say("of {}", count(view.n_documents))),
    )  # fmt: skip
    if revoked:
        n_revoked = count(derived(len(revoked), f"len({fields.path('named_revoked')})"))
        figures = (
            *figures,
            Figure("Revoked keys found", n_revoked, "others may know them; not named"),
        )
    headline = _headline(named, n_named) if is_claimed else _REVOKED if revoked else None
    return Exhibit("accounts.html", figures, view, headline)


def _headline(named: Sequence[str], n_named: Words) -> Words:
    if len(named) == 1:
        return say("The evidence points to {}.", named[0])
    return say("The evidence points to {} accounts.", n_named)


def _account(row: Fields) -> AccountView:
    return AccountView(
        name=row.text("account"),
        key_id=row.text("key_id"),
        log10_p=read_log10_p(row, "log10_p"),
        log10_p_adjusted=read_log10_p(row, "log10_p_adjusted"),
        n_documents=row.count("n_documents"),
        log10_p_documents=read_log10_p(row, "log10_p_documents"),
        is_named=row.raw("named") is True,
        is_named_revoked=row.raw("named_revoked") is True,
        revoked=revoked_words(row),
        by_passages=row.raw("by_passages") is True,
    )


def revoked_words(row: Fields) -> str:
    """Say since when others may know a key, and why; "" for a key that nobody revoked."""
    if row.raw("revoked") is not True:
        return ""
    time = f" at {row.text('revoked_at')}" if row.has("revoked_at") else ""
    reason = f": {row.text('revoked_reason')}" if row.has("revoked_reason") else ""
    return f"key revoked{time}{reason}"


def _documents(fields: Fields) -> tuple[WriterView, ...]:
    documents = [
        WriterView(
            id=document.text("id"),
            source=document.text("source", ""),
            account=document.text("account", ""),
            named=document.sentences("named"),
            named_revoked=document.sentences("named_revoked"),
            log10_p_adjusted=read_log10_p(document, "log10_p_adjusted"),
            n_scored=document.count("n_scored"),
            verdict=document.choice("verdict", VERDICTS),
            by_passages=document.raw("by_passages") is True,
        )
        for document in fields.objects("documents")
    ]
    documents.sort(key=lambda d: (d.log10_p_adjusted is None, d.log10_p_adjusted or 0.0))
    return tuple(documents[:_MOST_DOCUMENTS])


def _shares(shares: Fields) -> SharesView:
    objects = shares.objects("accounts")
    top = max(
        (row.number("high") for row in [*objects, shares.inner("rest")]),
        default=1.0,
    )
    rows = [
        ShareRow(row.text("account"), row.text("key_id"), read_interval(row, top))
        for row in objects[:_MOST_SHARES]
    ]
    rest = read_interval(shares.inner("rest"), top)
    rows.append(ShareRow("everything else", "", rest))
    reference = shares.inner("reference")
    n_left_out = max(len(objects) - _MOST_SHARES, 0)
    return SharesView(
        tuple(rows),
        derived(n_left_out, f"max(len({shares.path('accounts')}) - {_MOST_SHARES}, 0)"),
        shares.count("n_scored"),
        shares.count("n_documents"),
        reference.number("strength"),
        reference.count("n_documents"),
    )
