"""A bundle's files, read without trust: no link is followed, nothing outside is touched.

Every file is opened part by part from the bundle's own folder, so that a folder that turns into a
link in between leads nowhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, final

from watermark.errors import EvidenceError

__all__ = [
    "Digest",
    "Listing",
    "block_bytes",
    "digest_file",
    "is_safe",
    "list_files",
    "open_inside",
]

# No leading dot, so no "..", and nothing that a shell, a page or Windows reads otherwise.
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,120}")
_MOST_DEEP: Final = 12
_MOST_FILES: Final = 20_000
_CHUNK: Final = 1 << 20
_MOST_BLOCKS: Final = 256
_LEAST_BLOCK: Final = 64
_BLOCK_DIGEST_BYTES: Final = 8


def is_safe(name: str) -> bool:
    """True for the name of a file inside a bundle: relative, plain characters, no way out."""
    parts = name.split("/")
    return len(parts) <= _MOST_DEEP and all(_PART.fullmatch(part) for part in parts)


@final
class Listing(NamedTuple):
    """What stands in a folder.

    Attributes:
        files: plain files with safe names.
        strange: what may not stand in a bundle, each with the reason.
        empty: folders without anything.
    """

    files: tuple[str, ...]
    strange: tuple[str, ...]
    empty: tuple[str, ...] = ()


def list_files(root: Path) -> Listing:
    """List a bundle.

    Args:
        root: its folder.

    Returns:
        Regular files by name; links, devices, pipes and unsafe names as strange.

    Raises:
        EvidenceError: no such folder, one that cannot be read, or one that is far too full.
    """
    files: list[str] = []
    strange: list[str] = []
    empty: list[str] = []
    try:
        _walk(root, "", files, strange, empty)
    except OSError as error:
        raise EvidenceError(f"cannot read the bundle {root}: {error.strerror}") from None
    return Listing(tuple(sorted(files)), tuple(sorted(strange)), tuple(sorted(empty)))


def _walk(
    folder: Path, prefix: str, files: list[str], strange: list[str], empty: list[str]
) -> None:
    with os.scandir(folder) as entries:
        listed = list(entries)
        if prefix and not listed:
            empty.append(prefix)
        for entry in listed:
            name = prefix + entry.name
            if entry.is_symlink():
                strange.append(f"{name!r} (a link)")
            elif not is_safe(name):
                strange.append(f"{name!r} (a name that bundles do not have)")
            elif entry.is_dir(follow_symlinks=False):
                _walk(folder / entry.name, name + "/", files, strange, empty)
            elif entry.is_file(follow_symlinks=False):
                files.append(name)
            else:
                strange.append(f"{name!r} (no plain file)")
            if len(files) + len(strange) > _MOST_FILES:
                raise EvidenceError(f"the bundle holds more than {_MOST_FILES:,} files")


@contextmanager
def open_inside(root: Path, name: str) -> Iterator[BinaryIO]:
    """Open a file of a bundle.

    Args:
        root: the bundle's folder.
        name: as in its statement.

    Yields:
        The file.

    Raises:
        EvidenceError: unsafe name, missing, a link, or no plain file.
    """
    if not is_safe(name):
        raise EvidenceError(f"{name!r} is no name of a file in a bundle")
    *folders, last = name.split("/")
    opened: list[int] = []
    try:
        opened.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY))
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            opened.append(os.open(folder, flags, dir_fd=opened[-1]))
        # O_NONBLOCK: opening a pipe must not wait for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(last, flags, dir_fd=opened[-1]), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise EvidenceError(f"{name} is no plain file")
            yield file
    except OSError as error:
        raise EvidenceError(f"cannot read {name}: {error.strerror}") from None
    finally:
        for descriptor in opened:
            os.close(descriptor)


@final
class Digest(NamedTuple):
    """What tells whether a file is the same, and if not, where.

    Attributes:
        size: bytes.
        sha256: of the whole, as hex digits.
        blocks: the first 8 bytes of the SHA-256 of every `block_bytes(size)` bytes, as hex digits.
    """

    size: int
    sha256: str
    blocks: tuple[str, ...]


def block_bytes(size: int) -> int:
    """Return the bytes of a block, by which a change is located: a power of two, 64 or more."""
    block = _LEAST_BLOCK
    while block * _MOST_BLOCKS < size:
        block *= 2
    return block


def digest_file(
    file: BinaryIO, block: int, copy: BinaryIO | None = None, most: int | None = None
) -> Digest:
    """Hash a file.

    Args:
        file: open for reading.
        block: bytes of a block.
        copy: also written to, if given.
        most: bytes that are read, all if None.

    Returns:
        Its digest.
    """
    whole = hashlib.sha256()
    blocks: list[str] = []
    size = 0
    step = max(_CHUNK // block, 1) * block
    while chunk := file.read(step if most is None else min(step, most - size)):
        whole.update(chunk)
        if copy is not None:
            copy.write(chunk)
        for start in range(0, len(chunk), block):
            part = hashlib.sha256(chunk[start : start + block])
            blocks.append(part.hexdigest()[: 2 * _BLOCK_DIGEST_BYTES])
        size += len(chunk)
    return Digest(size, whole.hexdigest(), tuple(blocks))
