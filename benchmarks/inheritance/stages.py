"""The folder of a run: each stage is made once, whole or not at all, and timed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
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
        started = time.monotonic()
        make(partial)
        seconds = round(time.monotonic() - started, 1)
        (self.folder / f"{name}.seconds").write_text(f"{seconds}\n", encoding="utf-8")
        partial.rename(path)
        click.echo(f"{seconds:8.1f} s  {name}")
        return path

    def kept(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a stage measured, measured now unless it was before; kept as JSON."""
        path = self.made(name, lambda path: path.write_text(json.dumps(measure()), "utf-8"))
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found

    def seconds(self) -> dict[str, float]:
        """Tell how long each stage took."""
        files = sorted(self.folder.glob("*.seconds"))
        return {f.name.removesuffix(".seconds"): json.loads(f.read_text("utf-8")) for f in files}
