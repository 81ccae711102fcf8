"""The work folder of a scan as a place: its owner's alone, and one scan at a time works there.

Scores of many pairs give the key away (each layer's words come back by correlation, a green list by
counting), so that the folder is as secret as the key.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from watermark.errors import ConfigError

__all__ = ["MANIFEST", "clear", "is_own", "make_private", "own_files", "working_in"]

MANIFEST: Final = "heirmark-scan.json"
_LOCK: Final = "heirmark-scan.lock"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_PART: Final = r"\d{5,}-\d{3,}(\.npz|-(hashes|ranks|units)\.npy)"
_OWN: Final = re.compile(rf"{_PART}|{re.escape(MANIFEST)}|{re.escape(_LOCK)}")
_TEMPORARY: Final = re.compile(rf"\.({_PART}|{re.escape(MANIFEST)})\.[0-9a-f]{{8}}\.tmp")


def is_own(name: str) -> bool:
    """True for the name of a file that a scan makes in its folder."""
    return bool(_OWN.fullmatch(name) or _TEMPORARY.fullmatch(name))


def own_files(folder: Path, *, temporary: bool = False) -> list[Path]:
    """List what scans have made in a folder, and nothing else.

    Args:
        folder: where to look.
        temporary: whether only what was being written when a scan was killed.

    Returns:
        Paths, by name.
    """
    wanted = _TEMPORARY.fullmatch if temporary else is_own
    return sorted(path for path in folder.iterdir() if wanted(path.name))


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Let one scan at a time work in a folder; the lock goes when its process does.

    Args:
        folder: made with mode 0700 if it is not there.

    Raises:
        ConfigError: it cannot be written, others can read it, it holds files but no scan, or
            another scan is running in it.
    """
    try:
        make_private(folder)
        _check(folder)
        handle = _lock(folder)
    except OSError as error:
        raise ConfigError(f"cannot work in {folder}: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(handle)


def make_private(folder: Path) -> None:
    """Make a folder that is its owner's alone.

    Args:
        folder: made with mode 0700 if it is not there.

    Raises:
        ConfigError: others can read it.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & _OTHERS:
        raise ConfigError(
            f"{folder} can be read by others (mode {mode:04o}, expected 0700), and what a scan "
            f"keeps there is as secret as the key; run: chmod 700 {folder}"
        )


def _check(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    # A lock alone, or a manifest that was not finished, is of a scan that had just begun.
    foreign = sorted(n for n in names if n != _LOCK and not n.startswith(f".{MANIFEST}."))
    if foreign and MANIFEST not in names:
        raise ConfigError(
            f"{folder} holds files ({foreign[0]}, ...) but no scan ({MANIFEST}); give --work a "
            "new or empty folder"
        )


def _lock(folder: Path) -> int:
    path = folder / _LOCK
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A scan that ended meanwhile has cleared its lock away: who holds that holds nothing.
        is_there = os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        is_there = False
    if not is_there:
        os.close(handle)
        raise ConfigError(f"another scan is running in {folder}; wait for it to end")
    return handle


def clear(folder: Path) -> None:
    """Clear away what scans have made in a folder, and the folder if nothing else is in it.

    Args:
        folder: where the caller is working (`working_in`).
    """
    # A part is there as long as its .npz is; whose parts they are is told by the manifest.
    order = {".npz": 0, ".json": 2, ".lock": 3}
    for path in sorted(own_files(folder), key=lambda path: order.get(path.suffix, 1)):
        with suppress(OSError):
            path.unlink()
    # Not empty: it holds files of its owner.
    with suppress(OSError):
        folder.rmdir()
