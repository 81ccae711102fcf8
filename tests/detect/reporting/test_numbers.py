"""Every number on a page equals the JSON."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from detect.reporting.page import render_report
from detect.reporting.shown import count, p_value
from tests.detect.reporting.numbers import check_numbers, resolve
from tests.detect.reporting.payloads import KINDS, make_demo, make_result, make_text
from tests.detect.reporting.test_traces import revoke

# What a reader must find, by kind; all kinds that test something have the first four.
FINDING = {"log10_p", "n_scored", "n_tokens", "alpha"}
STATED = {
    "text": {*FINDING, "decoys.p_value", "decoys.n_decoys"},
    "corpus": {*FINDING, "n_documents", "n_significant", "documents[0].log10_p"},
    "probe": {
        *FINDING,
        "controls[0].log10_p",
        "controls[1].decoys.p_value",
        "-log10_p / n_answers",
    },
    "demo": {"steps[5].log10_p", "steps[1].result.log10_p", "steps[0].seconds"},
    "segments": {*FINDING, "n_windows", "segments[0].log10_p", "segments[0].window.tokens[1]"},
    "fraction": {*FINDING, "fraction.estimate", "fraction.high", "higher_criticism.log10_p"},
    "watch": {*FINDING, "log10_e", "n_answers"},
    "power": {"n_tokens", "budget", "alpha", "by_share[1].n_tokens"},
    "profiles": {*FINDING, "profiles[1].log10_p", "alpha / len(profiles)"},
    "counterfactuals": {"log10_p", "n_scored", "alpha", "accounts[0].log10_p_adjusted"},
    "trace_text": {
        *FINDING,
        "n_keys",
        "ranking[1].log10_p_adjusted",
        "documents[0].log10_p_adjusted",
        "shares.accounts[1].estimate",
        "shares.rest.high",
        "decoys.p_value",
    },
    "trace_model": {
        *FINDING,
        "cohorts[6].log10_p_adjusted",
        "cohorts[0].z",
        "controls[0].log10_p",
        "spread.concentration.log10_p_adjusted",
        "spread.concentration.by_documents[1].log10_p",
    },
    "calibration": {"n_keys", "this_key.log10_p_pooled", "fresh_keys.all.rates[0].hits"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_in_the_json(kind: str) -> None:
    result = json.loads(json.dumps(make_result(kind)))
    stated = check_numbers(render_report(result), result)
    assert stated >= STATED[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stale_number_is_found(kind: str) -> None:
    """The check itself: whichever stated number changes in the JSON, the old page is refused."""
    result = json.loads(json.dumps(make_result(kind)))
    page = render_report(result)
    sources = sorted(s for s in check_numbers(page, result) if re.fullmatch(r"[a-z][\w.\[\]]+", s))
    assert len(sources) > 5
    for source in sources[:: max(len(sources) // 12, 1)]:
        *outer, last = re.findall(r"\w+", source)
        changed = copy.deepcopy(result)
        target: Any = changed
        for part in outer:
            target = target[int(part) if part.isdigit() and isinstance(target, list) else part]
        key: Any = int(last) if isinstance(target, list) else last
        if isinstance(target[key], (int, float)):
            target[key] += 1
            with pytest.raises(AssertionError):
                check_numbers(page, changed)


def test_a_number_of_the_pages_own_is_found() -> None:
    result = make_text()
    page = render_report(result)
    check_numbers(page, result)
    n_scored = f'data-of="n_scored">{result["n_scored"]}<'
    assert n_scored in page
    for bad in (
        page.replace("<h2>", "<p>About 17 tokens.</p><h2>", 1),
        page.replace(n_scored, f'data-of="n_scored">{result["n_scored"] + 1}<', 1),
        page.replace('data-of="n_scored"', 'data-of="n_tokens"', 1),
        page.replace('data-of="n_scored"', f'data-of="{result["n_scored"]}"', 1),
    ):
        with pytest.raises(AssertionError):
            check_numbers(bad, result)


def test_the_tooltip_of_every_token_is_its_score() -> None:
    result = make_text()
    titles = re.findall(r'<span class="t\d" title="([^"]*)"', render_report(result))
    assert len(titles) == len(result["tokens"])
    for title, token in zip(titles, result["tokens"], strict=True):
        assert title.startswith("not scored: ") == (token["score"] is None)
        if token["score"] is not None:
            assert float(title.removeprefix("score ")) == pytest.approx(token["score"], rel=5e-3)


def test_numbers_inside_a_step_name_their_own_place() -> None:
    result = make_demo()
    stated = check_numbers(render_report(result), result)
    source = "steps[2].result.documents[0].log10_p"
    assert any(s.startswith("steps[2].result.documents[") for s in stated)
    assert resolve(source, result) == result["steps"][2]["result"]["documents"][0]["log10_p"]


@pytest.mark.parametrize("write", [count, p_value])
def test_a_number_without_a_source_is_not_written(write: Any) -> None:
    with pytest.raises(TypeError, match="without a source"):
        write(-3.0)


def _variants() -> list[Any]:
    """Results of shapes that the usual ones do not have."""
    quiet = {"log10_p": -0.4, "p_value": 10**-0.4, "log10_p_ceiling": -0.4}
    corpus, text = make_result("corpus"), make_text()
    without = {name: value for name, value in corpus.items() if name != "documents"}
    used = {"spread": {"n_positions": 1200, "n_effective": 77.5}, "used": {"size": [1, {"b": 2.5}]}}
    return [
        pytest.param(corpus | quiet | {"verdict": "no_signal"}, id="quiet corpus"),
        pytest.param(without, id="documents not listed"),
        pytest.param(corpus | {"n_documents": 99_000}, id="documents listed in part"),
        pytest.param(text | quiet | {"verdict": "inconclusive", "n_powered": 9999}, id="too short"),
        pytest.param(text | {"tokens": [], "decoys": None, "command": None}, id="plain text"),
        pytest.param(text | {"scheme": {"name": "red-green", "gamma": 0.25}}, id="parameters"),
        pytest.param(text | {"tokens": text["tokens"] * 90}, id="tokens left out"),
        pytest.param(make_result("probe") | {"access": "text"} | used, id="by answers"),
        pytest.param(make_result("fraction") | {"fraction": None}, id="no share"),
        pytest.param(make_result("segments") | {"segments": []}, id="no segment"),
        pytest.param(
            make_result("power") | {"n_tokens": None, "n_answers": None}, id="beyond reach"
        ),
        pytest.param(make_result("trace_text") | {"shares": None, "decoys": None}, id="no shares"),
        pytest.param(revoke(make_result("trace_text"), 0), id="revoked"),
    ]


@pytest.mark.parametrize("result", _variants())
def test_every_number_of_other_shapes_is_in_the_json(result: dict[str, Any]) -> None:
    result = json.loads(json.dumps(result))
    assert check_numbers(render_report(result), result)
