"""The folder of a run: each stage is made once, whole or not at all, and timed.

What is timed is the process's own work, in seconds of one processor core: a machine that has other
work beside it does not make a stage dearer.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import click

__all__ = ["Stages"]


@final
@dataclass(frozen=True)
class Stages:
    """Where a run keeps what it has made.

    Attributes:
        folder: the run's folder; a second run in it goes on where the first one stopped.
    """

    folder: Path
    # Seconds of the stages made inside each of those that are being made.
    _inner: list[float] = field(default_factory=list, init=False, repr=False, compare=False)

    def made(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a stage's file or folder, made now unless it was made before.

        Args:
            name: the file's or folder's name.
            make: writes it to the path given, which is moved into place when all is written.

        Returns:
            Its path.
        """
        path = self.folder / name
        if path.exists():
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: some writers go by it.
        partial = self.folder / f"partial-{name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
        started = time.process_time()
        self._inner.append(0.0)
        try:
            make(partial)
        finally:
            within = self._inner.pop()
        seconds = time.process_time() - started
        if self._inner:
            self._inner[-1] += seconds
        for kind, measured in (("within", within), ("seconds", seconds)):
            (self.folder / f"{name}.{kind}").write_text(f"{measured:.1f}\n", encoding="utf-8")
        partial.rename(path)
        click.echo(f"{seconds:8.1f} s  {name}")
        return path

    def kept(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a stage measured, measured now unless it was before; kept as JSON."""
        path = self.made(name, lambda path: path.write_text(json.dumps(measure()), "utf-8"))
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found

    def seconds(self) -> dict[str, float]:
        """Tell how long each stage took by itself, less the stages made inside it.

        Where it was not noted how long those took, nothing is taken off: a bound from above. So is
        the time of a stage that one thread made before processor time was noted: the clock's.
        """
        taken, within = self._noted("seconds"), self._noted("within")
        return {name: round(took - within.get(name, 0.0), 1) for name, took in taken.items()}

    def _noted(self, kind: str) -> dict[str, float]:
        files = sorted(self.folder.glob(f"*.{kind}"))
        return {f.name.removesuffix(f".{kind}"): json.loads(f.read_text("utf-8")) for f in files}
