"""Commitments made for good: the private opening first, then a line of the public log.

A line that `append` has returned survives kill -9 and, as far as the disk keeps what fsync told
it to, a power cut. A writer that is stopped half-way leaves at most one line without its end, which
nobody was told of; the next writer takes it away, or adds the line break if only that is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from watermark.commitments.commitment import Opening, commitment_of, make_opening
from watermark.commitments.log import Entry, next_entry, parse_line, read_log, verify_chain
from watermark.config import WatermarkConfig
from watermark.errors import CommitmentError, KeyFileError
from watermark.keys import Key
from watermark.storage.private_files import read_private, sync_folder, write_private

__all__ = ["append", "commit", "load_opening", "repair", "save_opening"]

_START: Final = b'{"commitment":"sha256:'


def save_opening(opening: Opening, path: str | Path) -> None:
    """Write an opening's private file (mode 0600).

    Args:
        opening: the opening.
        path: a file that does not exist yet.

    Raises:
        KeyFileError: the file exists, or the folder cannot be written.
    """
    write_private(path, json.dumps(opening.to_dict(), indent=2) + "\n", what="opening")


def load_opening(path: str | Path) -> Opening:
    """Read an opening's file.

    Args:
        path: file made by `save_opening`.

    Returns:
        The opening.

    Raises:
        KeyFileError: missing, or readable by others.
        CommitmentError: damaged; the message never quotes the content.
    """
    missing = "it is written by: heirmark commitments add"
    text = read_private(path, what="opening", missing=missing)
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        raise CommitmentError(
            f"{path} is not an intact opening; restore it from your backup"
        ) from None
    try:
        return Opening.from_dict(payload)
    except CommitmentError as error:
        raise CommitmentError(f"{path}: {error}") from None


def commit(
    log: str | Path,
    opening_path: str | Path,
    key: Key,
    config: WatermarkConfig,
    plan: Mapping[str, Any],
) -> Entry:
    """Commit to a key, its config and its test plan.

    Args:
        log: the public log; made if there is none.
        opening_path: where the private opening will stand; it must not exist yet. One that an
            earlier run wrote for the same key, config and plan is used, whether or not that run
            was stopped before it wrote its entry.
        key: the key.
        config: the mark.
        plan: see `watermark.commitments.commitment.make_opening`.

    Returns:
        The log's entry.

    Raises:
        CommitmentError: the key is committed already, or the log is damaged.
        KeyFileError: the opening's place is taken.
    """
    opening, is_new = make_opening(key, config, plan), True
    try:
        # First: an entry whose opening was lost could never be revealed.
        save_opening(opening, opening_path)
    except KeyFileError:
        opening, is_new = _left_behind(opening_path, opening), False
    commitment = commitment_of(key, opening)
    try:
        return append(log, key.key_id, commitment)
    except CommitmentError:
        if _holds(log, commitment):
            for entry in read_log(log):
                if (entry.key_id, entry.commitment) == (key.key_id, commitment):
                    return entry
        elif is_new:
            # It opens nothing, and would stand in the way of the next try.
            Path(opening_path).unlink(missing_ok=True)
        raise


def _holds(log: str | Path, commitment: str) -> bool:
    """Say whether a commitment may stand in a log, damaged or not."""
    try:
        return commitment.encode() in Path(log).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except OSError:
        return True


def _left_behind(path: str | Path, wanted: Opening) -> Opening:
    taken = f"{path} exists already, and is not the opening of this key, config and plan"
    try:
        found = load_opening(path)
    except CommitmentError:
        raise KeyFileError(f"{taken}; choose another name") from None
    if (found.key_id, found.config, found.plan) != (wanted.key_id, wanted.config, wanted.plan):
        raise KeyFileError(f"{taken}; choose another name")
    return found


def append(log: str | Path, key_id: str, commitment: str, *, now: datetime | None = None) -> Entry:
    """Write one entry, onto the disk before this returns. Writers wait for each other.

    Args:
        log: the log's file, on a file system with working locks; made if there is none.
        key_id: of the committed key.
        commitment: see `watermark.commitments.commitment.commitment_of`.
        now: the entry's time.  Defaults to the clock's.

    Returns:
        The entry.

    Raises:
        CommitmentError: the key is committed already, the log's end is damaged, or the file
            cannot be written.
    """
    with _locked(Path(log)) as descriptor:
        content = _mended(descriptor, log)
        if f'"key_id":"{key_id}"'.encode() in content:
            raise CommitmentError(
                f"{log} commits to the key {key_id} already; a key is committed once, with one plan"
            )
        entry = next_entry(_last(content, log), key_id, commitment, now or datetime.now(UTC))
        # A caller's slip must not spoil the log for good.
        parse_line(entry.line)
        _write_whole(descriptor, entry.line, len(content))
    return entry


def repair(log: str | Path) -> int:
    """Take away what a stopped writer left at the log's end, or end its last line.

    Args:
        log: the log's file.

    Returns:
        How many bytes were taken away; negative if a line break was added.

    Raises:
        CommitmentError: the end is not what such a writer leaves, or the chain is broken.
    """
    if not Path(log).exists():
        raise CommitmentError(f"there is no log at {log}")
    with _locked(Path(log)) as descriptor:
        before = os.fstat(descriptor).st_size
        removed = before - len(_mended(descriptor, log))
    verify_chain(read_log(log))
    return removed


@contextmanager
def _locked(log: Path) -> Iterator[int]:
    try:
        descriptor = os.open(log, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_size:
                sync_folder(log.parent)
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CommitmentError(f"cannot write the log {log}: {error.strerror}") from None


def _mended(descriptor: int, log: str | Path) -> bytes:
    """Return the whole lines, once nothing else stands in the file."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    whole = content[: content.rfind(b"\n") + 1]
    rest = content[len(whole) :]
    if not rest:
        return whole
    if _is_entry(rest + b"\n"):
        # It may have been told of: an editor may have dropped the file's last line break.
        _write_whole(descriptor, b"\n", len(content))
        return content + b"\n"
    # A power cut may leave zeros in place of what was written last.
    begun = rest.rstrip(b"\0")
    if not (begun.startswith(_START) or _START.startswith(begun)):
        raise CommitmentError(
            f"{log} ends in {len(rest)} bytes that are no line of ours; it was changed by another "
            "hand: compare it with a published copy"
        )
    os.ftruncate(descriptor, len(whole))
    os.fsync(descriptor)
    return whole


def _is_entry(line: bytes) -> bool:
    try:
        parse_line(line)
    except CommitmentError:
        return False
    return True


def _last(content: bytes, log: str | Path) -> Entry | None:
    if not content:
        return None
    start = content.rfind(b"\n", 0, len(content) - 1) + 1
    try:
        entry = parse_line(content[start:])
    except CommitmentError as error:
        raise CommitmentError(f"the last line of {log} is damaged: {error}") from None
    if entry.sequence + 1 != content.count(b"\n"):
        raise CommitmentError(f"{log} lacks lines: run heirmark commitments check")
    return entry


def _write_whole(descriptor: int, line: bytes, position: int) -> None:
    try:
        if os.pwrite(descriptor, line, position) != len(line):
            raise OSError(28, "the disk is full")
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, position)
        raise
