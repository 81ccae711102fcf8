"""The commitment that a test was bound by: into a bundle, and checked against it later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, final

from watermark.commitment_log import (
    Entry,
    entry_for,
    parse_log,
    read_log,
    verify_chain,
    verify_opening,
)
from watermark.commitments import Opening
from watermark.errors import CommitmentError
from watermark.keys import Key
from watermark.timestamps import find_stamped, stamps_beside, verify_stamp

__all__ = ["LOG_NAME", "Committed", "Planned", "check_opening", "find_entry", "stamped_by"]

LOG_NAME: Final = "commitments/log.jsonl"
# Of a plan: pairs that must have been scored.
_LEAST: Final = "min_pairs"


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

    def check(self, key: Key, result: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Refuse a test that is not the one that was committed to.

        Args:
            key: the key under test.
            result: of the test.
            options: of the command.

        Raises:
            CommitmentError: key, config, plan or log do not fit.
        """
        entries = read_log(self.log)
        verify_chain(entries)
        entry = entry_for(entries, key.key_id)
        check_opening(entry, key, self.opening, result, options)

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


@final
class Planned(NamedTuple):
    """What a plan fixed: fields that were compared with the test, and others, which people read."""

    compared: tuple[str, ...]
    others: tuple[str, ...]


def check_opening(
    entry: Entry,
    key: Key,
    opening: Opening,
    result: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Planned:
    """Check that the test is the one that was committed to.

    Args:
        entry: of the log.
        key: the revealed key.
        opening: the revealed opening.
        result: of the test: its config, its score, and how many pairs were scored.
        options: of the command; those that the plan names must have the plan's values.

    Returns:
        What was compared.

    Raises:
        CommitmentError: key, config, plan or salt are others.
    """
    verify_opening(entry, key, opening)
    committed, tested = opening.watermark_config.fingerprint, result["config_fingerprint"]
    if committed != tested:
        raise CommitmentError(
            f"the config that was committed is {committed[:19]}..., the one that was tested "
            f"{tested[:19]}..."
        )
    compared = []
    plan: dict[str, Any] = json.loads(opening.plan)
    for name, planned in sorted(plan.items()):
        used = _used(name, result, options)
        if used is None:
            continue
        compared.append(name)
        if not (used >= planned if name == _LEAST else planned == used):
            raise CommitmentError(
                f"the plan that was committed says {name} = {planned!r}, the test used {used!r}"
            )
    return Planned(tuple(compared), tuple(sorted(plan.keys() - set(compared))))


def _used(name: str, result: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Return what the test used of something that a plan names; None if that is not known here."""
    if name == _LEAST:
        return result.get("n_scored")
    return options.get(name, result.get("score") if name == "score" else None)


def stamped_by(
    entries: Sequence[Entry], entry: Entry, stamps: Sequence[bytes], certificates: bytes
) -> datetime:
    """Verify time stamps, and say since when an entry is known to have stood.

    Args:
        entries: of the log.
        entry: the one in question.
        stamps: answers of a time-stamping authority.
        certificates: PEM, see `watermark.timestamps.verify_stamp`.

    Returns:
        The earliest time that covers the entry.

    Raises:
        CommitmentError: a stamp does not hold, or none covers the entry.
    """
    times = []
    for response in stamps:
        head = find_stamped(response, entries)
        stamp = verify_stamp(response, head, certificates)
        if stamp.sequence >= entry.sequence:
            times.append(stamp.time)
    if not times:
        raise CommitmentError(f"no time stamp covers entry {entry.sequence}")
    return min(times)
