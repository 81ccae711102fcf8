"""Files in and out: whole or not at all, UTF-8, and errors that say where."""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast

from watermark.errors import DocumentError, ResultError

__all__ = [
    "atomic_binary_writer",
    "atomic_writer",
    "dump_json",
    "filled_lines",
    "read_json",
    "read_prompts",
    "read_records",
    "read_text_file",
]


@contextmanager
def atomic_writer(path: str | Path, *, private: bool = False) -> Iterator[TextIO]:
    """Write a text file whole or not at all.

    Args:
        path: where it will stand; its folder is made if needed. A device or pipe is written to
            as it is; of a symbolic link, the target is replaced.
        private: whether only the owner may read it (mode 0600).

    Yields:
        A UTF-8 file. It takes its place when the block ends, unless by an exception or Ctrl-C.

    Raises:
        DocumentError: the place cannot be written.
    """
    with _replacing(Path(path), "w", private) as file:
        yield cast(TextIO, file)


@contextmanager
def atomic_binary_writer(path: str | Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Write a binary file whole or not at all, and onto the disk before it takes its place.

    Args:
        path: as in `atomic_writer`.
        private: whether only the owner may read it (mode 0600).

    Yields:
        A binary file; see `atomic_writer`.

    Raises:
        DocumentError: the place cannot be written.
    """
    with _replacing(Path(path), "wb", private) as file:
        yield cast(BinaryIO, file)
        # Otherwise a power cut may leave the new name on an empty file.
        file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.fsync(file.fileno())


@contextmanager
def _replacing(path: Path, mode: str, private: bool) -> Iterator[IO[Any]]:
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    if path.exists() and not path.is_file() and not path.is_dir():
        # Taking a device's place would destroy it.
        try:
            with path.open(mode, **text) as device:  # type: ignore[call-overload]
                yield device
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DocumentError(f"cannot write {path}: {error.strerror or error}") from None
        return
    path = path.resolve()
    if _is_irreplaceable(path):
        raise DocumentError(
            f"{path} is a key file or an opening, which cannot be made again; write to another "
            "place"
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        handle = os.open(temporary, flags, 0o600 if private else 0o666)
        with os.fdopen(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise DocumentError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        # Where the folder itself could not be made there is nothing to clear away.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_irreplaceable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(1 << 12)
    except OSError:
        return False
    kinds = (b"key-", b"engine-key-", b"opening-")
    return any(b'"format": "heirmark-' + kind in head for kind in kinds)


def dump_json(payload: Any) -> str:
    """Return JSON text.

    Args:
        payload: JSON values.

    Returns:
        Indented text with a final line break.

    Raises:
        ResultError: NaN or an infinity, which JSON does not have.
    """
    try:
        text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # Lone surrogates (of ids, of file names that are not UTF-8) as JSON's own escapes.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    except ValueError as error:
        raise ResultError(f"a result cannot be written as JSON: {error}") from None


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file, or "-" for standard input.

    Returns:
        Its value.

    Raises:
        DocumentError: missing, not UTF-8, or not JSON; names the line.
    """
    text = read_text_file(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not JSON: {error}") from None


def read_text_file(path: str | Path) -> str:
    """Read a UTF-8 text; a byte-order mark is dropped.

    Args:
        path: the file, or "-" for standard input.

    Returns:
        The text.

    Raises:
        DocumentError: missing, a folder, or not UTF-8; names line and byte.
    """
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    except OSError as error:
        raise DocumentError(f"cannot read {path}: {error.strerror}") from None
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DocumentError(
            f"{path}, line {line}: not UTF-8 at byte {error.start} "
            f"(0x{raw[error.start]:02x}); convert the file to UTF-8"
        ) from None


def read_prompts(path: str | Path) -> list[str]:
    """Read prompts: JSONL objects with the field "prompt", or plain text, one a line.

    Args:
        path: the file, or "-" for standard input.

    Returns:
        The prompts; blank lines are left out.

    Raises:
        DocumentError: no prompt at all, or a JSONL line without one; names the line.
    """
    lines = filled_lines(path)
    if not lines:
        raise DocumentError(f"{path} holds no prompts; expected one a line")
    as_json = str(path).endswith(".jsonl") or lines[0][1].lstrip().startswith("{")
    if not as_json:
        return [line for _, line in lines]
    return [_text_fields(path, i, line, ("prompt",))[0] for i, line in lines]


def read_records(path: str | Path, fields: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Read text fields of a JSONL file.

    Args:
        path: the file, or "-" for standard input.
        fields: their names.

    Returns:
        The fields' texts, one tuple for each line that is not blank.

    Raises:
        DocumentError: no line at all, or one without the fields; names the line.
    """
    lines = filled_lines(path)
    if not lines:
        raise DocumentError(f"{path} is empty; expected JSON objects, one a line")
    return [_text_fields(path, i, line, fields) for i, line in lines]


def filled_lines(path: str | Path) -> list[tuple[int, str]]:
    """Read the lines of a text that are not blank.

    Args:
        path: the file, or "-" for standard input.

    Returns:
        Their numbers, from 1, and the lines without their ends.

    Raises:
        DocumentError: missing, a folder, or not UTF-8.
    """
    # Not splitlines(): a text within JSON may hold U+2028 and its like.
    lines = (line.removesuffix("\r") for line in read_text_file(path).split("\n"))
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _text_fields(
    path: str | Path, number: int, line: str, fields: tuple[str, ...]
) -> tuple[str, ...]:
    try:
        record = json.loads(line)
        values = tuple(record[field] for field in fields)
    except (ValueError, KeyError, TypeError, RecursionError):
        values = ()
    if not values or not all(isinstance(value, str) and value for value in values):
        names = " and ".join(f'"{field}"' for field in fields)
        raise DocumentError(f"{path}, line {number}: expected a JSON object with text in {names}")
    return values
