"""The packages of the extra "evidence", imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from watermark.errors import MissingExtraError

__all__ = ["import_evidence"]


def import_evidence(name: str) -> Any:
    """Import a module of the extra "evidence".

    Args:
        name: its full name.

    Returns:
        The module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError(name.partition(".")[0], "evidence") from None
