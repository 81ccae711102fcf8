"""Keys and openings that were revealed: no longer secrets, so whoever reads them does no harm."""

from __future__ import annotations

import json
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from watermark.commitments.commitment import Opening
from watermark.errors import CommitmentError, KeyFileError
from watermark.keyring.key_files import parse_key, save_key

__all__ = ["load_revealed_opening", "revealed_key"]

_MOST_BYTES: Final = 1 << 18
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@contextmanager
def revealed_key(place: str | None) -> Iterator[str | None]:
    """Give commands a key file that they accept, though others may read the revealed one.

    Args:
        place: a key file, absolute, or what else `watermark.keyring.secret_stores` knows.

    Yields:
        The same place, or a private copy's.

    Raises:
        KeyFileError: damaged.
    """
    path = Path(place.removeprefix("file:")) if place is not None else None
    if path is None or not path.is_file() or not stat.S_IMODE(path.stat().st_mode) & _OTHERS:
        yield place
        return
    key = parse_key(_text(path, "key file"), str(path))
    with tempfile.TemporaryDirectory(prefix="heirmark-") as folder:
        copy = Path(folder) / "revealed.key.json"
        save_key(key, copy)
        yield str(copy)


def load_revealed_opening(path: Path) -> Opening:
    """Read an opening, whoever else may read it.

    Args:
        path: the file.

    Returns:
        The opening.

    Raises:
        KeyFileError: it cannot be read.
        CommitmentError: damaged; the message never quotes the content.
    """
    text = _text(path, "opening")
    try:
        return Opening.from_dict(json.loads(text))
    except CommitmentError as error:
        raise CommitmentError(f"{path}: {error}") from None
    except (ValueError, RecursionError):
        raise CommitmentError(f"{path} is not an intact opening") from None


def _text(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("ascii", errors="replace")
    except OSError as error:
        raise KeyFileError(f"cannot read the {what} {path}: {error.strerror}") from None
