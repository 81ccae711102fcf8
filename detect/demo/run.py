"""The demo's stages, in order. Each leaves a file, so that a stopped run goes on where it was."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from detect.demo.folder import (
    TEMPERATURE,
    TOP_K,
    Run,
    Size,
    read_rows,
    start,
    write,
)
from detect.demo.making import ask, teach, train
from detect.demo.testing import mixed_corpus, probe_by_text, probe_by_weights, single_answers
from detect.results import Verdict
from watermark.storage.files import dump_json

__all__ = ["run_demo"]


def run_demo(
    folder: Path, model: str, *, size: Size, say: Callable[[str], object]
) -> dict[str, Any]:
    """Run the demo, or go on with one.

    Args:
        folder: where everything is kept.
        model: the teacher: "smollm2", a folder or a Hub id.
        size: how large; `FULL` and `QUICK` are the command's.
        say: prints a line.

    Returns:
        What demo.json holds.

    Raises:
        ConfigError: the folder holds a run of another kind.
    """
    run = start(folder, model, size, say)
    marked = run.stage(
        "teacher answers under the key", "marked.jsonl", lambda p: teach(run, p, marked=True)
    )
    plain = run.stage(
        "teacher answers without a key", "unmarked.jsonl", lambda p: teach(run, p, marked=False)
    )
    single_answers(run, read_rows(marked), read_rows(plain))
    mixed_corpus(run, read_rows(marked), read_rows(plain))
    student = run.stage(
        "student learns from the marked answers", "student", lambda p: train(run, marked, p)
    )
    twin = run.stage(
        "twin learns from the unmarked answers", "twin", lambda p: train(run, plain, p)
    )
    models = {"student": student, "twin": twin, "base": run.model}
    asked = {
        name: run.stage(
            f"{name} answers held-out prompts",
            f"{name}-answers.jsonl",
            lambda p, m=path: ask(run, m, p),  # type: ignore[misc]
        )
        for name, path in models.items()
    }
    probe_by_text(run, asked)
    probe_by_weights(run, models, asked["base"])
    return _finish(run)


def _finish(run: Run) -> dict[str, Any]:
    from detect.reporting import render_report

    payload = {
        "kind": "demo",
        "verdict": _verdict(run.steps).value,
        "key_id": run.key.key_id,
        "config": run.config.to_dict(),
        "recipe": {**asdict(run.size), "temperature": TEMPERATURE, "top_k": TOP_K},
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {
            name: version(name) for name in ("heirmark", "torch", "transformers", "numpy")
        },
        "steps": run.steps,
        "work": run.work,
        "seconds": round(time.monotonic() - run.started + run.kept_seconds, 1),
        "command": "heirmark demo --output " + run.folder.name,
    }
    write(run.folder / "demo.json", dump_json(payload))
    write(run.folder / "report.html", render_report(payload))
    run.say(f"wrote {run.folder / 'report.html'} and {run.folder / 'demo.json'}")
    return payload


def _verdict(steps: list[dict[str, Any]]) -> Verdict:
    """Return the run's finding: a signal if the student shows it both by text and by weights."""
    verdicts = [step["verdict"] for step in steps if step.get("suspect") == "student"]
    proven = all(verdict == Verdict.SIGNAL.value for verdict in verdicts)
    return Verdict.SIGNAL if proven else Verdict.INCONCLUSIVE
