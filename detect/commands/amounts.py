"""Amounts on the command line: bytes as 8G, time as 90s or 2h."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

__all__ = ["read_bytes", "read_seconds"]

_AMOUNT: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?([A-Za-z]{0,3})")
_BYTES: Final = MappingProxyType({"M": 1 << 20, "G": 1 << 30, "T": 1 << 40})
_SECONDS: Final = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86_400})


def read_bytes(text: str) -> int:
    """Read an amount of memory or disk: "512M", "8G", "1.5T", in powers of 1024.

    Args:
        text: as given.

    Returns:
        Bytes.

    Raises:
        click.BadParameter: something else, or nothing.
    """
    return _read(text, _BYTES, "512M or 8G")


def read_seconds(text: str) -> int:
    """Read a duration: "90s", "30m", "2h", "1d"; see `read_bytes`."""
    return _read(text, _SECONDS, "90s, 30m or 2h")


def _read(text: str, units: Mapping[str, int], examples: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    amount = int(float(found[1]) * units.get(found[2], 0)) if found else 0
    if not amount:
        raise click.BadParameter(f"{text!r}: expected an amount with its unit, as {examples}")
    return amount
