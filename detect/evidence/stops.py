"""Verifications that were stopped: what happened, in words, and what to do.

A bundle that was made to break its reader, and one that is too large for this machine, look the
same: neither is verified, and neither is shown to be false.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from typing import Final, final

from detect.evidence.checks import Check, Outcome, Verification

__all__ = ["Stop", "stage_of", "stop_of", "stopped"]

_FULL: Final = frozenset({errno.EFBIG, errno.ENOSPC, errno.EDQUOT})
# Said by torch, which raises RuntimeError.
_NO_MEMORY: Final = ("can't allocate memory", "out of memory")
_MOST_LINKS: Final = 32
# The checks that are always made, in order, and what is being done before each.
_STAGES: Final = {
    "signature": "reading the envelope",
    "files": "hashing the files",
    "schema": "reading manifest and result",
    "words": "comparing the words",
}
_LAST: Final = "recomputed"


@final
class Stop(StrEnum):
    """Why a verification ended half way."""

    MEMORY = "needs more memory than it may take"
    TIME = "takes longer than it may"
    DISK = "writes more to the disk than it may"
    CRASH = "crashed"
    KILLED = "was killed from outside"


# What to do about it.
_ADVICE: Final = {
    Stop.MEMORY: "the limit is set by --memory",
    Stop.TIME: "the limit is set by --time-limit",
    Stop.DISK: "the limit is set by --disk, and by what is free",
    Stop.CRASH: "a file of the bundle broke a library that reads it: ask the signer how it was "
    "made, and try other versions of the libraries",
    Stop.KILLED: "Linux does that where memory runs out: try less --memory, or another machine",
}


def stage_of(found: Verification) -> str:
    """Return the name of the check that is made next."""
    done = {check.name for check in found.checks}
    return next((name for name in _STAGES if name not in done), _LAST)


def stopped(stage: str, stop: Stop, detail: str = "") -> Check:
    """Say that a check was stopped.

    Args:
        stage: name of the check.
        stop: why.
        detail: for example the limit, "8.0 GiB".

    Returns:
        The check.
    """
    doing = _STAGES.get(stage, "running the test again")
    shown = f" ({detail})" if detail else ""
    said = f"{doing} {stop.value}{shown}; {_ADVICE[stop]}. Nothing is said of the result"
    return Check(stage, Outcome.STOPPED, said)


def stop_of(error: BaseException) -> Stop | None:
    """Tell errors that speak against this machine, not against the bundle.

    Args:
        error: whatever was raised.

    Returns:
        Why the verification stopped; None if the error is the bundle's own.
    """
    for one in _chain(error):
        if isinstance(one, MemoryError):
            return Stop.MEMORY
        if isinstance(one, RuntimeError) and any(text in str(one) for text in _NO_MEMORY):
            return Stop.MEMORY
        if isinstance(one, OSError) and one.errno in _FULL:
            return Stop.DISK
        if isinstance(one, OSError) and one.errno == errno.ENOMEM:
            return Stop.MEMORY
        if isinstance(one, BrokenProcessPool):
            return Stop.CRASH
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was made of, "from None" or not."""
    for _ in range(_MOST_LINKS):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
