"""The pages of a search for the writer, of a model's trace, and of a test on logs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from detect.reporting.page import render_report
from tests.detect.reporting.numbers import check_numbers
from tests.detect.reporting.payloads import make_result
from tests.detect.reporting.test_page import Page, spoil
from watermark.errors import ResultError


def words(result: dict[str, Any]) -> str:
    return Page(render_report(result)).words


def test_one_account_is_named_in_the_headline_several_are_counted() -> None:
    result = make_result("trace_text")
    assert "The evidence points to 2 accounts." in words(result)
    result["ranking"][1]["named"] = False
    result["named"] = result["named"][:1]
    assert "The evidence points to m/2026-11/a00000." in words(result)


def test_p_values_of_passages_are_called_bounds() -> None:
    result = make_result("trace_text")
    assert "bound, by passages" not in words(result)
    result["ranking"][1]["by_passages"] = result["documents"][2]["by_passages"] = True
    assert words(result).count("bound, by passages") == 2


def test_a_naming_that_is_held_back_names_nobody() -> None:
    result = make_result("trace_text") | {"verdict": "inconclusive", "warnings": ["Held back."]}
    shown = words(result)
    assert "No account is named, and none is cleared." in shown
    assert shown.count("at the level, but held back") == 2
    assert "The evidence points to" not in shown


def revoke(result: dict[str, Any], *numbers: int) -> dict[str, Any]:
    """Change a result to what it is if keys were revoked."""
    for number in numbers:
        row = result["ranking"][number]
        row |= {"named": False, "named_revoked": True, "revoked": True}
        row |= {"revoked_at": "2026-11-20T10:00:00.000000Z", "revoked_reason": "laptop stolen"}
        result["named"].remove(row["account"])
        result["named_revoked"].append(row["account"])
        for document in result["documents"]:
            if row["account"] in document["named"]:
                document["named"].remove(row["account"])
                document["named_revoked"].append(row["account"])
                document["verdict"] = "inconclusive"
    result["n_documents_named"] = sum(bool(d["named"]) for d in result["documents"])
    return result


def test_an_account_whose_key_others_know_is_not_named() -> None:
    result = revoke(make_result("trace_text"), 0)
    shown = words(result)
    assert "The evidence points to m/2026-11/a00001." in shown
    assert shown.count("key revoked at 2026-11-20T10:00:00.000000Z: laptop stolen") == 1
    assert "Revoked keys found" in shown
    assert "not named, since their keys were revoked: m/2026-11/a00000" in shown
    result = revoke(result, 1) | {"verdict": "inconclusive", "shares": None}
    shown = words(result)
    assert "The evidence points to" not in shown
    assert "the key that the texts depend on was revoked, and others may know it" in shown
    assert shown.count("at the level, but not named") == 2


def test_shares_stand_on_one_axis_with_the_rest_last() -> None:
    page = render_report(make_result("trace_text"))
    drawing = page[page.index('aria-labelledby="shares-t') :]
    drawing = drawing[: drawing.index("</svg>")]
    centres = [float(x) for x in re.findall(r'<circle class="dot" cx="([\d.]+)%"', drawing)]
    assert centres == pytest.approx([41.0, 2.7, 56.3])
    assert "everything else: 56.3%, 52.2% to 60.6%." in words(make_result("trace_text"))


def test_a_search_that_scored_nothing_has_a_page() -> None:
    result = make_result("trace_text") | {
        **{"ranking": [], "named": [], "documents": [], "shares": None, "decoys": None},
        **{"log10_p": None, "p_value": None, "log10_p_ceiling": None, "method": "none"},
        **{"n_scored": 0, "n_documents_named": 0, "key_id": None, "verdict": "inconclusive"},
    }
    assert "no account fits better than another" in words(result)


def test_cells_of_the_map_stand_by_cohort_and_epoch() -> None:
    page = render_report(make_result("trace_model"))
    table = page[page.index('<table class="map">') : page.index('<p class="legend">')]
    assert re.findall(r'<th scope="col">(?:<bdi>)?([^<]+)', table) == [
        "Cohort",
        "2026-10",
        "2026-11",
    ]
    rows = table.split("<tr>")[2:]
    assert [re.findall(r'<td class="(m\d)"', row) for row in rows] == [
        ["m1", "m1"], ["m1", "m1"], ["m1", "m5"], ["m1", "m1"],
    ]  # fmt: skip
    # Not by colour alone.
    assert [row.count("signal</b>") for row in rows] == [0, 0, 1, 0]


def revoke_key(result: dict[str, Any], number: int) -> dict[str, Any]:
    """Change a model's trace to what it is if a key was revoked."""
    row = result["cohorts"][number]
    row |= {"revoked": True, "revoked_at": "2026-11-20T10:00:00.000000Z", "revoked_reason": "lost"}
    row |= {"named_revoked": row["verdict"] == "signal", "verdict": "inconclusive"}
    result["named_revoked"] = [r["name"] for r in result["cohorts"] if r.get("named_revoked")]
    if row["name"] == result["best"]:
        result |= {"best": result["cohorts"][0]["name"], "conclusion": "undecided"}
        result |= {"verdict": "inconclusive", "log10_p": 0.0, "p_value": 1.0}
        result["spread"]["n_significant"] = 0
    return result


