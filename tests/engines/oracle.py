"""Asking an engine's own code, in its own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ask"]

ROOT = Path(__file__).parents[2]


def ask(engine: str, request: dict[str, Any], *, timeout: float = 600) -> dict[str, Any]:
    """Run `ENGINE_oracle.py` in `.engines/ENGINE`; skip the test where that is not built."""
    python = ROOT / ".engines" / engine / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the environment of {engine} is not built; run: make engines")
    script = Path(__file__).with_name(f"{engine}_oracle.py")
    done = subprocess.run(
        [python, script],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reply: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return reply
