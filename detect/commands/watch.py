"""`heirmark watch`: test answers as they come in, and stop when the case is strong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from detect.commands.options import (
    PATH,
    Stopped,
    alpha_option,
    deployment_options,
    result_options,
    show,
)
from detect.commands.terminal import plain
from detect.results import Verdict, format_p
from watermark.cli import chosen_config
from watermark.errors import DocumentError
from watermark.keyring.secret_stores import read_key
from watermark.storage.files import atomic_writer, dump_json, read_json

if TYPE_CHECKING:
    from detect.sequential.watching import Answer, Deployment, Watch
    from watermark.tokens import TextTokenizer

__all__ = ["watch"]


@click.command()
@click.argument("source", metavar="FILE")
@deployment_options
@alpha_option
@click.option(
    "--state",
    "state_path",
    type=PATH,
    help="File that keeps the state: written after every answer, gone on from if it exists.",
)
@click.option("--go-on", is_flag=True, help="Do not stop at the first positive verdict.")
@result_options
def watch(
    source: str,
    key_path: Path,
    preset_name: str | None,
    config_path: Path | None,
    tokenizer: str,
    alpha: float,
    state_path: Path | None,
    go_on: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Test a suspect's answers one by one.

    FILE is JSONL, - standard input. Each line is an object with "text" or "token_ids", the "prompt"
    or "prompt_ids" that it answers, and perhaps an "id". The test may be looked at after every
    answer and stopped at any time. Answers that the state has seen are skipped: the same file may
    be read again.
    """
    from detect.sequential.watching import Deployment
    from watermark.tokens import load_tokenizer

    config, key = chosen_config(preset_name, config_path), read_key(key_path)
    deployment = Deployment(config, key, load_tokenizer(tokenizer), alpha)
    current = _opened(deployment, state_path)
    answers = _answers(source, deployment.tokenizer)
    try:
        # The verdict before the next answer: a pipe may have none for hours.
        while go_on or current.verdict != Verdict.SIGNAL:
            answer = next((a for a in answers if not current.has_seen(a)), None)
            if answer is None:
                break
            following = current.after(answer)
            # Kept before it is shown: what was printed is never lost.
            _save(following, state_path)
            click.echo(_line(answer, current, following), err=as_json)
            current = following
    except KeyboardInterrupt:
        kept = f"; what was read is kept in {state_path}" if state_path else ""
        raise Stopped(f"stopped{kept}") from None
    show(current.result(), as_json, output, _summary)


def _opened(deployment: Deployment, path: Path | None) -> Watch:
    from detect.sequential.watching import Watch

    if path is None:
        return Watch.begun(deployment)
    if path.exists():
        return Watch.restored(deployment, read_json(path))
    begun = Watch.begun(deployment)
    # A place that cannot be written is better found out now than after the first answer.
    _save(begun, path)
    return begun


def _save(state: Watch, path: Path | None) -> None:
    if path is not None:
        with atomic_writer(path) as file:
            file.write(dump_json(state.to_dict()))


def _line(answer: Answer, before: Watch, after: Watch) -> str:
    new = after.process.n_scored - before.process.n_scored
    return (
        f"{len(after.answers):>6}  {plain(answer.id):<20.20}  {new:>5} pairs  "
        f"{after.process.n_scored:>8} in all  log10 E {after.process.log10_e:+8.2f}  "
        f"p {format_p(after.process.log10_p)}"
    )


def _summary(payload: dict[str, Any]) -> str:
    lines = [
        f"verdict   {payload['verdict'].replace('_', ' ')}  (alpha {payload['alpha']:g})",
        f"p-value   {format_p(payload['log10_p'])}  (e-process: valid whenever one stops)",
        f"scored    {payload['n_scored']} pairs of {payload['n_tokens']} tokens in "
        f"{payload['n_answers']} answers",
        f"key       {payload['key_id']}  {payload['scheme']}, context width "
        f"{payload['context_width']}",
    ]
    return "\n".join([*lines, *(f"warning   {warning}" for warning in payload["warnings"])])


def _answers(source: str, tokenizer: TextTokenizer) -> Iterator[Answer]:
    """Read answers as their lines come in."""
    from detect.sequential.watching import Answer

    for number, line in _lines(source):
        place = f"{source}, line {number}"
        record = _record(line, place)
        token_ids = _ids(record, "text", tokenizer, place)
        if token_ids is None:
            raise DocumentError(f'{place}: expected "text" or "token_ids", got neither')
        prompt_ids = _ids(record, "prompt", tokenizer, place)
        yield Answer(str(record.get("id", number)), token_ids, prompt_ids)


def _lines(source: str) -> Iterator[tuple[int, bytes]]:
    """Number the lines that are not blank."""
    with ExitStack() as stack:
        try:
            file = sys.stdin.buffer if source == "-" else stack.enter_context(open(source, "rb"))
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
        except OSError as error:
            raise DocumentError(f"cannot read {source}: {error.strerror}") from None


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"{place}: not UTF-8 at byte {error.start} of the line") from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{place}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise DocumentError(f"{place}: expected a JSON object, got {type(record).__name__}")
    return record


def _ids(
    record: dict[str, Any], field: str, tokenizer: TextTokenizer, place: str
) -> NDArray[np.int64] | None:
    """Token ids of a text field, or of the logged ids beside it; None without either."""
    logged = "token_ids" if field == "text" else f"{field}_ids"
    ids, text = record.get(logged), record.get(field)
    if ids is not None:
        if not (isinstance(ids, list) and all(type(i) is int for i in ids)):
            raise DocumentError(f'{place}: expected a list of integers in "{logged}"')
        if ids and not (0 <= min(ids) and max(ids) < tokenizer.vocab_size):
            raise DocumentError(
                f"{place}: ids {min(ids)} to {max(ids)} are not all in the tokenizer, which has "
                f"{tokenizer.vocab_size} tokens"
            )
        return np.array(ids, np.int64)
    if text is None:
        return None
    if not isinstance(text, str):
        raise DocumentError(f'{place}: expected text in "{field}", got {type(text).__name__}')
    try:
        return tokenizer.encode(text)
    except DocumentError as error:
        raise DocumentError(f"{place}: {error}") from None
