"""Files that only their owner can read (mode 0600), never overwritten: keys, openings."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from watermark.errors import KeyFileError

__all__ = ["check_free", "read_private", "sync_folder", "write_private"]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MAX_BYTES: Final = 1 << 18


def check_free(path: str | Path, *, what: str) -> None:
    """Refuse a place where `write_private` would write nothing, before other things are done.

    Args:
        path: where a file shall be written.
        what: how errors call it: "key file".

    Raises:
        KeyFileError: something is there already, or there is no such folder.
    """
    if os.path.lexists(path):
        raise _taken(path, what)
    if not Path(path).parent.is_dir():
        raise _without_folder(path, what)


def _without_folder(path: str | Path, what: str) -> KeyFileError:
    # Not made here: with which rights a folder of secrets stands is for its owner to say.
    return KeyFileError(f"cannot write the {what} {path}: there is no such folder; make it first")


def _taken(path: str | Path, what: str) -> KeyFileError:
    return KeyFileError(
        f"{path} exists already; a {what} is never overwritten. Choose another name"
    )


def write_private(path: str | Path, text: str, *, what: str) -> None:
    """Write a new file that only its owner can read, onto the disk before this returns.

    Args:
        path: a file that does not exist yet; an existing one is never overwritten.
        text: its content, ASCII.
        what: how errors call it: "key file".

    Raises:
        KeyFileError: the file exists, or the folder cannot be written.
    """
    # Written whole beside its place and then linked into it: link() refuses to overwrite.
    temporary = Path(f"{path}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink()
        sync_folder(Path(path).parent)
    except FileExistsError:
        raise _taken(path, what) from None
    except FileNotFoundError:
        raise _without_folder(path, what) from None
    except OSError as error:
        raise KeyFileError(f"cannot write the {what} {path}: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names onto the disk, so that a new file outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: str | Path, *, what: str, missing: str) -> str:
    """Read a file that nobody else may be able to read.

    Args:
        path: the file.
        what: how errors call it.
        missing: what to do if there is none.

    Returns:
        Its text.

    Raises:
        KeyFileError: missing, or readable by group or others.
    """
    try:
        with Path(path).open("rb") as file:
            # The mode of the opened file itself, so that a swap in between changes nothing.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise KeyFileError(
                    f"{path} can be read by others (mode {mode:04o}, expected 0600); "
                    f"run: chmod 600 {path}"
                )
            return file.read(_MAX_BYTES).decode("ascii", errors="replace")
    except FileNotFoundError:
        raise KeyFileError(f"no {what} at {path}; {missing}") from None
    except OSError as error:
        raise KeyFileError(f"cannot read the {what} {path}: {error.strerror}") from None
