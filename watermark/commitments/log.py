"""The public log of commitments: one JSON object a line, each with the hash of the line before.

    {"commitment":"sha256:...","format":"heirmark-commitment-log-1","key_id":"hm1-...",
     "previous":"sha256:...","sequence":7,"time":"2026-11-26T05:06:29.123456Z"}

(on one line). A line's hash is SHA-256 over its bytes with the line break, so that
`tail -n 1 LOG | sha256sum` gives the head. Whoever knows a head, from a copy or a time stamp,
notices any change of the lines up to it. Reading and rules are here; writing is in
`watermark.commitments.writing`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, final

from watermark.commitments.commitment import Opening, canonical_json, commitment_of
from watermark.errors import CommitmentError
from watermark.keys import Key

__all__ = [
    "Entry",
    "entry_for",
    "next_entry",
    "parse_line",
    "parse_log",
    "read_log",
    "verify_chain",
    "verify_opening",
]

_FORMAT: Final = "heirmark-commitment-log-1"
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_KEY_ID: Final = re.compile(r"hme?1-[0-9a-f]{20}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. Public.

    Attributes:
        sequence: its number, from 0.
        time: when the provider says it was written, UTC; only a time stamp proves a time.
        key_id: of the committed key.
        commitment: "sha256:..."; see `watermark.commitments.commitment.commitment_of`.
        previous: hash of the line before; None for the first.
    """

    sequence: int
    time: datetime
    key_id: str
    commitment: str
    previous: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that `from_dict` reads back."""
        return {
            "format": _FORMAT,
            "sequence": self.sequence,
            "time": self.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "key_id": self.key_id,
            "commitment": self.commitment,
            "previous": self.previous,
        }

    @classmethod
    def from_dict(cls, payload: Any) -> Self:
        """Read an entry back.

        Args:
            payload: what `to_dict` gave.

        Returns:
            The entry.

        Raises:
            CommitmentError: wrong format, unknown or missing field, value of the wrong kind.
        """
        if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
            raise CommitmentError(f"expected an entry with format {_FORMAT!r}")
        sequence, previous = payload.get("sequence"), payload.get("previous")
        if type(sequence) is not int or sequence < 0 or len(payload) != 6:
            raise CommitmentError('an entry has six fields; "sequence" is a number from 0')
        if "previous" not in payload:
            raise CommitmentError('an entry holds "previous", null in the first one')
        return cls(
            sequence,
            _time(payload.get("time")),
            _matched(_KEY_ID, payload.get("key_id"), "key_id"),
            _matched(_HASH, payload.get("commitment"), "commitment"),
            previous if previous is None else _matched(_HASH, previous, "previous"),
        )

    @property
    def line(self) -> bytes:
        """The bytes that stand in the log, with the line break."""
        return canonical_json(self.to_dict()).encode("ascii") + b"\n"

    @property
    def digest(self) -> str:
        """The hash of the line: the log's head while this is the last one."""
        return "sha256:" + hashlib.sha256(self.line).hexdigest()


def _matched(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise CommitmentError(f'"{name}" of an entry does not look like {pattern.pattern}')
    return value


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(_matched(_TIME, value, "time"))
    except ValueError as error:
        raise CommitmentError(f'"time" of an entry: {error}') from None


def next_entry(last: Entry | None, key_id: str, commitment: str, time: datetime) -> Entry:
    """Chain an entry to a log.

    Args:
        last: the log's last entry, None if it has none.
        key_id: of the committed key.
        commitment: the commitment.
        time: now, with its time zone; a clock that ran backwards is held at the last entry's.

    Returns:
        The entry.
    """
    if last is None:
        return Entry(0, time.astimezone(UTC), key_id, commitment, None)
    time = max(time.astimezone(UTC), last.time)
    return Entry(last.sequence + 1, time, key_id, commitment, last.digest)


def parse_line(line: bytes) -> Entry:
    """Read one line.

    Args:
        line: its bytes, with the line break.

    Returns:
        The entry.

    Raises:
        CommitmentError: not an entry, or not written in the one way that is hashed.
    """
    try:
        entry = Entry.from_dict(json.loads(line))
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, CommitmentError) else "it is not JSON"
        raise CommitmentError(reason) from None
    if entry.line != line:
        raise CommitmentError(
            "it is not in canonical form (sorted fields, no blanks): it was changed"
        )
    return entry


