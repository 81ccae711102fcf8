"""What the documents point to is there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from detect.cli import heirmark

ROOT = Path(__file__).parents[1]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CODE = sorted(
    p for name in ("watermark", "detect", "benchmarks") for p in (ROOT / name).rglob("*.py")
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_into_a_page_find_their_heading(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", text):
        assert anchor in _anchors(path.parent / page if page else path), f"{page}#{anchor}"


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


@pytest.mark.parametrize("package", ["watermark", "detect"])
def test_the_map_names_every_module_once(package: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = text.split(f"`{package}/` is the ")[1].split("\n`")[0]
    folder = ROOT / package
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert sorted(re.findall(r"`(\w+/?)`", part)) == sorted(modules | packages)


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, path.name


def test_decisions_are_numbered_and_titled_alike() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(folder.glob("0*.md"))
    for number, path in enumerate(records, 1):
        assert path.name.startswith(f"{number:04}-")
        assert path.read_text(encoding="utf-8").startswith(f"# {number:04} "), path.name
        assert f"[{number:04}]({path.name})" in index


def _commands(path: Path) -> list[str]:
    """Commands of a page, each at the beginning of its line; a backslash joins two lines."""
    text = re.sub(r"\\\n *", " ", path.read_text(encoding="utf-8"))
    fenced, found = False, []
    for line in text.split("\n"):
        fenced ^= line.startswith("```")
        if re.match("heirmark" if fenced else " {4}heirmark", line) and "[-" not in line:
            found.append(line.strip())
    return found


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_are_ones_that_the_command_line_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIRMARK_REGISTRY", "registry.db")
    for line in _commands(path):
        command: click.Command = heirmark
        _, *words = shlex.split(line, comments=True)
        # What comes behind a pipe is another command.
        words = words[: words.index("|")] if "|" in words else words
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        # Options and arguments are read and checked; nothing is run.
        with command.make_context(line, words):
            pass


def test_the_readme_has_commands_to_check() -> None:
    assert len(_commands(ROOT / "README.md")) > 25
