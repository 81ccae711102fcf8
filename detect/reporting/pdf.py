"""Prints a report page to PDF by a Chromium that is on the machine.

The page is our own: no script, no network, a policy that forbids both. The browser gets an empty
profile of its own and no name resolution all the same.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from watermark.errors import BrowserError

__all__ = ["BROWSERS", "find_browser", "print_pdf"]

# As Debian, Fedora, Google and Microsoft name them; on a Mac programs are not on PATH.
BROWSERS: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_SWITCHES: Final = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer",
)
# A document of 20,000 coloured tokens took 75 seconds on a busy machine of two cores.
_SECONDS: Final = 300
_SHOWN: Final = 300


def find_browser(given: Path | None = None) -> str:
    """Find the browser that prints.

    Args:
        given: its path; None looks for one of `BROWSERS`.

    Returns:
        The path of a program.

    Raises:
        BrowserError: there is none; says what to install.
    """
    names = BROWSERS if given is None else (str(given),)
    for name in names:
        if found := shutil.which(name):
            return found
    if given is not None:
        raise BrowserError(f"{given} is no program that can be run; give --browser its path")
    raise BrowserError(
        "a PDF is printed by Chromium or Chrome, and none is on PATH; install one (Debian: "
        "apt-get install chromium), or give --browser its path, or print the HTML page from any "
        "browser"
    )


def print_pdf(page: str, browser: str, *, seconds: float = _SECONDS) -> bytes:
    """Print a page.

    Args:
        page: HTML of `render_report`. Not for other pages: root's browser has no sandbox.
        browser: what `find_browser` gave.
        seconds: time limit.

    Returns:
        The PDF.

    Raises:
        BrowserError: the browser failed, or took longer.
    """
    with tempfile.TemporaryDirectory(prefix="heirmark-pdf-", ignore_cleanup_errors=True) as folder:
        source, target, said = (Path(folder, name) for name in ("page.html", "page.pdf", "said"))
        source.write_text(page, "utf-8")
        switches = (*_SWITCHES, *_own_switches(folder), f"--print-to-pdf={target}")
        _run([browser, *switches, source.as_uri()], said, seconds)
        words = " ".join(said.read_text("utf-8", "replace").split())[-_SHOWN:]
        printed = target.read_bytes() if target.is_file() else b""
    if not printed.startswith(b"%PDF"):
        raise BrowserError(f"{browser} printed no PDF; it said: {words or 'nothing'}")
    return printed


def _own_switches(folder: str) -> tuple[str, ...]:
    # Chromium refuses to run with its sandbox as root.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    profile = f"--user-data-dir={Path(folder, 'profile')}"
    return (profile, *(("--no-sandbox",) if is_root else ()))


def _run(command: Sequence[str], said: Path, seconds: float) -> None:
    """Run a command with all that it starts; what it says goes to a file."""
    try:
        # A file, not a pipe: a helper that outlives the browser would hold a pipe open.
        with said.open("wb") as words:
            # A browser that the user has, or names.
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            )
    except OSError as error:
        raise BrowserError(f"{command[0]} cannot be run: {error.strerror}") from None
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise BrowserError(f"{command[0]} did not print within {seconds:g} seconds") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
