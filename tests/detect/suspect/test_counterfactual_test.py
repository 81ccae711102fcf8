"""Ranks of logged answers: who is accused by which kind, and what stops a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from detect.results import Verdict
from detect.suspect.counterfactual_test import Sources, assess_logs, exchanges
from detect.suspect.logs import Candidates, Kind, LoggedAnswer
from watermark.config import preset
from watermark.errors import DocumentError, ResultError

Row = tuple[str, str | None, Sequence[str]]


def _file(rows: Sequence[Row], kind: Kind = Kind.SAME_KEY, key_id: str = "hm1-a") -> Candidates:
    return Candidates(
        kind=kind,
        key_id=key_id,
        config=preset("default"),
        settings={},
        answers=tuple(LoggedAnswer(prompt, texts[0], account) for prompt, account, texts in rows),
        counterfactuals=tuple(tuple(texts[1:]) for _, _, texts in rows),
        n_unchecked=0,
    )


def _words(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(["net", "sea", "boat", "lamp", "rope", "wind"], 12))


def _rows(n: int, others: int, seed: int = 0, account: str | None = None) -> list[Row]:
    rng = np.random.default_rng(seed)
    name = f"{account} {seed}"
    return [(f"{name} {i}", account, [_words(rng) for _ in range(1 + others)]) for i in range(n)]


def _scores(files: Sequence[Candidates], seed: int, seen: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    """An innocent's scores of texts at random; those of texts that were seen are higher."""
    rng = np.random.default_rng(seed)
    return {pair: rng.normal() + 2.5 * (pair[1] in seen) for pair in exchanges(files)}


def _assess(files: list[Candidates], suspect: Any, controls: Any = None) -> Any:
    controls = {"base": _scores(files, 99)} if controls is None else controls
    return assess_logs(files, Sources(suspect, controls), 1e-6)


def test_a_suspect_that_saw_the_answers_is_found_and_an_innocent_is_not() -> None:
    files = [_file(_rows(60, 9))]
    seen = {answer.text for answer in files[0].answers}
    guilty, innocent = (_assess(files, _scores(files, 1, s)) for s in (seen, set()))
    assert guilty.verdict == Verdict.SIGNAL
    assert guilty.found.process.log10_p < -6
    payload = guilty.to_dict()
    assert payload["unit"] == "answers"
    assert "coins" in payload["null_hypothesis"]
    assert (payload["n_scored"], payload["n_answers"], payload["key_id"]) == (60, 60, "hm1-a")
    assert innocent.found.tail.log10_p > -3
    assert innocent.verdict == Verdict.INCONCLUSIVE


def test_the_account_whose_answers_were_seen_is_named_and_no_other() -> None:
    rows = [row for name in "abcde" for row in _rows(40, 9, ord(name), name)]
    files = [_file(rows)]
    seen = {answer.text for answer in files[0].answers if answer.account == "c"}
    result = _assess(files, _scores(files, 1, seen))
    assert result.accounts[0].account == "c"
    assert result.accounts[0].verdict == Verdict.SIGNAL
    assert result.accounts[0].log10_p_adjusted == pytest.approx(
        result.accounts[0].log10_p + np.log10(5)
    )
    assert all(account.log10_p_adjusted > -2 for account in result.accounts[1:])


def test_an_account_does_not_answer_for_texts_that_another_got() -> None:
    """Answers from a cache: what was seen through one account accuses both, but for the rule."""
    mine = _rows(40, 9, 1, "a")
    cached = [(f"again {i}", "b", [row[2][0], *_rows(1, 9, 50 + i)[0][2][1:]])
              for i, row in enumerate(mine)]  # fmt: skip
    files = [_file([*mine, *cached])]
    seen = {row[2][0] for row in mine}
    result = _assess(files, _scores(files, 1, seen))
    assert [account.n_scored for account in result.accounts] == [0, 0]
    assert all(account.verdict == Verdict.INCONCLUSIVE for account in result.accounts)


def test_an_exchange_logged_many_times_counts_once() -> None:
    rows = _rows(3, 9)
    seen = {row[2][0] for row in rows}
    once, often = [_file(rows)], [_file(rows * 30)]
    suspect = _scores(once, 1, seen)
    result = _assess(often, suspect)
    assert result.found == _assess(once, suspect).found
    assert result.reasons == {"prompt_answered_before": 87}


def _shared_words(n_prompts: int, n_worlds: int, seed: int) -> list[Row]:
    """Logs under one key and copies under others: each key fixes one word of all its answers."""
    rng = np.random.default_rng(seed)
    habit = rng.choice(["soon", "then", "once", "late"], n_worlds + 1)
    return [
        (f"prompt {i}", None, [f"{word} {_words(rng)}" for word in habit]) for i in range(n_prompts)
    ]