def parse_log(content: bytes, name: str = "the commitment log") -> tuple[Entry, ...]:
    """Read the lines of a log; `verify_chain` then says whether they belong together.

    Args:
        content: the log's bytes.
        name: what errors call it.

    Returns:
        The entries.

    Raises:
        CommitmentError: a line that is not an entry (names it), or a last line without its end.
    """
    lines = content.split(b"\n")
    if lines.pop():
        raise CommitmentError(
            f"{name} ends in the middle of line {len(lines) + 1}: its writer was stopped there, or "
            "the file was cut; the provider mends it with: heirmark commitments check LOG --repair"
        )
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(parse_line(line + b"\n"))
        except CommitmentError as error:
            raise CommitmentError(f"{name}, line {number}: {error}") from None
    return tuple(entries)


def read_log(path: str | Path) -> tuple[Entry, ...]:
    """Read a log's file; see `parse_log`.

    Args:
        path: the file.

    Returns:
        The entries.

    Raises:
        CommitmentError: the file cannot be read, or as `parse_log`.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CommitmentError(f"cannot read the log {path}: {error.strerror}") from None
    return parse_log(content, str(path))


def verify_chain(entries: Sequence[Entry]) -> None:
    """Check that entries follow each other from the first one on, with none left out.

    A chain cannot show that lines were cut off its end, or that all of it was written anew: that
    takes a head known from elsewhere (a time stamp, a published copy).

    Args:
        entries: as `read_log` gives them.

    Raises:
        CommitmentError: the first entry that does not follow.
    """
    last: Entry | None = None
    for i, entry in enumerate(entries):
        if entry.sequence != i:
            raise CommitmentError(f"entry {i} of the log has the sequence number {entry.sequence}")
        if entry.previous != (last.digest if last else None):
            raise CommitmentError(
                f"the chain breaks at entry {i}: the hash that it holds is not that of the line "
                "before; one of the two was changed"
            )
        if last and entry.time < last.time:
            raise CommitmentError(f"entry {i} of the log is older than the one before")
        last = entry


def entry_for(entries: Sequence[Entry], key_id: str) -> Entry:
    """Find the entry of a key.

    Args:
        entries: of the log.
        key_id: the key.

    Returns:
        Its entry.

    Raises:
        CommitmentError: none, or several: of several plans the handiest could be shown.
    """
    found = [entry for entry in entries if entry.key_id == key_id]
    if not found:
        raise CommitmentError(f"the log holds no commitment to the key {key_id}")
    if len(found) > 1:
        numbers = ", ".join(str(entry.sequence) for entry in found)
        raise CommitmentError(
            f"the key {key_id} was committed {len(found)} times (entries {numbers}); which of the "
            "plans holds cannot be told"
        )
    return found[0]


def verify_opening(entry: Entry, key: Key, opening: Opening) -> None:
    """Check a revealed key and opening against the log.

    Args:
        entry: the key's entry.
        key: the revealed key.
        opening: the revealed opening.

    Raises:
        CommitmentError: key, config, plan or salt are not those that were committed.
    """
    if entry.key_id != key.key_id:
        raise CommitmentError(
            f"entry {entry.sequence} is the key {entry.key_id}'s, not {key.key_id}'s"
        )
    if not hmac.compare_digest(entry.commitment, commitment_of(key, opening)):
        raise CommitmentError(
            f"entry {entry.sequence} was not made from this key, config, plan and salt: at least "
            "one of them was changed since"
        )
