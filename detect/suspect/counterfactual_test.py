"""The paired counterfactual test: does a suspect know the logged answers from their like?

H0, same key, fresh coins: given the key and the prompts, the suspect is independent of the coins
that the logged answers were drawn with. Alternative: it saw these very answers. The unit is the
answer, ranked by the suspect's likelihood among its counterfactuals: the ranks are independent
and uniform, so that their sum and the e-process over them are exact (`detect.suspect.ranks`).

H0, never-issued keys: the suspect is independent of the key of the logs. Alternative: it depends
on answers under that key. The unit is the key, ranked by the sum of its answers' ranks; with few
keys p cannot be small. Single answers must not be multiplied here (`detect.suspect.logs` says
why).

Assumptions: the counterfactuals come from the same model with the same settings and the same
post-processing, each logged answer was drawn with coins of its own, and all logged answers to the
chosen prompts are tested, none left out for what it says. Checked as far as can be: tokens, key
and config at drawing; here by placebos, the same test with lengths and white space in place of
likelihoods, two-sided, and by controls. One that fires stops the claim, about every account too;
without any control there is no positive claim.

Each prompt counts once, by its first answer: an exchange that was logged twice, or answered from
a cache, is one. That is a choice by prompts; to leave out an answer because its text was logged
before would be one by what was drawn. For one account, every candidate whose text another account
got is left out, logged or not: alike for both, and given the other accounts' logs. Prompts that
show a logged answer are refused. Source of the idea: STAMP (2504.13416).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.multiplicity import holm
from detect.results import CONTROL_FIRES_AT, Tail, Verdict, decide, format_p, n_needed
from detect.suspect.counterfactual_result import UNITS, AccountResult, CounterfactualResult
from detect.suspect.likelihoods import Exchange, Scores
from detect.suspect.logs import Candidates, Kind
from detect.suspect.ranks import Rank, RankSum, rank_first, sum_ranks
from watermark.errors import ResultError

__all__ = ["EFFECT", "Sources", "assess_logs", "exchanges"]

# Mean shift of a rank worth finding, in null standard deviations: 3 places of 100 on average.
EFFECT: Final = 0.1
# Shorter answers stand in prompts by chance.
_COPY_LENGTH: Final = 40
_NO_CONTROL: Final = (
    "No control model was tested, which a claim from logs needs: add at least one with --control."
)
_PLACEBOS: Final[Mapping[str, Callable[[str], float]]] = {
    "length": lambda text: float(len(text)),
    "white space at the ends": lambda text: float(len(text) - len(text.strip())),
    "line breaks": lambda text: float(text.count("\n")),
}


@final
@dataclass(frozen=True)
class Sources:
    """Where scores come from.

    Attributes:
        suspect: of the model under test, for every exchange of the candidates.
        controls: the same of models that cannot have seen the logs, by name.
    """

    suspect: Scores
    controls: Mapping[str, Scores]


class _Group(NamedTuple):
    """A logged text, first, and its counterfactuals; `file` stands for the key."""

    file: int
    account: str | None
    prompt: str
    texts: tuple[str, ...]


class _Tested(NamedTuple):
    """One rank test, and what its placebos and controls have against it."""

    found: RankSum
    n_units: int
    stops: tuple[str, ...]
    controls: tuple[tuple[str, float], ...]
    reasons: Counter[str]


def exchanges(files: Sequence[Candidates]) -> list[Exchange]:
    """List all (prompt, text) pairs that need a score, logged and counterfactual alike, sorted."""
    return sorted({(group.prompt, text) for group in _groups(files) for text in group.texts})


def assess_logs(
    files: Sequence[Candidates], sources: Sources, alpha: float
) -> CounterfactualResult:
    """Test whether a suspect knows logged answers from their counterfactuals.

    The module's docstring states H0, alternative and assumptions; the p-value is exact.

    Args:
        files: candidates of one kind, each under a key of its own.
        sources: scores of all `exchanges`, higher for what a model finds more likely.
        alpha: level.

    Returns:
        The result; with the same key also for each account that is named.

    Raises:
        ResultError: files of several kinds or twice of one key, prompts that show a logged answer,
            or a missing score.
    """
    kind = _checked(files, sources)
    groups = _groups(files)
    tested = _test(kind, groups, sources)
    if not sources.controls:
        # Other settings than the logs' shift likelihoods without a trace in lengths: only a model
        # that cannot have seen the logs tells.
        tested = tested._replace(stops=(*tested.stops, _NO_CONTROL))
    accounts = _accounts(groups, sources, alpha, tested.stops) if kind is Kind.SAME_KEY else ()
    return CounterfactualResult(
        kind=kind,
        key_ids=tuple(file.key_id for file in files),
        config=files[0].config,
        found=tested.found,
        n_scored=tested.n_units,
        n_answers=len(groups),
        verdict=_verdict(tested, tested.found.tail, alpha),
        accounts=accounts,
        controls=tested.controls,
        reasons=dict(tested.reasons),
        warnings=(*tested.stops, *_warnings(kind, files, tested, alpha)),
        alpha=alpha,
    )


def _warnings(kind: Kind, files: Sequence[Candidates], tested: _Tested, alpha: float) -> list[str]:
    warnings = []
    if tested.found.lowest > math.log10(alpha):
        warnings.append(
            f"{tested.n_units} {UNITS[kind]} with so many counterfactuals cannot give a p below "
            f"{format_p(tested.found.lowest)}; a positive verdict needs {alpha:g}."
        )
    if n := sum(file.n_unchecked for file in files):
        warnings.append(
            f"Of {n} answers key, config, tokens or sampling were not logged, and could not be "
            "compared."
        )
    return warnings


def _groups(files: Sequence[Candidates]) -> list[_Group]:
    return [
        _Group(number, answer.account, answer.prompt, (answer.text, *others))
        for number, file in enumerate(files)
        for answer, others in zip(file.answers, file.counterfactuals, strict=True)
    ]


def _test(
    kind: Kind,
    groups: Sequence[_Group],
    sources: Sources,
    foreign: frozenset[str] = frozenset(),
) -> _Tested:
    """Rank by the suspect, by each control and by each placebo."""
    kept, reasons = _scored(groups, foreign)
    ranks = _ranks(kind, kept, sources.suspect)
    if kind is Kind.SAME_KEY and len(kept) > len(ranks):
        reasons["all_scores_equal"] = len(kept) - len(ranks)
    stops = [
        f"Logged answers differ from their counterfactuals in {name} (p = {format_p(log10_p)}): "
        "they are not exchangeable, and the claim is stopped. Compare settings and post-processing."
        for name, placebo in _PLACEBOS.items()
        if (log10_p := _two_sided(kind, kept, placebo)) <= math.log10(CONTROL_FIRES_AT)
    ]
    controls = tuple(
        (Path(name).name, sum_ranks(_ranks(kind, kept, scores)).tail.log10_p)
        for name, scores in sources.controls.items()
    )
    stops += [
        f"The control {name} fires as well (p = {format_p(log10_p)}): the claim is stopped."
        for name, log10_p in controls
        if log10_p <= math.log10(CONTROL_FIRES_AT)
    ]
    return _Tested(sum_ranks(ranks), len(ranks), tuple(stops), controls, reasons)


def _scored(groups: Sequence[_Group], foreign: frozenset[str]) -> tuple[list[_Group], Counter[str]]:
    """Keep one answer for each key and prompt, and no text that is foreign."""
    first: dict[tuple[int, str], _Group] = {}
    for group in groups:
        first.setdefault((group.file, group.prompt), group)
    own = [group for group in first.values() if group.texts[0] not in foreign]
    reasons = {
        "prompt_answered_before": len(groups) - len(first),
        "another_account_got_it": len(first) - len(own),
    }
    kept = [g._replace(texts=tuple(t for t in g.texts if t not in foreign)) for g in own]
    return kept, Counter({name: n for name, n in reasons.items() if n})


def _two_sided(kind: Kind, groups: Sequence[_Group], placebo: Callable[[str], float]) -> float:
    """Log10 p of a placebo, twice the smaller side."""
    pairs = {(g.prompt, text): placebo(text) for g in groups for text in g.texts}
    sides = (pairs, {pair: -value for pair, value in pairs.items()})
    smaller = min(sum_ranks(_ranks(kind, groups, side)).tail.log10_p for side in sides)
    return min(smaller + math.log10(2), 0.0)


def _ranks(kind: Kind, groups: Iterable[_Group], scores: Scores) -> list[Rank]:
    """Rank each unit's logged answers; units whose scores are all equal say nothing."""
    values = [(g.file, [scores[g.prompt, text] for text in g.texts]) for g in groups]
    if kind is Kind.NEVER_ISSUED:
        values = list(enumerate(_sums_of_keys(values)))
    return [rank for _, row in values if (rank := rank_first(row)).is_informative]


