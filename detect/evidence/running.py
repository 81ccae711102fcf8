"""Run one of the recordable commands in a folder of its own, by the very same code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from detect.commands.options import Stopped
from detect.evidence.invocation import key_option, leaf_command
from watermark.errors import EvidenceError

__all__ = ["offline", "run_command"]

_RESULT: Final = "heirmark-result.json"
_OFFLINE: Final = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def run_command(
    name: str, arguments: Sequence[str], key_place: str, folder: Path, *, quiet: bool
) -> dict[str, Any]:
    """Run a command and read its result.

    Args:
        name: as in `detect.evidence.recordable`.
        arguments: for its parser, without the key.
        key_place: absolute, see `absolute_place`.
        folder: where it runs: relative names are looked up there.
        quiet: whether what it prints is thrown away.

    Returns:
        Its JSON result.

    Raises:
        WatermarkError: the command's own.
        EvidenceError: arguments that the command refuses.
    """
    import click

    command = leaf_command(name)
    words = [f"{key_option(name)}={key_place}", f"--output={_RESULT}", *arguments]
    printed: Any = contextlib.redirect_stdout(io.StringIO()) if quiet else contextlib.nullcontext()
    with _inside(folder), printed:
        try:
            with command.make_context(f"heirmark {name}", words) as context:
                command.invoke(context)
        except Stopped:
            # What it kept was in a folder that is gone.
            raise Stopped("stopped; nothing is kept") from None
        except click.UsageError as error:
            raise EvidenceError(f"{name} refuses its options: {error.format_message()}") from None
    content = (folder / _RESULT).read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(content)
    return result


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep model libraries from the network; they read it where they are first imported."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Change the working folder, from which nothing may then be imported."""
    here, path = os.getcwd(), list(sys.path)
    sys.path[:] = [p if os.path.isabs(p) else os.path.join(here, p) for p in path]
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path[:] = path
