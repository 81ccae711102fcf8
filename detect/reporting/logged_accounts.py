"""Shows a test on the provider's logs: what the answers that each account got say, and controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from detect.reporting.bare_controls import BareControl, read_bare_controls, refuse_signal_beside
from detect.reporting.exhibits import Exhibit, Figure
from detect.reporting.fields import Fields
from detect.reporting.reader import FIRES_AT, read_log10_p
from detect.reporting.shown import count, p_value
from detect.reporting.sourced import derived, source_of
from detect.reporting.words import VERDICTS

__all__ = ["LoggedAccount", "LoggedAccounts", "read_logged_accounts"]

_MOST: Final = 200


@dataclass(frozen=True, slots=True)
class LoggedAccount:
    """What the answers that one account got say; `log10_p_adjusted` pays for all accounts."""

    name: str
    n_scored: int
    log10_p: float | None
    log10_p_adjusted: float | None
    verdict: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoggedAccounts:
    """What the template reads."""

    accounts: tuple[LoggedAccount, ...]
    n_accounts: int
    n_listed: int
    unit: str
    controls: tuple[BareControl, ...]
    fires_at: float


def read_logged_accounts(fields: Fields) -> Exhibit:
    """Read what `heirmark counterfactuals test` found.

    Args:
        fields: the result.

    Returns:
        The exhibit.

    Raises:
        ResultError: a field is missing, malformed or contradicts another.
    """
    controls = read_bare_controls(fields)
    refuse_signal_beside(fields, controls)
    rows = [_account(row) for row in fields.objects("accounts")]
    n_accounts = derived(len(rows), f"len({fields.path('accounts')})")
    n_listed = derived(min(len(rows), _MOST), f"min({source_of(n_accounts)}, {_MOST})")
    view = LoggedAccounts(
        tuple(rows[:_MOST]), n_accounts, n_listed, fields.text("unit"), controls, FIRES_AT
    )
    process = fields.inner("e_process")
    figures = [
        Figure("Logged answers", count(fields.count("n_answers")), ""),
        Figure("p-value at any time", p_value(read_log10_p(process, "log10_p")), "by bets"),
    ]
    return Exhibit("logged_accounts.html", tuple(figures), view)


def _account(row: Fields) -> LoggedAccount:
    return LoggedAccount(
        row.text("account"),
        row.count("n_scored"),
        read_log10_p(row, "log10_p"),
        read_log10_p(row, "log10_p_adjusted"),
        row.choice("verdict", VERDICTS),
        row.sentences("warnings"),
    )
