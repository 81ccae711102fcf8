"""The process that verifies: everything that a bundle's files could do happens here.

Started by `detect.evidence.apart`, which sends the request on standard input.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, BinaryIO, Final

from detect.evidence.checks import Check, Outcome
from detect.evidence.exchange import NOTHING, Heard, Told, tell
from detect.evidence.limits import Limits, impose
from detect.evidence.request import VerifyRequest
from detect.evidence.stops import stage_of, stop_of, stopped
from watermark.errors import WatermarkError

__all__ = ["main"]

_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def main() -> None:
    """Read a request, verify, and tell each step on standard output."""
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    impose(Limits(**asked["limits"]), asked["parent"])
    with open(os.dup(1), "wb") as out:
        # Whatever the test or a library prints is nobody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.addaudithook(_refuse_network)
        _verify(VerifyRequest.from_json(asked["request"]), out)
    # Threads of a library that a file has broken might never let go.
    os._exit(0)


def _verify(request: VerifyRequest, out: BinaryIO) -> None:
    from detect.evidence.verifying import verify_steps

    last = NOTHING
    # From here on, whatever happens comes from the bundle.
    _send(out, last)
    try:
        for found in verify_steps(request):
            last = Heard(Told.SO_FAR, found)
            _send(out, last)
        last = last._replace(told=Told.DONE)
    except BaseException as error:
        # Not Exception alone: what panics in Rust comes out as neither.
        last = _explained(last, error)
    _send(out, last)


def _send(out: BinaryIO, heard: Heard) -> None:
    out.write(tell(heard))
    out.flush()


def _explained(last: Heard, error: BaseException) -> Heard:
    stage = stage_of(last.found)
    if stop := stop_of(error):
        return Heard(Told.DONE, last.found.plus(stopped(stage, stop)))
    if isinstance(error, WatermarkError):
        return Heard(Told.ERROR, last.found, str(error))
    # Whatever was made to break its readers, and was not foreseen.
    check = Check(stage, Outcome.FAILED, f"the bundle breaks its reader: {type(error).__name__}")
    return Heard(Told.DONE, last.found.plus(check))


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and arguments[0].family in _INTERNET:
        raise PermissionError("a bundle is verified without the network")
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        raise PermissionError("a bundle is verified without the network")
