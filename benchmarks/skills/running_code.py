"""Running what a model wrote: in a process of its own, with little time, memory and no files.

This is no sandbox against malice. The programs are a small model's completions of school-book
functions; run them on a machine where nothing is at stake.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from typing import Final

__all__ = ["passes"]

_SECONDS: Final = 3
_LIMITS: Final = f"""\
import resource
resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
del resource
"""


def passes(program: str) -> bool:
    """Run a program.

    Args:
        program: Python source.

    Returns:
        True if it came to its end without an error: also not by leaving early.
    """
    # A program that says exit() has not come to its end.
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", f"{_LIMITS}{program}\nprint({token!r})"],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=2 * _SECONDS,
                check=False,
            )
        except (subprocess.TimeoutExpired, ValueError):
            return False  # ValueError: a NUL byte in the source
    return done.returncode == 0 and done.stdout.decode(errors="replace").endswith(token + "\n")
