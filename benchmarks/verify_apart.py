"""What does it cost `heirmark verify` to run the test in a process of its own?

A real bundle (see `benchmarks.tampering`) is verified by turns in the way that people do, and with
all in one process, each from the start of Python to its end.

    python -m benchmarks.verify_apart
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from benchmarks.record import write_result
from benchmarks.tampering import make_bundle

__all__: list[str] = []

_APART: Final = "import sys; from detect.cli import main; sys.exit(main())"
_TOGETHER: Final = (
    "import sys; from detect.evidence import apart; "
    "from detect.evidence.verifying import verify_bundle; "
    "apart.verify_apart = lambda request, limits: verify_bundle(request); "
    "from detect.cli import main; sys.exit(main())"
)


def _seconds(code: str, case: Path, key: Path) -> tuple[float, str]:
    started = time.perf_counter()
    command = [sys.executable, "-c", code, "verify", str(case), "--key", str(key)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"heirmark verify: {done.stdout}{done.stderr}")
    return took, done.stdout


@click.command()
@click.option("--seed", default=0, show_default=True)
@click.option("--n", default=15, show_default=True, help="Runs of each.")
@click.option("--tokens", default=300, show_default=True, help="Tokens of the answer at most.")
def main(seed: int, n: int, tokens: int) -> None:
    """Run it."""
    took: dict[str, list[float]] = {"apart": [], "in one process": []}
    lines = set()
    with tempfile.TemporaryDirectory() as folder:
        case = make_bundle(Path(folder), seed, tokens)
        for _ in range(n + 1):
            for name, code in (("apart", _APART), ("in one process", _TOGETHER)):
                seconds, line = _seconds(code, case, Path(folder) / "k.json")
                took[name].append(seconds)
                lines.add(line)
    # The first of each compiles and fills the disk's cache.
    medians = {name: float(np.median(times[1:])) for name, times in took.items()}
    differences = np.subtract(took["apart"][1:], took["in one process"][1:])
    measured: dict[str, Any] = {
        "n": n,
        "the same line each time": len(lines) == 1,
        "median_seconds": {name: round(median, 3) for name, median in medians.items()},
        "median_difference_seconds": round(float(np.median(differences)), 3),
        "ratio_of_medians": round(medians["apart"] / medians["in one process"], 2),
    }
    click.echo(write_result("verify_apart", seed=seed, measured=measured).read_text())


if __name__ == "__main__":
    main()
