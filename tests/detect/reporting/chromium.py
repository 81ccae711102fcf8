"""A real Chromium for tests, driven over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from detect.reporting.pdf import BROWSERS

__all__ = ["Chromium", "Opened", "installed_browser"]

_SECONDS = 60.0
_SWITCHES = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


def installed_browser() -> str | None:
    """Return the browser of this machine, if it has one."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Opened(NamedTuple):
    """What opening a page did: console lines, the addresses that it asked for, and its tab."""

    console: list[str]
    requests: list[str]
    tab: str


class Chromium:
    """One browser; every page gets a tab of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # The protocol's descriptors are 3 and 4: out of their way first.
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 64) for end in (theirs_in, theirs_out))

        def connect() -> None:
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        is_root = os.geteuid() == 0
        self._process = subprocess.Popen(
            [program, *_SWITCHES, *(["--no-sandbox"] if is_root else []),
             f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            start_new_session=True,
            preexec_fn=connect,
        )  # fmt: skip
        for end in (theirs_in, theirs_out, reads, writes):
            os.close(end)
        self._in, self._out = ours_in, ours_out
        self._numbers = itertools.count(1)
        self._unread = b""
        self._events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End the browser and its helpers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(end - time.monotonic(), 0.0))
            assert ready, "Chromium does not answer"
            piece = os.read(self._in, 1 << 20)
            assert piece, "Chromium has gone"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _call(self, method: str, tab: str = "", **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        request = {"id": number, "method": method, "params": params}
        if tab:
            request["sessionId"] = tab
        unsent = json.dumps(request).encode() + b"\0"
        while unsent:
            unsent = unsent[os.write(self._out, unsent) :]
        while (answer := self._read()).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path, *, width: int = 1100, dark: bool = False) -> Opened:
        """Open a page in a tab of its own and wait until it is loaded."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        tab = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable", tab)
        self.resize(tab, width, dark=dark)
        self._events.clear()
        self._call("Page.navigate", tab, url=page.as_uri())
        self._wait(lambda event: event.get("method") == "Page.loadEventFired")
        # One turn more, in which what was reported late comes in.
        self.evaluate(tab, "document.title")
        return Opened(self._console(), self._requests(), tab)

    def resize(self, tab: str, width: int, *, dark: bool = False) -> None:
        """Give a tab the width of a phone or a desk, in light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride", tab, width=width, height=900,
            deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", tab, media="", features=[scheme])

    def evaluate(self, tab: str, script: str) -> Any:
        """Compute a value in a page."""
        answer = self._call("Runtime.evaluate", tab, expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, tab: str) -> bytes:
        """Return the visible part of a page as PNG."""
        shot = self._call("Page.captureScreenshot", tab, format="png")
        return base64.b64decode(shot["data"])

    def _wait(self, is_it: Callable[[dict[str, Any]], bool]) -> None:
        while not any(map(is_it, self._events)):
            self._events.append(self._read())

    def _console(self) -> list[str]:
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"]) for e in self._events if e.get("method") in methods]

    def _requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self._events
            if event.get("method") == "Network.requestWillBeSent"
        ]
