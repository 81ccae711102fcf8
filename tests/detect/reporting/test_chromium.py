"""The pages in a real Chromium: nothing asked for, nothing complained of, nothing cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from detect.reporting.page import render_report
from detect.reporting.pdf import print_pdf
from tests.detect.reporting.chromium import Chromium, installed_browser
from tests.detect.reporting.payloads import KINDS, make_result, make_text

# Elements that stick out of the page to the right, but those that scroll inside a box of their own.
STICKS_OUT = """
[...document.querySelectorAll("main *, header *, footer *")]
  .filter(e => !e.closest(".scroll") && !e.closest("svg") && !e.closest(".hidden"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 120))
"""


def write(folder: Path, page: str) -> Path:
    path = folder / "page.html"
    path.write_text(page, "utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_asks_for_nothing_and_fits(kind: str, chromium: Chromium, tmp_path: Path) -> None:
    path = write(tmp_path, render_report(make_result(kind)))
    opened = chromium.open(path, width=390)
    assert opened.console == []
    assert opened.requests == [path.as_uri()]
    for width in (390, 1100):
        chromium.resize(opened.tab, width)
        assert chromium.evaluate(opened.tab, STICKS_OUT) == []
        wide = chromium.evaluate(opened.tab, "document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0


def test_requests_and_complaints_would_be_seen(chromium: Chromium, tmp_path: Path) -> None:
    """The policy of the page stops what hostile text could start, and says so on the console."""
    hostile = '<img src="https://heirmark.invalid/pixel.png"><script>document.title = "x"</script>'
    page = render_report(make_text()).replace("<main>", f"<main>{hostile}", 1)
    opened = chromium.open(write(tmp_path, page))
    assert any("Content Security Policy" in line for line in opened.console)
    assert chromium.evaluate(opened.tab, "document.title") != "x"
    unguarded = page.replace('http-equiv="Content-Security-Policy"', 'name="none"', 1)
    opened = chromium.open(write(tmp_path, unguarded))
    assert any("heirmark.invalid" in url for url in opened.requests)
    assert chromium.evaluate(opened.tab, "document.title") == "x"


def test_hostile_names_stay_text(chromium: Chromium, tmp_path: Path) -> None:
    hostile = '</td><script>document.title = "x"</script><img src=x onerror=alert(1)>\u202e\u200b'
    result = make_result("trace_text")
    result["ranking"][0]["account"] = result["named"][0] = hostile
    result["documents"][0] |= {"id": hostile, "account": hostile, "source": hostile}
    result["shares"]["accounts"][0]["account"] = hostile
    opened = chromium.open(write(tmp_path, render_report(result)))
    assert opened.console == []
    assert chromium.evaluate(opened.tab, "document.scripts.length + document.images.length") == 0
    shown = chromium.evaluate(opened.tab, "document.body.innerText")
    assert shown.count('<script>document.title = "x"</script>') >= 4
    assert "[U+202E][U+200B]" in shown


def test_dark_light_and_print_differ(chromium: Chromium, tmp_path: Path) -> None:
    path = write(tmp_path, render_report(make_text()))
    background = "getComputedStyle(document.body).backgroundColor"
    tab = chromium.open(path).tab
    light = chromium.evaluate(tab, background)
    chromium.resize(tab, 1100, dark=True)
    assert chromium.evaluate(tab, background) != light


def test_every_table_can_be_scrolled_by_keyboard(chromium: Chromium, tmp_path: Path) -> None:
    tab = chromium.open(write(tmp_path, render_report(make_result("corpus"))), width=390).tab
    script = (
        "[...document.querySelectorAll('table')].every(t => t.closest('.scroll').tabIndex === 0)"
    )
    assert chromium.evaluate(tab, script) is True


def test_a_page_is_printed_to_pdf() -> None:
    browser = installed_browser()
    if browser is None:
        pytest.skip("no Chromium or Chrome on this machine")
    printed = print_pdf(render_report(make_text()), browser)
    assert printed.startswith(b"%PDF-")
    # The document's title is the finding, with the apostrophe in UTF-16.
    assert "This text carries the key’s mark. · heirmark".encode("utf-16-be").hex().upper() in (
        printed.decode("latin-1").upper()
    )
    assert printed.count(b"/Type /Page\n") >= 3
