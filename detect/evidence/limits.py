"""What the run of somebody else's test may take: memory, time and disk, set by who verifies."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from watermark.errors import ConfigError

__all__ = ["LEAST_MEMORY", "Limits", "default_memory", "impose"]

# Interpreter, numpy, numba and a tokenizer.
LEAST_MEMORY: Final = 512 << 20
_PART_OF_MEMORY: Final = 0.75
# Stacks and arenas of threads count as memory for the kernel before anything is written to them.
_UNTOUCHED: Final = 2 << 30
_UNTOUCHED_OF_A_CORE: Final = 128 << 20
_GROUPS: Final = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
_END_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG
_KILL: Final = 9


@final
@dataclass(frozen=True)
class Limits:
    """What a verification may take.

    Attributes:
        memory: bytes of all its processes together; what is only mapped from files is not counted.
        seconds: by the clock.
        disk: bytes of the files that it writes.
    """

    memory: int
    seconds: float
    disk: int

    def __post_init__(self) -> None:
        if self.memory < LEAST_MEMORY:
            raise ConfigError(f"a test cannot be run in less than {LEAST_MEMORY >> 20} MiB")
        if not (0 < self.seconds < math.inf and self.disk > 0):
            raise ConfigError("a limit of time or disk is a positive number")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, the arguments of the class."""
        return asdict(self)


def default_memory() -> int:
    """Return three quarters of the memory that this machine, or its container, has, in bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for place in _GROUPS:
        with contextlib.suppress(OSError, ValueError):
            whole = min(whole, int(Path(place).read_text(encoding="ascii")))
    return max(LEAST_MEMORY, int(_PART_OF_MEMORY * whole))


def impose(limits: Limits, parent: int) -> None:
    """Put this process and those that it starts under limits, for good.

    The kernel's limits are the last resort, each wider than what `detect.evidence.apart` watches:
    it ends a process that takes too much at once, or that nobody watches any more.

    Args:
        limits: what it may take.
        parent: the process that watches; this one ends with it (on Linux).
    """
    import resource

    cores = os.cpu_count() or 1
    memory = limits.memory + _UNTOUCHED + cores * _UNTOUCHED_OF_A_CORE
    for kind, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, math.ceil(limits.seconds * cores) + 1),
        (resource.RLIMIT_FSIZE, limits.disk),
        # A dump of memory holds the key.
        (resource.RLIMIT_CORE, 0),
    ):
        _lower(kind, most)
    _end_with(parent)
    # Where memory runs out all the same, this process shall go, and no other.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _lower(kind: int, most: int) -> None:
    import resource

    allowed = resource.getrlimit(kind)[1]
    most = min(most, sys.maxsize)
    if allowed != resource.RLIM_INFINITY:
        most = min(most, allowed)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(kind, (most, most))


def _end_with(parent: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_END_WITH_PARENT, _KILL)
    if os.getppid() != parent:
        # It ended before it could be waited for.
        os._exit(1)