def test_a_key_that_others_know_is_shown_and_accuses_nobody() -> None:
    result = revoke_key(make_result("trace_model"), 6)
    shown = words(result)
    assert "The suspect depends on a revoked key, which others may know" in shown
    assert "Revoked keys found" in shown
    assert "at the level, not counted" in shown
    assert "that of the strongest that was not revoked, times their number" in shown
    assert shown.count("key revoked at 2026-11-20T10:00:00.000000Z: lost") == 1
    assert "All keys together, revoked ones left out" in shown
    assert "More than" not in shown[: shown.index("What was tested")]
    check_numbers(render_report(result), json.loads(json.dumps(result)))
    quiet = words(revoke_key(make_result("trace_model"), 0))
    assert "More than 41.3% of the suspect’s signal is m/2026-11/c2’s." in quiet
    assert "Revoked keys found" not in quiet
    for spoilt, named in (
        (result | {"named_revoked": []}, "named_revoked"),
        (result | {"best": "m/2026-11/c2"}, "best"),
    ):
        with pytest.raises(ResultError, match=named):
            render_report(spoilt)
    result["cohorts"][6]["verdict"] = "signal"
    with pytest.raises(ResultError, match="cohorts"):
        render_report(result)


def test_keys_without_labels_have_a_row_each() -> None:
    result = make_result("trace_model")
    for key in result["cohorts"]:
        key["labels"] = None
    page = render_report(result)
    table = page[page.index('<table class="map">') : page.index('<p class="legend">')]
    assert table.count('<th scope="row">') == len(result["cohorts"])
    assert "any epoch" in table


@pytest.mark.parametrize(
    ("conclusion", "verdict", "sentence"),
    [
        ("one_key", "signal", "More than 41.3% of the suspect’s signal is m/2026-11/c2’s."),
        ("several_keys", "signal", "spread over several keys"),
        ("several_keys", "inconclusive", "spread over several keys"),
        ("undecided", "signal", "whether on it alone is not decided"),
        ("undecided", "inconclusive", "cannot be judged from this trace"),
        ("no_signal", "no_signal", "No mark was found under any of the keys."),
    ],
)
def test_the_headline_is_the_conclusion(conclusion: str, verdict: str, sentence: str) -> None:
    result = make_result("trace_model") | {"conclusion": conclusion, "verdict": verdict}
    shown = words(result)
    assert sentence in shown[: shown.index("What was tested")]
    assert result["conclusion_in_words"] in shown


def test_the_headline_of_one_key_says_no_more_than_was_tested() -> None:
    result = make_result("trace_model")
    alone = result["spread"]["concentration"]
    result["spread"]["concentration"] = alone | {"share_allowed": 0.5, "presumed_documents": None}
    shown = words(result)
    assert "More than half of the suspect’s signal is m/2026-11/c2’s." in shown
    assert "Documents presumed leaked" not in shown


def test_the_page_says_what_was_presumed_of_a_leak_and_the_level() -> None:
    result = make_result("trace_model")
    shown = words(result)
    at = shown.index("Documents presumed leaked")
    assert "at least 100" in shown[at : at + 50]
    assert "by effective number" in shown[at:]
    assert "at the level, 5.0\u202f×\u202f10−7" in shown
    with pytest.raises(ResultError, match="level_of_each"):
        render_report(result | {"level_of_each": 0.4, "alpha": 0.3})


def test_a_part_that_is_not_given_is_said_not_to_be() -> None:
    result = make_result("trace_model") | {"conclusion": "undecided"}
    result["spread"]["concentration"]["share_at_least"] = None
    assert "not given" in words(result)


def test_accounts_of_logs_are_listed_with_their_correction() -> None:
    shown = words(make_result("counterfactuals"))
    assert "The suspect knows answers that were logged." in shown
    assert "Answers scored" in shown
    assert "Which answers count" in shown
    assert "hm1-3f0c9a41d2b7, hm1-77aa9a41d2b7" in shown
    assert shown.index("acme") < shown.index("blue")


@pytest.mark.parametrize(
    ("kind", "path", "value", "named"),
    [
        ("trace_text", "named", [], "named"),
        ("trace_text", "ranking.0.revoked", True, "without accounts whose keys were revoked"),
        ("trace_text", "named_revoked", ["m/2026-11/a00000"], "named_revoked"),
        ("trace_text", "ranking.0.log10_p_adjusted", "NaN", r"ranking\[0\]\.log10_p_adjusted"),
        ("trace_text", "documents.0.verdict", "guilty", r"documents\[0\]\.verdict"),
        ("trace_text", "shares.rest.low", 0.9, r"shares\.rest\.estimate"),
        ("trace_text", "n_keys", ..., "n_keys"),
        ("trace_model", "cohorts", [], "cohorts"),
        ("trace_model", "cohorts.0.log10_p_adjusted", -9.0, r"cohorts\[0\]\.log10_p_adjusted"),
        ("trace_model", "cohorts.0.labels.epoch", 3, r"cohorts\[0\]\.labels\.epoch"),
        ("trace_model", "conclusion", "guilty", "conclusion"),
        ("trace_model", "verdict", "inconclusive", "conclusion"),
        ("trace_model", "conclusion", "no_signal", "conclusion"),
        ("trace_model", "controls.0.log10_p", -5.0, "control shows signal"),
        ("trace_model", "cohorts.3.controls.0.log10_p", -5.0, "disagree|control shows signal"),
        ("trace_model", "spread.pooled.z", ..., r"spread\.pooled\.z"),
        ("counterfactuals", "controls.0.log10_p", -5.0, "control shows signal"),
        ("counterfactuals", "accounts.1.verdict", None, r"accounts\[1\]\.verdict"),
        ("counterfactuals", "key_id", 5, "key_id"),
    ],
)
def test_a_field_that_contradicts_is_refused(kind: str, path: str, value: Any, named: str) -> None:
    with pytest.raises(ResultError, match=named):
        render_report(spoil(make_result(kind), path, value))
