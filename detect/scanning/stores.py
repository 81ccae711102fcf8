"""Where files stand: this machine, or whatever fsspec reaches (s3://, gs://, hf://, zip:// ...)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from detect.documents import import_extra
from watermark.errors import DocumentError

__all__ = ["StoredFile", "is_url", "list_files", "open_binary", "stat_file"]


class StoredFile(NamedTuple):
    """A file: its path or URL, its size in bytes, and what changes when it does."""

    source: str
    size: int
    stamp: str


def is_url(source: str) -> bool:
    """True for what fsspec opens and `pathlib` does not."""
    return "://" in source or "::" in source


def list_files(source: str) -> list[StoredFile] | None:
    """List a folder's files, at any depth.

    Args:
        source: path or URL.

    Returns:
        The files by name, or None if the source is itself a file.

    Raises:
        DocumentError: there is nothing, or it cannot be reached.
        MissingExtraError: a URL without the extra "corpus".
    """
    if is_url(source):
        return _list_url(source)
    path = Path(source)
    if not path.exists():
        raise DocumentError(f"there is no file or folder {path}")
    if not path.is_dir():
        return None
    return [stat_file(str(p)) for p in sorted(path.rglob("*")) if p.is_file()]


def _list_url(source: str) -> list[StoredFile] | None:
    try:
        store, path = import_extra("fsspec.core").url_to_fs(source)
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
        DocumentError: it is not there.
    """
    if not is_url(source):
        try:
            status = Path(source).stat()
        except OSError as error:
            raise DocumentError(f"cannot read {source}: {error.strerror}") from None
        return StoredFile(source, status.st_size, str(status.st_mtime_ns))
    try:
        store, path = import_extra("fsspec.core").url_to_fs(source)
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
    for name in ("ETag", "etag", "sha256", "md5Hash", "mtime", "LastModified", "updated", "CRC"):
        if info.get(name) is not None:
            return str(info[name])
    return ""


def _unreachable(source: str, error: Exception) -> DocumentError:
    reason = str(error) or type(error).__name__
    return DocumentError(f"cannot read {source}: {reason}")
