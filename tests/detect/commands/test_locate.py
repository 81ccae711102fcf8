"""`heirmark locate`: what it prints, what it writes, and a page that hides nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from detect.commands.locate import locate
from detect.reporting import render_report
from detect.reporting import segments as picture
from detect.segments.localisation import LocatedText, locate_text
from detect.segments.skyline import skyline
from tests.detect.reporting.numbers import check_numbers, words
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import DocumentError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer, load_tokenizer

KEY = SecretKey(bytes(range(32)))
# Hostile words among harmless ones: the page must show all of them as text.
WORDS = [f"w{i:03d}" for i in range(296)] + ["<script>", "</mark>", "&amp;", '"onload="']
VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, a tokenizer with one token a word, and a document with two marked segments."""
    folder = tmp_path_factory.mktemp("locate")
    save_key(KEY, folder / "k.json")
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": {"type": "WhitespaceSplit"},
                "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": WORDS[0]},
            }
        )
    )
    ids = np.random.default_rng(0).integers(0, len(WORDS), 2500)
    for i, start in enumerate((400, 1700)):
        ids[start : start + 250] = marked_ids(
            preset("default"), KEY, 250, vocabulary=len(WORDS), seed=i
        )
    (folder / "text.txt").write_text(" ".join(WORDS[i] for i in ids))
    return folder


@pytest.fixture(scope="module")
def word_tokenizer(folder: Path) -> TextTokenizer:
    return load_tokenizer(folder / "tokenizer.json")


def _locate(folder: Path, *arguments: str | Path, text: str = "text.txt") -> Result:
    options = ["--key", folder / "k.json", "--tokenizer", folder / "tokenizer.json", *arguments]
    return CliRunner().invoke(locate, [str(folder / text), *map(str, options)])


class _Page(HTMLParser):
    """Checks nesting, and collects the text of the coloured document."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.names: set[str] = set()
        self.document: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and re.fullmatch(r"t\d", self.open[-1][1]) and self.open[-1][0] == "span":
            self.document.append(data)


def _read(page: str) -> _Page:
    parsed = _Page()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == []
    return parsed


def _render(result: LocatedText) -> str:
    return render_report(result.to_dict(tokens=True))


def test_the_summary_names_what_is_claimed_and_what_is_estimated(folder: Path) -> None:
    done = _locate(folder)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "verdict   signal  (alpha 1e-06)"
    assert "corrected for" in lines[1]
    assert lines[4] == "segments  2"
    assert re.fullmatch(
        r"  1       p = \S+ for tokens .* to .*; probably .* characters .*", lines[5]
    )


def test_json_output_and_picture_agree(folder: Path, tmp_path: Path) -> None:
    output, page = tmp_path / "r.json", tmp_path / "r.html"
    done = _locate(folder, "--json", "--output", output, "--picture", page, "--alpha", "1e-4")
    assert done.exit_code == 0, done.output
    payload = json.loads(done.output)
    check_numbers(render_report(payload), payload)
    assert payload == json.loads(output.read_text())
    assert [round(s["estimate"]["tokens"][0] / 100) for s in payload["segments"]] == [4, 17]
    html = page.read_text()
    for segment in payload["segments"]:
        start, end = segment["window"]["tokens"]
        assert f"{start:,} to {end:,}" in words(html)
    assert "tokens" not in payload
    assert len(json.loads(_locate(folder, "--json", "--tokens").output)["tokens"]) == 2500
    secret = bytes(range(32)).hex()
    assert secret not in html + done.output


def test_the_page_holds_the_whole_text_as_text_and_nothing_active(folder: Path) -> None:
    page = _page_of(folder)
    parsed = _read(page)
    assert not parsed.names & {"script", "img", "link", "iframe", "object"}
    assert "http" not in re.sub(r"http-equiv", "", page)
    shown = [d for d in "".join(parsed.document).split() if d]
    assert shown == (folder / "text.txt").read_text().split()


def _page_of(folder: Path) -> str:
    target = folder / "page.html"
    assert _locate(folder, "--picture", target).exit_code == 0
    return target.read_text()


def test_marks_stand_around_the_estimated_segments(
    folder: Path, word_tokenizer: TextTokenizer
) -> None:
    text = (folder / "text.txt").read_text()
    result = locate_text(text, tokenizer=word_tokenizer, config=preset("default"), key=KEY)
    page = _render(result)
    assert page == _render(result)
    marks = re.findall(r'<mark class="segment"><b [^>]*>(\d+)</b>(.*?)</mark>', page, re.DOTALL)
    assert [int(number) for number, _ in marks] == [1, 2]
    for (_, inner), segment in zip(marks, result.segments, strict=True):
        assert inner.count("<span") == segment.end - segment.start


def test_of_a_long_document_the_finds_are_shown(
    folder: Path, word_tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "_MOST_TOKENS", 700)
    text = (folder / "text.txt").read_text()
    result = locate_text(text, tokenizer=word_tokenizer, config=preset("default"), key=KEY)
    page = _render(result)
    _read(page)
    assert page.count('class="text"') == 2
    assert page.count('<mark class="segment">') == 2
    assert "only what lies around the segments is shown" in page


@pytest.mark.parametrize("text", ["", "w001", "w001 w002 w003"])
def test_next_to_nothing_makes_a_page_too(text: str, word_tokenizer: TextTokenizer) -> None:
    result = locate_text(text, tokenizer=word_tokenizer, config=preset("default"), key=KEY)
    page = _render(result)
    _read(page)
    assert "cannot be judged either way" in page


def test_the_height_of_the_picture_is_the_best_window_over_each_place(
    folder: Path, word_tokenizer: TextTokenizer
) -> None:
    text = (folder / "text.txt").read_text()
    result = locate_text(text, tokenizer=word_tokenizer, config=preset("default"), key=KEY)
    table, n = result.table, result.selection.n_tokens
    ends, log10_p = skyline(table, n)
    heights = -log10_p
    assert ends[-1] == n
    assert (np.diff(ends, prepend=0) > 0).all()
    assert heights.max() == -table.log10_global
    for column in range(0, len(heights), 37):
        low, high = column * n / len(heights), (column + 1) * n / len(heights)
        over = (table.start < high) & (table.end > low)
        assert heights[column] == -table.log10_corrected[over].min(initial=0.0)


def test_a_missing_file_and_a_missing_key_are_our_own_errors(folder: Path) -> None:
    missing = _locate(folder, text="none.txt")
    assert isinstance(missing.exception, DocumentError)
    assert _locate(folder, "--alpha", "2").exit_code == 2
    assert CliRunner().invoke(locate, [str(folder / "text.txt")]).exit_code == 2
