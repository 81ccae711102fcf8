"""Files in and out: whole or not at all, UTF-8, and errors that say where."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from watermark.errors import DocumentError, ResultError

__all__ = ["atomic_writer", "dump_json", "read_json", "read_prompts", "read_text_file"]


@contextmanager
def atomic_writer(path: str | Path) -> Iterator[TextIO]:
    """Write a text file whole or not at all.

    Args:
        path: where it will stand; its folder is made if needed.

    Yields:
        A UTF-8 file. It takes its place when the block ends, unless by an exception or Ctrl-C.

    Raises:
        DocumentError: the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise DocumentError(f"cannot write {path}: {error.strerror}") from None
    finally:
        # Where the folder itself could not be made there is nothing to clear away.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
        return json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
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
    except ValueError as error:
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
    lines = [(i, s) for i, s in enumerate(read_text_file(path).splitlines(), 1) if s.strip()]
    if not lines:
        raise DocumentError(f"{path} holds no prompts; expected one a line")
    as_json = str(path).endswith(".jsonl") or lines[0][1].lstrip().startswith("{")
    return [_prompt_of(path, i, s) for i, s in lines] if as_json else [s for _, s in lines]


def _prompt_of(path: str | Path, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str) or not prompt:
        raise DocumentError(
            f'{path}, line {number}: expected a JSON object with the text field "prompt"'
        )
    return prompt
