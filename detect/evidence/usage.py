"""What a process and all that it started take: memory, and disk in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["bytes_under", "memory_of"]

_KIB: Final = 1024
# Memory of its own; pages of a file that is mapped can be dropped at any time.
_COUNTED: Final = ("RssAnon:", "RssShmem:")


def memory_of(pid: int) -> int:
    """Add up the memory of a process and its descendants.

    Args:
        pid: of the process.

    Returns:
        Bytes; 0 where the system does not say (it has no /proc), or the process is gone.
    """
    return sum(map(_own_memory, _family(pid)))


def _own_memory(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines() if line.startswith(_COUNTED))
    return sum(int(words[1]) * _KIB for words in lines)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        # A process is the child of the thread that started it.
        for task in os.listdir(f"/proc/{pid}/task"):
            children = Path(f"/proc/{pid}/task/{task}/children")
            with contextlib.suppress(OSError):
                for child in children.read_text(encoding="ascii").split():
                    yield from _family(int(child))


def bytes_under(folder: Path) -> int:
    """Add up what the files of a folder, at any depth, take of the disk, in bytes."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_blocks * 512
    return total
