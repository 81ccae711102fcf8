"""Verify a bundle in a process of its own, which is watched, and ended when it takes too much.

Native code that a file breaks takes that process with it and not this one: an answer comes always.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from detect.evidence.checks import Verification
from detect.evidence.exchange import MOST_BYTES, Told, hear
from detect.evidence.limits import Limits
from detect.evidence.request import VerifyRequest
from detect.evidence.stops import Stop, stage_of, stopped
from detect.evidence.usage import bytes_under, memory_of
from watermark.errors import EvidenceError

__all__ = ["verify_apart"]

_LOOK_EVERY: Final = 0.1  # seconds
_LAST_WORD: Final = 2.0  # seconds
_PATIENCE: Final = 20
_ENV: Final = "env:"
# As `multiprocessing` does: the same modules, from nowhere that this process would not look.
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from detect.evidence.child import main; main()"
)
# What a process needs to run and to find models that the verifier has; secrets have other names.
_PASSED_ON: Final = frozenset(
    {
        "PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME",
        "HF_HOME", "HF_HUB_CACHE", "HEIRMARK_CACHE", "NUMBA_CACHE_DIR", "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS",
    }
)  # fmt: skip
_SET: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def verify_apart(request: VerifyRequest, limits: Limits) -> Verification:
    """Verify a bundle in another process.

    Args:
        request: the bundle, and what the verifier has.
        limits: what the process may take; a quarter of the disk's free space is left in any case.

    Returns:
        Every check; one that was stopped says by what. When this returns, or Ctrl-C ends it, the
        process and all that it wrote are gone.

    Raises:
        EvidenceError: what the verifier gave cannot be read, or the process cannot begin; never for
            the bundle's sake.
    """
    with tempfile.TemporaryDirectory(prefix="heirmark-", ignore_cleanup_errors=True) as folder:
        free = shutil.disk_usage(folder).free * 3 // 4
        limits = Limits(limits.memory, limits.seconds, max(1, min(limits.disk, free)))
        watched = _Watched(_started(request, Path(folder)), limits, Path(folder))
        try:
            watched.send(request)
            return watched.answer()
        finally:
            watched.end()


def _started(request: VerifyRequest, folder: Path) -> subprocess.Popen[bytes]:
    path = [os.path.abspath(place) for place in sys.path]
    environment = _environment(os.environ, request.key_place or "", folder)
    if request.given:
        environment["HEIRMARK_CACHE"] = str(_cache_over(folder / "cache"))
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-c", _START, json.dumps(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Ctrl-C is for this process, which then ends the other and all that it started.
        start_new_session=True,
    )


def _environment(here: Mapping[str, str], key_place: str, folder: Path) -> dict[str, str]:
    named = {key_place.removeprefix(_ENV)} if key_place.startswith(_ENV) else set()
    passed = {name: here[name] for name in here if name in _PASSED_ON | named or name[:3] == "LC_"}
    return {**passed, **_SET, "TMPDIR": str(folder)}


def _cache_over(folder: Path) -> Path:
    """Show the models that were converted before, and keep what is converted now to itself."""
    from watermark.models import default_cache

    folder.mkdir()
    with contextlib.suppress(OSError):
        for one in default_cache().iterdir():
            if one.is_dir():
                (folder / one.name).symlink_to(one)
    return folder


class _Watched:
    """The process, from its start to its end."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits, folder: Path) -> None:
        self._process, self._limits, self._folder = process, limits, folder
        self._until = time.monotonic() + limits.seconds
        self._said = bytearray()
        self._look_again = 0.0

    def send(self, request: VerifyRequest) -> None:
        """Tell it what to do."""
        asked = {
            "limits": self._limits.to_dict(),
            "parent": os.getpid(),
            "request": request.to_json(),
        }
        # One that is gone already is told nothing, and its end is seen.
        with contextlib.suppress(BrokenPipeError), self._pipe(self._process.stdin) as file:
            file.write(json.dumps(asked).encode("ascii") + b"\n")

    def answer(self) -> Verification:
        """Wait for its answer, or for what it takes to be too much."""
        stop = self._listen()
        if stop is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORD)
        heard = hear(bytes(self._said))
        if heard.told is Told.DONE:
            return heard.found
        if heard.told is Told.ERROR:
            raise EvidenceError(heard.words)
        cause, detail = stop or self._cause_of_death()
        if not self._said and cause is Stop.CRASH:
            raise EvidenceError(
                f"the process that verifies could not begin ({detail}): nothing of the bundle was "
                "read. Try more --memory; `heirmark --help` shows whether heirmark itself runs"
            )
        return heard.found.plus(stopped(stage_of(heard.found), cause, detail))

    def end(self) -> None:
        """End it, and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe(self._process.stdout).close()

    def _listen(self) -> tuple[Stop, str] | None:
        """Read what it says until it says no more; return what it was too much of, if anything."""
        out = self._pipe(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while True:
                if selector.select(_LOOK_EVERY):
                    said = os.read(out.fileno(), 1 << 16)
                    self._said += said
                    if not said:
                        return None
                if excess := self._excess():
                    return excess

    def _excess(self) -> tuple[Stop, str] | None:
        limits = self._limits
        if time.monotonic() > self._until:
            return Stop.TIME, f"{limits.seconds:,.0f} s"
        if memory_of(self._process.pid) > limits.memory:
            return Stop.MEMORY, _gib(limits.memory)
        if self._fills_the_disk():
            return Stop.DISK, _gib(limits.disk)
        if len(self._said) > MOST_BYTES:
            return Stop.CRASH, "it does not stop talking"
        return None

    def _fills_the_disk(self) -> bool:
        # A folder of many files takes long to add up: no more than a part of the time is for that.
        now = time.monotonic()
        if now < self._look_again:
            return False
        is_full = bytes_under(self._folder) > self._limits.disk
        self._look_again = time.monotonic() + _PATIENCE * (time.monotonic() - now)
        return is_full

    def _cause_of_death(self) -> tuple[Stop, str]:
        code = self._process.poll()
        if code == -signal.SIGKILL:
            return Stop.KILLED, "SIGKILL"
        if code == -signal.SIGXCPU:
            return Stop.TIME, "of the processor"
        if code is not None and code < 0:
            return Stop.CRASH, signal.Signals(-code).name
        return Stop.CRASH, f"exit code {code}"

    def _pipe(self, pipe: IO[bytes] | None) -> IO[Any]:
        assert pipe is not None
        return pipe


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
