"""Where benchmark results go: one JSON a question, with machine, commit, seed and command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["machine", "write_result"]

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("numpy", "scipy", "numba", "torch", "transformers", "tokenizers")


def write_result(
    name: str, *, seed: int, measured: dict[str, Any], case: str | None = None
) -> Path:
    """Write one result file.

    Args:
        name: the benchmark's module, the question asked; the file's name without suffix.
        seed: what made the random numbers.
        measured: the numbers.
        case: for a benchmark whose cases are run one by one, this case's name: its file stands in
            a folder of the benchmark's name.

    Returns:
        The file's path.
    """
    payload = {
        "benchmark": name,
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *map(_argument, sys.argv[1:])]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **_commit(),
        "seed": seed,
        "machine": machine(),
        "measured": measured,
    }
    path = RESULTS / name / f"{case}.json" if case else RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _commit() -> dict[str, Any]:
    # A machine that holds a copy of a commit's tree without its history is told which it is.
    if told := os.environ.get("BENCHMARK_COMMIT"):
        return {"commit": told, "uncommitted_changes": False}
    changed = _git("status", "--porcelain", "--", ":/watermark", ":/detect")
    return {"commit": _git("rev-parse", "HEAD"), "uncommitted_changes": bool(changed)}


def _argument(text: str) -> str:
    """Quote an argument; of a path on this machine only its name is anybody's business."""
    return shlex.quote(Path(text).name if Path(text).is_absolute() else text)


def machine() -> dict[str, Any]:
    """Describe processor, memory, Python and package versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        **_accelerator(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _accelerator() -> dict[str, str]:
    """Name the accelerator, where the benchmark has loaded torch and torch finds one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    return {"accelerator": torch.cuda.get_device_name()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip() if done.returncode == 0 else None