def _sums_of_keys(rows: Sequence[tuple[int, list[float]]]) -> list[list[float]]:
    """For each key, of the logs and of its copies: the sum of ranks within prompts."""
    sums: dict[int, NDArray[np.int64]] = {}
    for key, row in rows:
        values = np.array(row)
        below = (values[:, None] > values).sum(axis=1) - (values[:, None] < values).sum(axis=1)
        sums[key] = sums.get(key, 0) + below
    return [total.tolist() for total in sums.values()]


def _verdict(tested: _Tested, tail: Tail, alpha: float) -> Verdict:
    if tested.stops:
        return Verdict.INCONCLUSIVE
    return decide(tail, tested.n_units, alpha=alpha, n_powered=n_needed(EFFECT, alpha))


def _accounts(
    groups: Sequence[_Group], sources: Sources, alpha: float, stops: tuple[str, ...]
) -> tuple[AccountResult, ...]:
    """Test each account by itself, and pay for all of them; the smallest p first.

    What stops the claim about all logs stops it about each account.
    """
    holders: dict[str, set[str | None]] = {}
    for group in groups:
        holders.setdefault(group.texts[0], set()).add(group.account)
    names = sorted({group.account for group in groups if group.account is not None})
    tested = []
    for name in names:
        foreign = frozenset(text for text, own in holders.items() if own != {name})
        own = [group for group in groups if group.account == name]
        by_itself = _test(Kind.SAME_KEY, own, sources, foreign)
        tested.append(by_itself._replace(stops=(*stops, *by_itself.stops)))
    adjusted = holm(np.array([t.found.tail.log10_p_ceiling for t in tested])).tolist()
    results = [
        AccountResult(
            account=name,
            n_scored=t.n_units,
            log10_p=t.found.tail.log10_p,
            log10_p_adjusted=p,
            verdict=_verdict(t, Tail(p, p, t.found.tail.method), alpha),
            warnings=t.stops,
        )
        for name, t, p in zip(names, tested, adjusted, strict=True)
    ]
    return tuple(sorted(results, key=lambda result: result.log10_p))


