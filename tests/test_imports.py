"""The import direction of the design, and what must stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    "errors", "extras", "version", "discovery", "storage", "keys", "keyring", "prf_reference",
    "kernels", "schemes", "word_sources", "prf", "contexts", "interop", "channels", "markable",
    "config", "engine_settings", "gguf", "models", "tokens", "borders", "due_rows",
    "row_kernels", "marking", "processor", "generation", "serving", "profiles", "commitments",
    "registry", "commands", "cli",
]  # fmt: skip
HEAVY = (
    "torch", "transformers", "datasets", "pyarrow", "numba", "jinja2", "scipy.stats", "sqlalchemy",
    "alembic", "httpx", "rfc3161_client",
)  # fmt: skip


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _module(path: Path) -> str:
    return path.relative_to(ROOT / "watermark").parts[0].removesuffix(".py")


FILES = sorted(p for p in (ROOT / "watermark").rglob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_watermark_imports_downwards_only(path: Path) -> None:
    own = ORDER.index(_module(path))
    for name in _imports(path):
        assert not name.startswith("detect"), f"{path.name} imports {name}"
        parts = name.split(".")
        if parts[0] == "watermark" and len(parts) > 1 and parts[1] in ORDER:
            # tokens and models load each other's results lazily: a name resolves to a folder.
            assert ORDER.index(parts[1]) <= own, f"{path.name} imports {name}"


def test_only_the_processor_needs_transformers_at_import() -> None:
    """Importing what detection needs brings in nothing heavy."""
    code = (
        "import sys, detect.cli, detect.text, detect.corpus, detect.finding, watermark.tokens;"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_who_asks_an_endpoint_needs_no_torch() -> None:
    code = (
        "import sys, detect.suspect.probing, detect.suspect.endpoint;"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
