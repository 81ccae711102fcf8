"""The log's chain: any change of any line up to a known head is found."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watermark.commitments.commitment import commitment_of, make_opening
from watermark.commitments.log import (
    Entry,
    entry_for,
    next_entry,
    parse_line,
    parse_log,
    read_log,
    verify_chain,
    verify_opening,
)
from watermark.config import preset
from watermark.errors import CommitmentError
from watermark.keys import SecretKey

START = datetime(2026, 11, 26, 5, 6, 29, 123456, tzinfo=UTC)


def _log(n: int) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    for i in range(n):
        commitment = "sha256:" + hashlib.sha256(str(i).encode()).hexdigest()
        last = entries[-1] if entries else None
        time = START + timedelta(seconds=i)
        entries.append(next_entry(last, f"hm1-{i:020x}", commitment, time))
    return tuple(entries)


ENTRIES = _log(6)
LINES = [entry.line for entry in ENTRIES]
CONTENT = b"".join(LINES)


def test_a_line_is_what_is_documented() -> None:
    assert LINES[0] == (
        b'{"commitment":"sha256:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",'
        b'"format":"heirmark-commitment-log-1","key_id":"hm1-00000000000000000000",'
        b'"previous":null,"sequence":0,"time":"2026-11-26T05:06:29.123456Z"}\n'
    )


def test_the_head_is_what_sha256sum_says(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(CONTENT)
    shown = subprocess.run(
        "tail -n 1 log | sha256sum", shell=True, cwd=tmp_path, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert ENTRIES[-1].digest == "sha256:" + shown.split()[0]


def test_a_log_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(CONTENT)
    assert read_log(tmp_path / "log") == ENTRIES
    verify_chain(ENTRIES)
    verify_chain(())
    assert parse_log(b"") == ()


def _holds(content: bytes) -> bool:
    """Whether a reader who knows the head believes this content."""
    try:
        entries = parse_log(content)
        verify_chain(entries)
    except CommitmentError:
        return False
    return bool(entries) and entries[-1].digest == ENTRIES[-1].digest


def test_the_untouched_log_holds() -> None:
    assert _holds(CONTENT)


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(position: int, change: int) -> None:
    changed = bytearray(CONTENT)
    changed[position] ^= change
    assert not _holds(bytes(changed))


@given(st.lists(st.sampled_from(LINES), max_size=7))
def test_any_other_order_of_lines_is_found(lines: list[bytes]) -> None:
    assert _holds(b"".join(lines)) == (lines == LINES)


@given(st.integers(0, len(CONTENT)), st.binary(min_size=1, max_size=4))
def test_anything_put_in_is_found(position: int, more: bytes) -> None:
    assert not _holds(CONTENT[:position] + more + CONTENT[position:])


@given(st.integers(0, len(CONTENT)), st.integers(1, len(CONTENT)))
def test_anything_taken_out_is_found(start: int, length: int) -> None:
    changed = CONTENT[:start] + CONTENT[start + length :]
    assert _holds(changed) == (changed == CONTENT)


def test_the_chain_names_the_first_break() -> None:
    forged = Entry(
        2, ENTRIES[2].time, "hm1-" + "f" * 20, ENTRIES[2].commitment, ENTRIES[2].previous
    )
    with pytest.raises(CommitmentError, match="breaks at entry 3"):
        verify_chain([*ENTRIES[:2], forged, *ENTRIES[3:]])
    with pytest.raises(CommitmentError, match="entry 0 of the log has the sequence number 1"):
        verify_chain(ENTRIES[1:])
    with pytest.raises(CommitmentError, match="breaks at entry 0"):
        verify_chain([Entry(0, START, "hm1-" + "0" * 20, "sha256:" + "0" * 64, ENTRIES[0].digest)])
    back = Entry(
        1, START - timedelta(1), ENTRIES[1].key_id, ENTRIES[1].commitment, ENTRIES[0].digest
    )
    with pytest.raises(CommitmentError, match="entry 1 of the log is older"):
        verify_chain([ENTRIES[0], back])


def test_a_clock_that_runs_backwards_is_held() -> None:
    entry = next_entry(ENTRIES[-1], "hm1-" + "a" * 20, ENTRIES[0].commitment, START)
    assert entry.time == ENTRIES[-1].time
    verify_chain([*ENTRIES, entry])


def test_a_cut_end_is_named() -> None:
    with pytest.raises(CommitmentError, match=r"my\.log ends in the middle of line 6"):
        parse_log(CONTENT[:-5], "my.log")
    with pytest.raises(CommitmentError, match="cannot read the log"):
        read_log("/nonexistent/log")


PAYLOAD = ENTRIES[1].to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"sequence": -1},
        {"sequence": True},
        {"sequence": "1"},
        {"key_id": "hm1-XYZ"},
        {"key_id": None},
        {"commitment": "sha256:00"},
        {"previous": "sha256:00"},
        {"time": "2026-11-26T05:06:29Z"},
        {"time": "2026-13-26T05:06:29.000000Z"},
        {"time": 5},
        {"extra": 1},
    ],
)
def test_what_is_no_entry(change: dict[str, Any]) -> None:
    with pytest.raises(CommitmentError):
        Entry.from_dict(PAYLOAD | change)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[" * 100_000 + b"\n",
        b"\xff\n",
        json.dumps(PAYLOAD).encode() + b"\n",
        LINES[1].replace(b'"sequence":1', b'"sequence":1,"sequence":1'),
        LINES[1].rstrip() + b"\r\n",
    ],
)
def test_lines_in_another_writing_are_refused(line: bytes) -> None:
    """Their hash would be another, or a parser might read something else in them."""
    with pytest.raises(CommitmentError):
        parse_line(line)


def test_a_key_is_found_or_said_to_be_there_twice() -> None:
    assert entry_for(ENTRIES, ENTRIES[3].key_id) == ENTRIES[3]
    with pytest.raises(CommitmentError, match="no commitment to the key hm1-x"):
        entry_for(ENTRIES, "hm1-x")
    again = next_entry(ENTRIES[-1], ENTRIES[3].key_id, ENTRIES[0].commitment, START)
    with pytest.raises(CommitmentError, match=r"committed 2 times \(entries 3, 6\)"):
        entry_for([*ENTRIES, again], ENTRIES[3].key_id)


def test_a_revealed_opening() -> None:
    key = SecretKey(bytes(range(32)))
    opening = make_opening(key, preset("default"), {"alpha": 1e-6})
    entry = next_entry(None, key.key_id, commitment_of(key, opening), START)
    verify_opening(entry, key, opening)
    eased = make_opening(key, preset("default"), {"alpha": 1e-3})
    with pytest.raises(CommitmentError, match="was not made from this key, config, plan and salt"):
        verify_opening(entry, key, eased)
    with pytest.raises(CommitmentError, match="entry 0 is the key"):
        verify_opening(entry, SecretKey(bytes(32)), opening)
