"""Ctrl-C: exit code 130 and no traceback, at whatever moment it comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

__all__ = ["INTERRUPTED", "leave_on_interrupt", "run_interruptible"]

# What a shell reports of a process that SIGINT has ended.
INTERRUPTED = 128 + signal.SIGINT

Handler = Callable[[int, FrameType | None], object]


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once, for as long as there is nothing to tidy up.

    An exception would do for most of that time; but an import half done may swallow it, or turn it
    into an error of its own.
    """
    _handle(lambda number, frame: os._exit(INTERRUPTED))


def run_interruptible(command: Callable[[], int]) -> int:
    """Run a command that Ctrl-C interrupts with `KeyboardInterrupt`, so that it can tidy up.

    Args:
        command: returns its exit code.

    Returns:
        Its exit code, or `INTERRUPTED` if Ctrl-C came, however the command took it.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    try:
        # Inside, since the first Ctrl-C may come the moment that it is handled.
        try:
            _handle(interrupt)
            code = command()
        finally:
            leave_on_interrupt()
    except BaseException:
        if came:
            return _interrupted()
        raise
    return _interrupted() if came else code


def _interrupted() -> int:
    # An interrupt that leaves a string under exec(), as dataclasses are made while modules are
    # imported, marks the interpreter (CPython, run_eval_code_obj): under `python -m` it would end
    # by the signal and not by our exit code. Another exec() takes the mark away.
    exec("pass")  # noqa: S102
    return INTERRUPTED


def _handle(handler: Handler) -> None:
    # A process started in the background may be told to ignore Ctrl-C; it goes on doing so.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)
