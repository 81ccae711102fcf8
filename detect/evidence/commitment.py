"""The commitment that a test was bound by: into a bundle, and checked against it later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, final

from detect.evidence.planned import Examined, check_opening
from watermark.commitments.commitment import Opening
from watermark.commitments.log import Entry, entry_for, parse_log, read_log, verify_chain
from watermark.commitments.timestamps import Stamp, find_stamped, stamps_beside, verify_stamp
from watermark.errors import CommitmentError
from watermark.keys import Key

__all__ = ["LOG_NAME", "Committed", "find_entry", "stamped_by", "verify_bundled_stamps"]

LOG_NAME: Final = "commitments/log.jsonl"


@final
@dataclass(frozen=True)
class Committed:
    """A commitment for a bundle to record.

    Attributes:
        log: the public log's file.
        opening: the private opening; it does not go into the bundle.
    """

    log: Path
    opening: Opening

    def check(self, key: Key, tested: Examined) -> None:
        """Refuse a test that is not the one that was committed to.

        Args:
            key: the key under test.
            tested: what is tested, as far as it is known.

        Raises:
            CommitmentError: key, config, plan or log do not fit.
        """
        entries = read_log(self.log)
        verify_chain(entries)
        check_opening(entry_for(entries, key.key_id), key, self.opening, tested)

    def store(self, kept: Path) -> dict[str, Any]:
        """Copy the log and its time stamps into a bundle.

        Args:
            kept: the bundle's folder.

        Returns:
            What `bundle.json` says of it.
        """
        content = self.log.read_bytes()
        entry = entry_for(parse_log(content), self.opening.key_id)
        target = kept / LOG_NAME
        target.parent.mkdir()
        target.write_bytes(content)
        for sequence, response in stamps_beside(self.log):
            target.with_name(f"{target.name}.{sequence}.tsr").write_bytes(response)
        return {"entry": entry.sequence, "commitment": entry.commitment}


def find_entry(log: bytes, key_id: str, said: Mapping[str, Any]) -> tuple[Entry, tuple[Entry, ...]]:
    """Find the entry that a bundle rests on.

    Args:
        log: the bundle's log.
        key_id: of the key under test.
        said: what `bundle.json` says of the commitment.

    Returns:
        The entry, and all of the log.

    Raises:
        CommitmentError: the chain is broken, or it holds another commitment to the key.
    """
    entries = parse_log(log, LOG_NAME)
    verify_chain(entries)
    entry = entry_for(entries, key_id)
    if (entry.sequence, entry.commitment) != (said["entry"], said["commitment"]):
        raise CommitmentError("the log holds another commitment than the bundle says")
    return entry, entries


def verify_bundled_stamps(
    entries: Sequence[Entry], stamps: Sequence[bytes], certificates: bytes
) -> tuple[Stamp, ...]:
    """Verify time stamps of a log.

    Args:
        entries: of the log.
        stamps: answers of a time-stamping authority.
        certificates: PEM, see `watermark.commitments.timestamps.verify_stamp`.

    Returns:
        What each shows.

    Raises:
        CommitmentError: one does not hold.
    """
    return tuple(
        verify_stamp(response, find_stamped(response, entries), certificates) for response in stamps
    )


def stamped_by(stamps: Sequence[Stamp], entry: Entry) -> datetime:
    """Say since when an entry is known to have stood.

    Args:
        stamps: verified, of the entry's log.
        entry: the one in question.

    Returns:
        The earliest time that covers the entry.

    Raises:
        CommitmentError: none covers it.
    """
    times = [stamp.time for stamp in stamps if stamp.sequence >= entry.sequence]
    if not times:
        raise CommitmentError(f"no time stamp covers entry {entry.sequence}")
    return min(times)
