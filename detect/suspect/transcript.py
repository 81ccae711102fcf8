"""What was asked and answered, on disk as it happens: JSONL, one exchange a line.

The first line registers the prompts and settings before the first query: its SHA-256 shows that no
prompt was chosen, or left out, for what the suspect answered. A stopped run goes on where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from detect.suspect.exchange_records import answer_of, record_of
from detect.suspect.exchanges import Suspect, SuspectAnswer
from watermark.errors import DocumentError, ResultError
from watermark.generation.sampling import Sampling

__all__ = [
    "FORMAT",
    "Registration",
    "is_header",
    "known_answers",
    "prompts_sha256",
    "recorded_answers",
]

FORMAT: Final = "heirmark-transcript-1"


@final
@dataclass(frozen=True)
class Registration:
    """What is going to be asked, fixed before it is asked.

    Attributes:
        suspect: the model's name.
        prompts: the user messages.
        sampling: how answers are drawn.
        address: an endpoint's, where there may be models of the same name; empty for others.
    """

    suspect: str
    prompts: tuple[str, ...]
    sampling: Sampling
    address: str = ""

    def __post_init__(self) -> None:
        for number, prompt in enumerate(self.prompts, 1):
            if any("\ud800" <= c <= "\udfff" for c in prompt):
                raise DocumentError(f"prompt {number} is not valid Unicode: a lone surrogate")

    def to_dict(self) -> dict[str, Any]:
        """Return the first line's JSON values."""
        return {
            "format": FORMAT,
            "suspect": self.suspect,
            "address": self.address,
            "n_prompts": len(self.prompts),
            "prompts_sha256": prompts_sha256(self.prompts),
            "sampling": asdict(self.sampling),
        }


def prompts_sha256(prompts: Sequence[str]) -> str:
    """Return the SHA-256 of prompts as a JSON list in ASCII without blanks, as hex digits."""
    written = json.dumps(list(prompts), separators=(",", ":"))
    return hashlib.sha256(written.encode("ascii")).hexdigest()


def is_header(record: object) -> bool:
    """True for the first line of a transcript of ours."""
    return isinstance(record, dict) and record.get("format") == FORMAT


def known_answers(path: Path, registration: Registration) -> dict[int, SuspectAnswer]:
    """Read the answers that a transcript holds already.

    Args:
        path: the transcript; a missing or empty one holds none, a torn last line is not read.
        registration: what is going to be asked.

    Returns:
        Answers by position.

    Raises:
        ResultError: it is no transcript, one of other prompts or settings, or damaged.
        DocumentError: it cannot be read.
    """
    _check_place(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}") from None
    header = _line(registration.to_dict())
    if header.startswith(content):
        return {}  # not begun, or stopped within its first line
    lines = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]
    _check_header(path, lines[0] if lines else content, registration)
    found: dict[int, SuspectAnswer] = {}
    for number, line in enumerate(lines[1:], 2):
        position, answer = _exchange(path, number, line, registration)
        if position in found:
            raise ResultError(f"{path}, line {number}: prompt {position} is answered twice")
        found[position] = answer
    return found


def recorded_answers(
    suspect: Suspect, registration: Registration, path: Path
) -> Generator[tuple[int, SuspectAnswer], None, None]:
    """Ask a suspect and write each answer down as it arrives.

    Args:
        suspect: who is asked.
        registration: what.
        path: the transcript; one of the same registration is continued.

    Yields:
        Position and answer: first those known, then those that arrive.

    Raises:
        ResultError: see `known_answers`; also if another run is writing to it.
        DocumentError: it cannot be written.
    """
    with _locked(path) as file:
        known = known_answers(path, registration)
        yield from known.items()
        _heal(file, registration)
        asked = suspect.ask(registration.prompts, registration.sampling, known)
        with contextlib.closing(asked):
            for position, arrived in asked:
                answer = replace(arrived, model=arrived.model or registration.suspect)
                file.write(_line(_recorded(registration, position, answer)))
                file.flush()
                yield position, answer


def _recorded(registration: Registration, position: int, answer: SuspectAnswer) -> dict[str, Any]:
    prompt = registration.prompts[position]
    return record_of(position, prompt, answer, registration.sampling)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def _check_header(path: Path, line: bytes, registration: Registration) -> None:
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not is_header(header):
        raise ResultError(
            f"{path} is not a transcript of heirmark; it is left as it is, give another file"
        )
    expected = registration.to_dict()
    other = [name for name, value in expected.items() if header.get(name) != value]
    if other:
        raise ResultError(
            f"{path} was made with another {' and '.join(other)}; to continue it, give the same "
            "prompts and settings, else another file"
        )


def _exchange(
    path: Path, number: int, line: bytes, registration: Registration
) -> tuple[int, SuspectAnswer]:
    prompts: Sequence[str] = registration.prompts
    try:
        record = json.loads(line)
        position = record["position"]
        if position not in range(len(prompts)) or record["prompt"] != prompts[position]:
            raise ValueError("another prompt")
        return position, answer_of(record)
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        raise ResultError(
            f"{path}, line {number}: not an answer to one of the registered prompts; "
            "the transcript is damaged"
        ) from None


def _check_place(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise DocumentError(f"cannot write {path}: a transcript needs a file of its own")


def _heal(file: BinaryIO, registration: Registration) -> None:
    """Cut off a torn last line; register the prompts if that was not done."""
    content = file.read()
    whole = content.rfind(b"\n") + 1
    file.truncate(whole)
    file.seek(whole)
    if not whole:
        file.write(_line(registration.to_dict()))
    file.flush()
    # From here on the registration outlives even a power cut: nothing has been asked yet.
    os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    _check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResultError(f"{path} is being written by another run") from None
            yield file
    except OSError as error:
        raise DocumentError(f"cannot write {path}: {error.strerror}") from None
