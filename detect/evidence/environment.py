"""What a result was computed with: versions, machine, and a hash of heirmark's own code."""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from watermark.version import own_version

__all__ = ["differences", "environment"]

_PACKAGES: Final = ("numpy", "scipy", "numba", "tokenizers", "jinja2")
# Named where the test has loaded them.
_PERHAPS: Final = ("torch", "transformers", "pyarrow")


def environment() -> dict[str, Any]:
    """Describe what this process computes with; names no user, host or path.

    Returns:
        JSON values.
    """
    names = (*_PACKAGES, *(name for name in _PERHAPS if name in sys.modules))
    return {
        "heirmark": own_version(),
        "code_sha256": _code_sha256(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in names},
    }


def differences(recorded: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Name what differs between two environments.

    Args:
        recorded: of the bundle.
        here: of this process.

    Returns:
        For example ["numpy 2.1.0, here 2.3.1"].
    """
    found = [
        f"{name} {recorded[name]}, here {here[name]}"
        for name in ("heirmark", "python", "system", "machine")
        if recorded[name] != here[name]
    ]
    if recorded["code_sha256"] != here["code_sha256"]:
        found.append("other code of heirmark")
    packages = {**recorded["packages"]}
    found += [
        f"{name} {was}, here {here['packages'].get(name, _version(name))}"
        for name, was in sorted(packages.items())
        if here["packages"].get(name, _version(name)) != was
    ]
    return found


@cache
def _code_sha256() -> str:
    """Hash the names and contents of all modules of both packages."""
    import detect
    import watermark

    whole = hashlib.sha256()
    for package in (detect, watermark):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            name = f"{package.__name__}/{path.relative_to(root).as_posix()}"
            content = hashlib.sha256(path.read_bytes()).digest()
            whole.update(name.encode() + b"\0" + content)
    return whole.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
