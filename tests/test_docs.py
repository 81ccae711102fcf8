"""What the documents point to is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(
    p for name in ("watermark", "detect", "benchmarks") for p in (ROOT / name).rglob("*.py")
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", [*TEXTS, *CODE], ids=lambda p: str(p.relative_to(ROOT)))
def test_named_modules_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\bbenchmarks\.([a-z_]+)\b", text):
        module = ROOT / "benchmarks" / name
        assert module.is_dir() or module.with_suffix(".py").exists(), name
    for name in re.findall(r"`detect/((?:\w+/)*\w+\.py)`", text):
        assert (ROOT / "detect" / name).exists(), name


def test_documents_name_no_home_folder() -> None:
    done = subprocess.run(
        ["git", "grep", "-lE", "/(home|root|work)/[a-z]", "--", "*.md", "*.py", "*.json", "*.toml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert set(done.stdout.split()) <= {"tests/test_docs.py"}
