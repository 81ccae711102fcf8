"""Packed files that unpack to more than they may, or to one endless line: looked at beforehand."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, Final

from detect.documents import COMPRESSED
from watermark.errors import EvidenceError
from watermark.extras import import_extra

__all__ = ["refuse_bomb"]

_CHUNK: Final = 1 << 20
_MOST_BYTES: Final = 16 << 30
_LONGEST_LINE: Final = 64 << 20


def refuse_bomb(path: Path, *, most_bytes: int = _MOST_BYTES, line: int = _LONGEST_LINE) -> None:
    """Refuse a packed file that would fill memory or never end.

    Args:
        path: a file; one that is not packed is left alone.
        most_bytes: that it may unpack to.
        line: bytes of its longest line.

    Raises:
        EvidenceError: it unpacks to more, or is damaged.
    """
    if not path.name.endswith(COMPRESSED):
        return
    total = unbroken = 0
    try:
        with path.open("rb") as packed, _opened(path, packed) as unpacked:
            while chunk := unpacked.read(_CHUNK):
                total += len(chunk)
                last = chunk.rfind(b"\n")
                unbroken = unbroken + len(chunk) if last < 0 else len(chunk) - last - 1
                if total > most_bytes or unbroken > line:
                    raise EvidenceError(f"{path.name} unpacks to more than a corpus would")
    except (EOFError, zlib.error, OSError) as error:
        raise EvidenceError(f"{path.name} cannot be unpacked: {error}") from None


def _opened(path: Path, packed: Any) -> Any:
    if path.name.endswith(".gz"):
        return gzip.GzipFile(fileobj=packed)
    return import_extra("pyarrow").CompressedInputStream(packed, "zstd")
