"""Parts of pages that depend on what a result happens to hold: commands, read documents, sizes."""

from __future__ import annotations

import subprocess
import time

import pytest

from detect.reporting.fields import Fields
from detect.reporting.page import render_report
from detect.reporting.rerun import command_of
from tests.detect.reporting.numbers import check_numbers
from tests.detect.reporting.payloads import KINDS, STORY, make_corpus, make_result, make_text
from tests.detect.reporting.test_page import Page
from watermark.errors import ResultError


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_command_is_shown_as_it_was_given(kind: str) -> None:
    command = ["heirmark", "scan", "a file.jsonl", "--key", "k.json", "--id-field", "$(id)"]
    shown = Page(render_report(make_result(kind) | {"command": command})).words
    lines = ["heirmark scan 'a file.jsonl'", "  --key k.json", "  --id-field '$(id)'"]
    assert " \\\n".join(lines) in shown
    assert "does not hold its command line" not in shown


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_recorded_command_its_pattern_stands_there(kind: str) -> None:
    result = make_result(kind)
    result.pop("command", None)
    shown = Page(render_report(result)).words
    assert "does not hold its command line" in shown
    assert "heirmark " in shown[shown.index("does not hold its command line") :]


def test_the_pattern_has_the_settings_that_the_result_holds() -> None:
    result = make_text()
    del result["command"]
    shown = Page(render_report(result)).words
    line = shown[shown.index("heirmark detect TEXT") :].replace(" \\\n ", "")
    assert line.startswith("heirmark detect TEXT --key KEY.key.json")
    assert "--alpha 1e-06 --decoys 999 --seed 7" in line


def test_the_pattern_of_a_search_says_where_its_keys_came_from() -> None:
    def line(**fields: object) -> str:
        shown = command_of(Fields({"alpha": 1e-6, "score": "binary", **fields}))
        return str(shown.text).replace(" \\\n ", "")

    folder = line(kind="trace_text", piece_tokens=100, prompt=True)
    assert "--keys FOLDER --prompt PROMPT" in folder
    assert "--piece 100" in folder
    derived = line(kind="trace_text", family="accounts", piece_tokens=None, prompt=False)
    assert "--master MASTER.key.json --accounts ACCOUNTS.jsonl" in derived
    assert not {"--keys", "--piece", "--prompt"} & set(derived.split())
    assert "--registry REGISTRY" in line(kind="trace_text", family="registry")
    model = line(
        kind="trace_model", family="accounts", access="weights", leaked_documents=50,
        used={"served": {"a": 1}},
    )  # fmt: skip
    assert "--labels LABELS.jsonl --reading TEXTS.jsonl --served SERVED.json" in model
    assert "--leaked-documents 50" in model
    with pytest.raises(ResultError, match="family"):
        line(kind="trace_text", family="/srv/keys")


def test_a_shell_reads_a_recorded_command_as_it_was_given() -> None:
    command = ["heirmark", "scan", "it's $HOME.jsonl", "--key", "k.json", "-o", "--x y", "`id`"]
    shown = str(command_of(Fields({"kind": "corpus", "command": command})).text)
    read = subprocess.run(
        ["sh", "-c", f"set -- {shown}; printf '%s\\n' \"$@\""],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert read.stdout.splitlines() == command


def test_documents_of_a_corpus_that_list_their_tokens_can_be_read() -> None:
    result = make_corpus(40)
    strongest = min(result["documents"], key=lambda document: document["log10_p"])
    strongest["tokens"] = make_text()["tokens"]
    page = render_report(result)
    assert f"Document <bdi>{strongest['id']}</bdi>, token by token" in page
    assert Page(page).document == STORY
    check_numbers(page, result)


def test_a_large_corpus_makes_a_page_of_two_hundred_documents() -> None:
    result = make_corpus(1000)
    result["documents"] *= 20
    result["n_documents"] = 20_000
    began = time.monotonic()
    page = render_report(result)
    assert time.monotonic() - began < 60
    assert len(page) < 600_000
    shown = Page(page).words
    assert "19,800 with weaker evidence are left out here and are in the JSON result." in shown


def test_a_corpus_whose_other_documents_are_not_in_the_result_does_not_say_so() -> None:
    shown = Page(render_report(make_corpus(20) | {"n_documents": 5000})).words
    assert "4,980 with weaker evidence are left out here." in shown


def test_scores_that_cannot_be_exponential_are_not_compared_with_it() -> None:
    result = make_text()
    result["tokens"][5]["score"] = -1.2
    page = render_report(result)
    assert "By chance" not in page
    assert "Colours rank the tokens" in page
