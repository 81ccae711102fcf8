"""Which heirmark this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["own_version"]


def own_version() -> str:
    """Return the installed version; "source" for a tree of files that nobody has installed."""
    try:
        return version("heirmark")
    except PackageNotFoundError:
        return "source"