def test_answers_under_one_key_are_no_independent_units_of_never_issued_keys() -> None:
    """An innocent that likes one word is accused if they are; the key as unit accuses nobody."""
    accused = {kind: 0 for kind in Kind}
    for seed in range(20):
        rows = _shared_words(40, 19, seed)
        for kind in Kind:
            files = [_file(rows, kind)]
            likes = {p: float("late" in p[1]) + s for p, s in _scores(files, seed).items()}
            result = assess_logs(files, Sources(likes, {}), 1e-6)
            accused[kind] += result.found.tail.log10_p <= -4
    assert accused[Kind.SAME_KEY] >= 2
    assert accused[Kind.NEVER_ISSUED] == 0


def test_never_issued_keys_need_several_keys() -> None:
    files = [_file(_rows(30, 19, seed=i), Kind.NEVER_ISSUED, f"hm1-{i}") for i in range(6)]
    seen = {answer.text for file in files for answer in file.answers}
    suspect = _scores(files, 1, seen)
    one, six = _assess(files[:1], suspect), _assess(files, suspect)
    assert one.found.tail.p_value == pytest.approx(1 / 20)
    assert one.verdict == Verdict.INCONCLUSIVE
    assert any("cannot give a p below 0.05" in warning for warning in one.warnings)
    assert six.found.tail.p_value == pytest.approx(20.0**-6)
    assert six.verdict == Verdict.SIGNAL
    assert six.to_dict()["unit"] == "keys"
    assert not six.accounts


def test_innocent_ranks_have_uniform_p_values() -> None:
    """100 innocents; one-sided Kolmogorov-Smirnov at 1e-6."""
    files = [_file(_rows(12, 6))]
    p = np.sort(
        [_assess(files, _scores(files, seed), {}).found.tail.p_value for seed in range(100)]
    )
    assert (np.arange(1, 101) / 100 - p).max() < (np.log(1e6) / 200) ** 0.5


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda text: text[: len(text) // 2], "length"),
        (lambda text: text + "\n", "white space at the ends"),
        (lambda text: text.replace(" ", "\n", 1), "line breaks"),
    ],
)
def test_logs_that_were_edited_stop_the_claim(edit: Any, name: str) -> None:
    """An innocent that likes what the edit leaves would be accused."""
    rows = [(p, a, [edit(texts[0]), *texts[1:]]) for p, a, texts in _rows(40, 9)]
    files = [_file(rows)]
    likes = {(p, t): float(t in {r[2][0] for r in rows}) for p, t in exchanges(files)}
    result = _assess(files, likes)
    assert result.found.tail.log10_p < -6
    assert result.verdict == Verdict.INCONCLUSIVE
    assert any(f"counterfactuals in {name}" in warning for warning in result.warnings)


def test_answers_chosen_for_what_they_say_stop_the_claim_by_their_control() -> None:
    files = [_file(_rows(60, 9))]
    chosen = _scores(files, 1, {answer.text for answer in files[0].answers})
    result = _assess(files, chosen, {"base": chosen})
    assert result.verdict == Verdict.INCONCLUSIVE
    assert "control base fires" in result.warnings[0]


def test_what_stops_the_logs_stops_every_account() -> None:
    """Twenty accounts whose own controls are too small to fire: the pooled one does."""
    rows = [row for i in range(20) for row in _rows(6, 19, seed=i, account=f"account {i}")]
    files = [_file(rows)]
    shifted = _scores(files, 1, {answer.text for answer in files[0].answers})
    slightly = {pair: score + 0.6 * (score > 2) for pair, score in shifted.items()}
    noise = _scores(files, 2)
    control = {pair: noise[pair] + 0.25 * slightly[pair] for pair in noise}
    result = _assess(files, shifted, {"base": control})
    assert result.verdict == Verdict.INCONCLUSIVE
    assert min(account.log10_p_adjusted for account in result.accounts) < -4
    assert {account.verdict for account in result.accounts} == {Verdict.INCONCLUSIVE}
    assert all("control base fires" in account.warnings[0] for account in result.accounts)


def test_without_a_control_there_is_no_claim() -> None:
    files = [_file(_rows(60, 9, account="a"))]
    result = _assess(files, _scores(files, 1, {a.text for a in files[0].answers}), {})
    assert result.found.tail.log10_p < -6
    assert result.verdict == Verdict.INCONCLUSIVE
    assert result.accounts[0].verdict == Verdict.INCONCLUSIVE


def test_what_breaks_a_rule_is_refused() -> None:
    rows = _rows(4, 3)
    files = [_file(rows)]
    scores = _scores(files, 1)
    with pytest.raises(ResultError, match="of one kind"):
        _assess([*files, _file(rows, Kind.NEVER_ISSUED, "hm1-b")], scores)
    with pytest.raises(ResultError, match="same key"):
        _assess([files[0], files[0]], scores)
    with pytest.raises(ResultError, match="have no score"):
        _assess(files, dict(list(scores.items())[1:]), {})
    talk = [*rows, (f"You said: {rows[1][2][0]} Why?", None, rows[0][2])]
    with pytest.raises(ResultError, match="logged answer 5 shows logged answer 2"):
        _assess([_file(talk)], _scores([_file(talk)], 1))
    with pytest.raises(DocumentError, match="as many counterfactuals"):
        _file([*rows, ("x", None, ["a", "b"])])