def _checked(files: Sequence[Candidates], sources: Sources) -> Kind:
    kinds = {file.kind for file in files}
    if len(kinds) != 1:
        raise ResultError("expected files of one kind of counterfactuals, at least one")
    if len({file.key_id for file in files}) < len(files):
        raise ResultError("two files are of the same key; draw for all its answers at once")
    needed = exchanges(files)
    for scores in (sources.suspect, *sources.controls.values()):
        if missing := [pair for pair in needed if pair not in scores]:
            raise ResultError(
                f"{len(missing)} answers have no score, the first of them to the prompt "
                f"{missing[0][0][:60]!r}; score the logged and the counterfactual ones"
            )
    _refuse_shown(_groups(files))
    return kinds.pop()


def _refuse_shown(groups: Sequence[_Group]) -> None:
    """Refuse logs in which a prompt shows a logged answer: its counterfactuals led nowhere."""
    prompts = "\0".join(group.prompt for group in groups)
    ends = np.cumsum([len(group.prompt) + 1 for group in groups])
    for number, group in enumerate(groups, 1):
        text = group.texts[0]
        if len(text) >= _COPY_LENGTH and (place := prompts.find(text)) >= 0:
            shown = int(np.searchsorted(ends, place, side="right")) + 1
            raise ResultError(
                f"the prompt of logged answer {shown} shows logged answer {number}; with another "
                "answer the prompt would have been another. Leave such prompts out, as in the "
                "later turns of a conversation"
            )
