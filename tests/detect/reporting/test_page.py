from __future__ import annotations

import builtins
import copy
import json
import math
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from detect.reporting import environment
from detect.reporting.page import render_report
from detect.reporting.shown import odds
from detect.reporting.sourced import Sourced
from detect.reporting.words import round_sci, visible
from tests.detect.reporting.payloads import (
    KINDS,
    STORY,
    make_corpus,
    make_demo,
    make_head,
    make_probe,
    make_result,
    make_text,
)
from watermark.errors import MissingExtraError, ResultError

HOSTILE = "<script>alert(1)</script>\" onload='x' &amp; \x00\u202eevil\ud800"
VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})


class Page(HTMLParser):
    """Parses strictly: every element is closed, in order; collects what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.document = ""
        self.words = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if "style" not in self.open:
            self.words += text
        if self.open[-1:] == ["span"] and (self.tags[-1][1].get("title") or "").strip():
            self.document += text

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def spoil(result: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with one field changed, or removed where the value is `...`."""
    result = copy.deepcopy(result)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = result
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_well_formed_and_self_contained(kind: str) -> None:
    page = render_report(make_result(kind))
    parsed = Page(page)
    assert page.startswith("<!doctype html>")
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(parsed.all("h1")) == 1
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link|<img|<iframe", page)
    assert {name for name, _ in parsed.tags}.isdisjoint({"script", "link", "img", "iframe"})
    policy = next(m for m in parsed.all("meta") if "http-equiv" in m)["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_accessible(kind: str) -> None:
    page = render_report(make_result(kind))
    parsed = Page(page)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in parsed.tags:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids
    tables, captions = parsed.all("table"), parsed.all("caption")
    assert len(tables) == len(captions) > 0
    assert all(header.get("scope") for header in parsed.all("th"))
    for attributes in parsed.all("svg"):
        hidden = attributes.get("aria-hidden") == "true"
        inside = attributes.get("role") is None and not hidden
        assert hidden or inside or attributes.get("aria-labelledby")
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


@pytest.mark.parametrize("kind", KINDS)
def test_equal_results_give_equal_bytes(kind: str) -> None:
    result = make_result(kind)
    through_json = json.loads(json.dumps(result))
    before = copy.deepcopy(result)
    assert render_report(result) == render_report(through_json)
    assert result == before


def test_finding_comes_first_and_numbers_equal_the_json() -> None:
    page = render_report(make_probe(log10_p=-123.4))
    words = Page(page).words
    assert words.index("The suspect has inherited the mark.") < words.index("Null hypothesis")
    assert "4.0\u202f×\u202f10−124" in words
    assert "24,390" in words
    assert "at 24,402 tokens" in words
    assert "none of 999 random keys" in words
    assert "about once in 2.5\u00a0×\u00a010¹²³ tries" in words
    for control in ("student-clean", "SmolLM2"):
        assert words.count(control) >= 2
    assert "0.43" in words  # 10 ** -0.37
    assert "0.41" in words  # -123.4 / 300 decades an answer


@pytest.mark.parametrize(
    ("kind", "verdict", "sentence"),
    [
        ("text", "no_signal", "No mark was found in this text."),
        ("text", "inconclusive", "This text cannot be judged either way."),
        ("probe", "no_signal", "No inherited mark was found in the suspect."),
        ("probe", "inconclusive", "The suspect cannot be judged from this probe."),
    ],
)
def test_verdicts_without_signal_clear_nobody(kind: str, verdict: str, sentence: str) -> None:
    make = make_text if kind == "text" else make_probe
    words = Page(render_report(make(log10_p=-0.4, verdict=verdict))).words
    assert sentence in words
    assert "no proof of innocence" in words or "it clears nobody" in words


def test_too_short_a_text_says_how_much_it_takes() -> None:
    result = make_head("text", -1.2, 17, "inconclusive") | {"statistic": 21.5}
    words = Page(render_report(result)).words
    assert "Only 17 tokens could be scored; to find nothing means something from 210 on." in words
    assert "21.5" in words


def test_empty_text_renders_without_p_value() -> None:
    result = make_head("text", 0.0, 0, "inconclusive")
    result |= {"n_tokens": 0, "log10_p": None, "p_value": None, "log10_p_ceiling": None}
    result |= {"tokens": [], "curve": {"n_scored": [], "log10_p": []}, "reasons": {}}
    words = Page(render_report(result)).words
    assert "This text cannot be judged either way." in words
    assert "nan" not in words.lower()


def test_document_keeps_every_character_and_names_reasons() -> None:
    result = make_text()
    page = render_report(result)
    parsed = Page(page)
    assert parsed.document == STORY
    titles = [a["title"] for a in parsed.all("span") if "title" in a]
    assert len(titles) == len(result["tokens"])
    first_scored = result["tokens"][2]["score"]
    assert titles[2] == f"score {first_scored:.3g}"
    assert str(titles[0]).startswith("not scored: Too few tokens")


def test_legend_counts_every_scored_token_once() -> None:
    result = make_text()
    words = Page(render_report(result)).words
    legend = words[words.index("Legend") : words.index("How the evidence grows")]
    edges = [0.0, 0.7, 1.4, 2.3, 3.5, math.inf]
    scores = [t["score"] for t in result["tokens"] if t["score"] is not None]
    for low, high in pairwise(edges):
        n_tokens = sum(low <= s < high for s in scores)
        assert f"\n{n_tokens}{100 * n_tokens / len(scores):.0f}%" in legend


def test_two_valued_scores_have_a_two_row_legend() -> None:
    result = make_text()
    result["scheme"] = {"name": "red-green", "gamma": 0.5, "delta": 2.0}
    for token in result["tokens"]:
        token["score"] = None if token["score"] is None else float(token["score"] > 0.7)
    page = render_report(result)
    assert page.count('class="swatch t1">0<') == page.count('class="swatch t4">1<') == 1
    assert "red-green (gamma 0.5, delta 2)" in Page(page).words


def test_scores_of_unknown_law_are_ranked_and_said_to_be() -> None:
    result = make_text() | {"scheme": "tournament"}
    page = render_report(result)
    assert "Colours rank the tokens within this document" in page
    assert "By chance" not in page
    n_scored = result["n_scored"]
    assert page.count('<span class="t1"') == pytest.approx(n_scored / 2, abs=1)
    assert page.count('<span class="t5"') == pytest.approx(0.03 * n_scored, abs=1)


def test_long_corpus_lists_the_strongest_and_says_how_many_are_left_out() -> None:
    result = make_corpus(237)
    parsed = Page(render_report(result))
    assert "37 with weaker evidence are left out" in parsed.words
    listed = re.findall(r"doc-\d{4}", parsed.words)
    strongest = sorted(result["documents"], key=lambda d: d["log10_p"])[:200]
    assert listed == [document["id"] for document in strongest]


def test_marked_documents_in_a_quiet_corpus_are_in_the_headline() -> None:
    result = make_corpus(40) | {"log10_p": -0.5, "p_value": 10**-0.5, "verdict": "no_signal"}
    result["log10_p_ceiling"] = -0.5
    words = Page(render_report(result)).words
    assert f"{result['n_significant']} documents carry the mark, though" in words
    assert "No mark was found" not in words


def test_segments_are_claimed_by_window_and_stand_in_the_text() -> None:
    page = render_report(make_result("segments"))
    words = Page(page).words
    assert "This document contains marked text." in words
    assert "400 to 660" in words
    mark = re.search(r'<mark class="segment"><b class="ordinal">1</b>(.*?)</mark>', page, re.DOTALL)
    assert mark is not None
    assert mark[1].count("<span") == 655 - 412
    without = Page(render_report(spoil(make_result("segments"), "tokens", ...))).words
    assert "heirmark locate --tokens" in without


def test_a_share_is_cut_to_the_possible_and_decides_nothing() -> None:
    words = Page(render_report(make_result("fraction"))).words
    assert "estimate; 95% interval 0% to 9.56%" in words
    assert "which the arithmetic allows, are cut off" in words
    assert "It decides nothing" in words
    assert "7 of 44 are at or below 0.0227" in words
    empty = make_result("fraction") | {"fraction": None, "higher_criticism": None}
    assert "nothing can be said of the share" in Page(render_report(empty)).words


def test_a_watch_is_drawn_from_a_bet_of_one_through_every_answer() -> None:
    page = render_report(make_result("watch"))
    drawn = re.search(r'<polyline class="line" points="([^"]*)"', page)
    assert drawn is not None
    points = [tuple(map(float, point.split(","))) for point in drawn[1].split()]
    assert [x for x, _ in points] == [10.0 * i for i in range(11)]
    # The highest e-value, 10^8.5 at the ninth answer, is the highest point.
    assert min(points, key=lambda point: point[1])[0] == 90.0
    assert "1.8\u202f×\u202f107" in Page(page).words


def test_a_plan_says_what_is_out_of_reach_and_that_it_is_no_evidence() -> None:
    page = render_report(make_result("power"))
    words = Page(page).words
    assert "About 1,190,000 tokens are needed; the budget has fewer." in words
    assert "by the pilot 9,000 to more than 10⁹" in words
    assert "from 10.9% up" in words
    assert "more than can be had" in words
    assert "It is no evidence" in words
    assert page.count('<circle class="dot"') == 3


def test_the_verdict_of_a_plan_is_that_of_its_numbers() -> None:
    words = Page(render_report(make_result("power") | {"detectable": True})).words
    assert "the budget has fewer" in words


def test_a_calibration_with_a_warning_says_so_first() -> None:
    words = Page(render_report(make_result("calibration"))).words
    assert "False positives on this text are as rare as they should be." in words
    result = make_result("calibration") | {"warnings": ["plain pieces exceed the level 0.1"]}
    words = Page(render_report(result)).words
    assert "This calibration raises a warning." in words
    assert words.index("plain pieces exceed") < words.index("Under fresh keys")


def test_firing_control_is_named_and_spoils_a_signal() -> None:
    result = make_probe(verdict="inconclusive")
    result["controls"][0] |= {"log10_p": -4.0, "p_value": 1e-4, "verdict": "no_signal"}
    result["warnings"] = ["The clean twin shows signal (p = 1e-4)."]
    words = Page(render_report(result)).words
    assert "shows signal: spoils the result" in words
    assert "The clean twin shows signal (p = 1e-4)." in words
    with pytest.raises(ResultError, match="verdict"):
        render_report(result | {"verdict": "signal"})


def test_what_a_probe_used_is_listed_in_words() -> None:
    used = {
        "reference": "public-base",
        "own_texts": None,
        "prompts": "sha256:" + "ab" * 32,
        "sampling": {"max_new_tokens": 96, "temperature": 1.0},
    }
    spread = {"n_positions": 1_200, "n_contexts": 901, "n_effective": 77.5}
    words = Page(render_report({**make_probe(), "used": used, "spread": spread})).words
    sampling = "max new tokens 96, temperature 1"
    titles = ("What else was used", "What the pairs come from")
    for shown in (*titles, "public-base", sampling, "ab" * 32, "number of contexts", "901", "77.5"):
        assert shown in words
    assert "own texts" not in words


def test_demo_tells_the_story_with_every_step() -> None:
    result = make_demo()
    words = Page(render_report(result)).words
    assert "The student inherited the mark; the clean models did not." in words
    for step in result["steps"]:
        assert words.count(step["name"]) >= 2
    assert "5 min 12 s" in words
    assert "2,400" in words or "2400" in words
    assert "torch" in words


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_strings_are_escaped_everywhere(kind: str) -> None:
    def poison(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: poison(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item, name) for item in value]
        fixed = name in {"kind", "verdict", "access", "conclusion"}
        return value + HOSTILE if isinstance(value, str) and not fixed else value

    result = poison(make_result(kind))
    if "reasons" in result:
        result["reasons"][HOSTILE] = 1
    page = render_report(result)
    parsed = Page(page)
    page.encode("utf-8")
    assert "<script" not in page
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "<script>alert(1)</script>" in parsed.words


@pytest.mark.parametrize(
    ("kind", "path", "value", "named"),
    [
        ("text", "kind", "novel", "kind"),
        ("text", "kind", ..., "kind"),
        ("text", "log10_p", ..., "log10_p"),
        ("text", "log10_p", math.nan, "log10_p"),
        ("text", "log10_p", -math.inf, "log10_p"),
        ("text", "log10_p", "-3", "log10_p"),
        ("text", "log10_p", 2.0, "log10_p"),
        ("text", "log10_p", None, "log10_p"),
        ("text", "p_value", 0.0, "p_value"),
        ("text", "p_value", 0.2, "disagree"),
        ("text", "n_scored", -1, "n_scored"),
        ("text", "n_scored", True, "n_scored"),
        ("text", "n_scored", 2.5, "n_scored"),
        ("text", "n_scored", 10**400, "n_scored"),
        ("text", "log10_p", -(10**400), "log10_p"),
        ("text", "verdict", "guilty", "verdict"),
        ("text", "alpha", 1e-30, "verdict"),
        ("text", "verdict", ["signal"], "verdict"),
        ("text", "key_id", ..., "key_id"),
        ("text", "scheme", 3, "scheme"),
        ("text", "alpha", 0, "alpha"),
        ("text", "alpha", ..., "alpha"),
        ("text", "limits", "none", "limits"),
        ("text", "limits", [1], "limits"),
        ("text", "reasons", {"scored": -1}, r"reasons\.scored"),
        ("text", "reasons", [], "reasons"),
        ("text", "tokens.4.text", ..., r"tokens\[4\]\.text"),
        ("text", "tokens.4.score", math.nan, r"tokens\[4\]\.score"),
        ("text", "tokens.4", "word", r"tokens\[4\]"),
        ("text", "curve.log10_p", [1.0], r"curve\.log10_p"),
        ("text", "curve.n_scored.3", "x", r"curve\.n_scored\.3"),
        ("text", "decoys.p_value", 0, r"decoys\.p_value"),
        ("text", "command", 5, "command"),
        ("corpus", "documents.7.log10_p", ..., r"documents\[7\]\.log10_p"),
        ("corpus", "documents.7.id", None, r"documents\[7\]\.id"),
        ("corpus", "documents", {}, "documents"),
        ("corpus", "n_documents", 3, "n_documents"),
        ("probe", "controls.1.name", ..., r"controls\[1\]\.name"),
        ("probe", "controls.1.verdict", "no", r"controls\[1\]\.verdict"),
        ("probe", "suspect", 4, "suspect"),
        ("demo", "steps", ..., "steps"),
        ("demo", "steps", [], "steps"),
        ("demo", "steps.0.seconds", -1, r"steps\[0\]\.seconds"),
        ("segments", "segments.0.window.tokens", [400, 1001], r"segments\[0\]\.window\.tokens"),
        ("segments", "segments.0.estimate.tokens", [5, "x"], r"segments\[0\]\.estimate\.tokens"),
        ("segments", "segments.0.log10_p", -2.0, r"segments\[0\]\.log10_p"),
        ("segments", "evidence.end.0", 1e6, r"evidence\.end"),
        ("segments", "evidence.log10_p", [], r"evidence\.log10_p"),
        ("segments", "tokens.999", ..., "tokens"),
        ("segments", "n_tokens", ..., "n_tokens"),
        ("fraction", "fraction.low", 0.5, r"fraction\.estimate"),
        ("fraction", "fraction.level", 1.0, r"fraction\.level"),
        ("fraction", "reference", ..., r"reference\.strength"),
        ("watch", "course.log10_e.3", math.inf, r"course\.log10_e\.3"),
        ("watch", "course.n_answers.3", 99, r"course\.n_answers"),
        ("watch", "log10_e", ..., "log10_e"),
        ("power", "access", "mind", "access"),
        ("power", "alpha", 0, "alpha"),
        ("power", "by_share.0.share", 0, r"by_share\[0\]\.share"),
        ("power", "n_answers_range", [1], "n_answers_range"),
        ("calibration", "fresh_keys", {}, r"fresh_keys\.all\.n"),
        ("calibration", "this_key.rates.0.hits", 59, r"this_key\.rates\[0\]\.hits"),
        ("calibration", "this_key.curve.alpha.1", 0.0, r"this_key\.curve\.alpha"),
        ("calibration", "this_key.curve.low", [1.0], r"this_key\.curve\.low"),
        ("demo", "steps.2.result.alpha", 2, r"steps\[2\]\.result\.alpha"),
    ],
)
def test_bad_field_is_refused_by_name(kind: str, path: str, value: Any, named: str) -> None:
    with pytest.raises(ResultError, match=named):
        render_report(spoil(make_result(kind), path, value))


@pytest.mark.parametrize("payload", [None, [], "text", 3, {}])
def test_not_a_result_is_refused(payload: Any) -> None:
    with pytest.raises(ResultError):
        render_report(payload)


def test_missing_jinja2_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in {"jinja2", "markupsafe"}:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    environment._environment.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    for name in [n for n in sys.modules if n.split(".")[0] == "jinja2"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"heirmark\[report\]"):
        render_report(make_text())


@pytest.mark.parametrize(
    ("log10_p", "expected"),
    [
        (0.0, ("1", None)),
        (math.log10(0.42), ("0.42", None)),
        (-3.0, ("0.001", None)),
        (-3.5, ("3.2", -4)),
        (-6.0, ("1.0", -6)),
        (-9.99999, ("1.0", -10)),
        (-123.4, ("4.0", -124)),
        (-1e6 - 0.5, ("3.2", -1_000_001)),
    ],
)
def test_p_values_round_to_two_digits(log10_p: float, expected: tuple[str, int | None]) -> None:
    assert round_sci(log10_p) == expected


@pytest.mark.parametrize(
    ("log10_p", "expected"),
    [
        (math.log10(0.42), "in about 42 of 100 tries"),
        (-2.0, "about once in 100 tries"),
        (-4.6, "about once in 40,000 tries"),
        (-123.4, "about once in 2.5\u00a0×\u00a010¹²³ tries"),
    ],
)
def test_odds_read_as_english(log10_p: float, expected: str) -> None:
    assert str(odds(Sourced(log10_p, "log10_p"))) == expected


def test_visible_keeps_text_and_shows_controls() -> None:
    assert visible("Grüße\n\t你好 👍🏽") == "Grüße\n\t你好 👍🏽"
    assert visible("a\u200bb\u200d\u200f\u00ad") == "a[U+200B]b\u200d[U+200F][U+00AD]"
    assert visible("a\r\nb\x00\x7f\u202e\ud800") == "a\nb␀␡[U+202E]\ufffd"


def _luminance(colour: str) -> float:
    full = "".join(c * 2 for c in colour) if len(colour) == 3 else colour
    linear = [int(full[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in linear]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_aa_contrast_in_light_dark_and_print() -> None:
    """WCAG 2.1 criterion 1.4.3: 4.5 to 1 for text."""
    css = (
        Path(sys.modules["detect.reporting.page"].__file__ or "").parent / "templates" / "style.css"
    )
    blocks = re.findall(r":root \{(.*?)\n? *\}", css.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]+);", block))
        inks = ["ink", "muted", "signal", "no-signal", "inconclusive", "alarm"]
        pairs = [(ink, paper) for ink in inks for paper in ("paper", "sheet")]
        pairs += [("ink", "t2"), ("ink", "t3"), ("ink", "t4"), ("t5-ink", "t5")]
        for ink, paper in pairs:
            light, dark = sorted([_luminance(colours[ink]), _luminance(colours[paper])])[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)
