"""Optional packages, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from watermark.errors import MissingExtraError

__all__ = ["import_extra"]


def import_extra(name: str, extra: str = "corpus") -> Any:
    """Import a module of an optional package.

    Args:
        name: its full name.
        extra: the extra of ours that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError(name.partition(".")[0], extra) from None
