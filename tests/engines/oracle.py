"""Asking an engine's own code, in its own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ENGINES", "ROOT", "ask", "python_of"]

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / ".engines"


def python_of(engine: str) -> Path:
    """Return the interpreter of an engine's environment; skip the test where that is not built."""
    folder = ENGINES / engine
    if not (folder / ".installed").exists():
        reason = ENGINES / f"{engine}.unavailable"
        why = reason.read_text().strip() if reason.exists() else "run: make engines"
        pytest.skip(f"the environment of {engine} is not built; {why}")
    return folder / "bin" / "python"


def ask(engine: str, request: dict[str, Any], *, timeout: float = 600) -> dict[str, Any]:
    """Run `ENGINE_oracle.py` in `.engines/ENGINE`; skip the test where that is not built."""
    script = Path(__file__).with_name(f"{engine}_oracle.py")
    done = subprocess.run(
        [python_of(engine), script],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reply: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return reply
