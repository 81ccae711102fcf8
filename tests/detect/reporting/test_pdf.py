"""Which browser prints, how it is started, and what is said where it fails."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from detect.reporting import pdf
from detect.reporting.pdf import find_browser, print_pdf
from watermark.errors import BrowserError


def browser_that(folder: Path, script: str) -> str:
    """Write a program that stands for a browser; its switches are in the file "switches"."""
    program = folder / "chromium"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/switches\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


PRINTS = 'for s in "$@"; do case $s in --print-to-pdf=*) printf %%PDF-1.4 >"${s#*=}";; esac; done'


def test_a_browser_is_found_by_its_usual_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = browser_that(tmp_path, PRINTS)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() == program
    assert find_browser(Path(program)) == program


def test_without_a_browser_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pdf, "BROWSERS", ("chromium", "chrome"))
    with pytest.raises(BrowserError, match="apt-get install chromium"):
        find_browser()
    with pytest.raises(BrowserError, match="no program"):
        find_browser(tmp_path / "missing")
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    with pytest.raises(BrowserError, match="no program"):
        find_browser(tmp_path / "not-executable")


@pytest.mark.parametrize(("user", "without"), [(0, True), (1000, False)])
def test_only_root_prints_without_a_sandbox(
    user: int, without: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    # A shell's builtins do; the browser of the test needs no PATH.
    assert print_pdf("<p>page", browser_that(tmp_path, PRINTS)) == b"%PDF-1.4"
    switches = (tmp_path / "switches").read_text().splitlines()
    assert ("--no-sandbox" in switches) is without
    assert len(set(switches)) == len(switches)
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in switches
    profile = next(s for s in switches if s.startswith("--user-data-dir="))
    assert not Path(profile.partition("=")[2]).exists()


def test_a_browser_that_prints_nothing_is_an_error(tmp_path: Path) -> None:
    program = browser_that(tmp_path, "echo the sandbox is missing >&2; exit 1")
    with pytest.raises(BrowserError, match="the sandbox is missing"):
        print_pdf("<p>page", program)


def test_a_browser_that_hangs_is_ended_with_its_helpers(tmp_path: Path) -> None:
    program = browser_that(tmp_path, f"sleep 60 & echo $! >{tmp_path}/helper; wait")
    began = time.monotonic()
    with pytest.raises(BrowserError, match="within 1 seconds"):
        print_pdf("<p>page", program, seconds=1.0)
    assert time.monotonic() - began < 20
    helper = int((tmp_path / "helper").read_text())
    for _ in range(50):
        state = Path(f"/proc/{helper}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the browser's helper lives on")
