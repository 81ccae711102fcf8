"""Where files stand: this machine, or whatever fsspec reaches (s3://, gs://, hf://, zip:// ...)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from watermark.errors import DocumentError
from watermark.extras import import_extra

__all__ = ["StoredFile", "changed", "is_url", "list_files", "open_binary", "stat_file"]


class StoredFile(NamedTuple):
    """A file: its path or URL, its size in bytes, and what changes when it does."""

    source: str
    size: int
    stamp: str


def is_url(source: str) -> bool:
    """True for what fsspec opens and `pathlib` does not."""
    return "://" in source or "::" in source


def list_files(source: str) -> list[StoredFile] | None:
    """List a folder's files, at any depth and behind links.

    Args:
        source: path or URL.

    Returns:
        The files by name, or None if the source is itself a file.

    Raises:
        DocumentError: there is nothing, or some of it cannot be reached.
        MissingExtraError: a URL without the extra "corpus".
    """
    if is_url(source):
        return _list_url(source)
    path = Path(source)
    if not path.exists():
        raise DocumentError(f"there is no file or folder {path}")
    if not path.is_dir():
        return None
    return [stat_file(name) for name in _walk(str(path), ())]


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Paths in order of their parts; `above` are device and number of the folders around."""
    try:
        status = os.stat(folder)
        own = (status.st_dev, status.st_ino)
        if own in above:
            # A link back: its files have been listed, or will be.
            return
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        kinds = [
            (entry.path, entry.is_dir(), entry.is_file(), entry.is_symlink()) for entry in found
        ]
    except OSError as error:
        raise DocumentError(f"cannot list {error.filename or folder}: {error.strerror}") from None
    for path, is_folder, is_file, is_link in kinds:
        if is_folder:
            yield from _walk(path, (*above, own))
        elif is_file or os.path.exists(path):
            yield path
        elif is_link:
            raise DocumentError(
                f"{path} is a link to {os.readlink(path)}, which is not there; mend or remove it"
            )


def _list_url(source: str) -> list[StoredFile] | None:
    try:
        store, path = import_extra("fsspec.core").url_to_fs(source)
        # What was listed before may have changed.
        store.invalidate_cache()
        if store.isfile(path):
            return None
        found = store.find(path, detail=True)
        # Chained URLs (zip://inner::outer) name the inner path first.
        _, chained, outer = source.partition("::")
        files = [
            StoredFile(store.unstrip_protocol(name) + chained + outer, info["size"], _stamp(info))
            for name, info in sorted(found.items())
        ]
    except Exception as error:
        # fsspec raises what its many back ends raise.
        raise _unreachable(source, error) from None
    if not files:
        raise DocumentError(f"there is no file or folder {source}")
    return files


def stat_file(source: str) -> StoredFile:
    """Look a file up.

    Args:
        source: path or URL.

    Returns:
        Its size and stamp.

    Raises:
        DocumentError: it is not there, or no file.
    """
    if not is_url(source):
        try:
            status = Path(source).stat()
        except OSError as error:
            raise DocumentError(f"cannot read {source}: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError(
                f"{source} is a pipe, socket or device; a corpus is read more than once: give "
                "files, or take it out of the folder"
            )
        return StoredFile(source, status.st_size, str(status.st_mtime_ns))
    try:
        store, path = import_extra("fsspec.core").url_to_fs(source)
        store.invalidate_cache()
        info = store.info(path)
    except Exception as error:
        raise _unreachable(source, error) from None
    return StoredFile(source, int(info["size"] or 0), _stamp(info))


def open_binary(source: str) -> IO[bytes]:
    """Open a file for reading.

    Args:
        source: path or URL.

    Returns:
        A seekable file, packed as it stands.

    Raises:
        DocumentError: it is gone or cannot be reached.
    """
    try:
        if not is_url(source):
            return Path(source).open("rb")
        store, path = _kept_store(source)
        return cast(IO[bytes], store.open(path, "rb"))
    except FileNotFoundError:
        raise DocumentError(
            f"{source} is gone; it was there when the scan began. Put it back and run the same "
            "command to go on, or start anew without it",
            reason="file_gone",
        ) from None
    except Exception as error:
        raise _unreachable(source, error) from None


@lru_cache(maxsize=64)
def _kept_store(source: str) -> tuple[Any, str]:
    """An archive (zip://) closes its open files when nobody holds it any more."""
    store, path = import_extra("fsspec.core").url_to_fs(source)
    return store, path


def _stamp(info: dict[str, Any]) -> str:
    """What the store says of the file's content, if it says anything."""
    for name in _STAMPS:
        if info.get(name) is not None:
            return str(info[name])
    return ""


_STAMPS: Final = (
    "ETag", "etag", "sha256", "md5Hash", "blob_id", "mtime", "LastModified", "updated", "CRC",
)  # fmt: skip


def changed(source: str) -> DocumentError:
    """Make the error for a file that changed during the scan."""
    return DocumentError(
        f"{source} has changed since the scan began, so that what was read of it may belong to "
        "either state; delete the scan's folder of parts and start anew",
        reason="file_changed",
    )


def _unreachable(source: str, error: Exception) -> DocumentError:
    reason = str(error) or type(error).__name__
    return DocumentError(f"cannot read {source}: {reason}")
