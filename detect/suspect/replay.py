"""A suspect's recorded answers, in its place: a transcript of ours, or any JSONL."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Generator, Sequence
from pathlib import Path
from typing import Any, final

from detect.suspect.exchange_records import answer_of
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.transcript import is_header, prompts_sha256
from watermark.errors import DocumentError, ModelError
from watermark.generation.sampling import Sampling
from watermark.storage.files import read_text_file

__all__ = ["ReplaySuspect"]


@final
class ReplaySuspect:
    """Answers from a file.

    A prompt that stands in it several times is answered in the file's order.

    Args:
        path: a transcript of ours, or JSONL with "prompt" and "text" or "response".

    Raises:
        DocumentError: it cannot be read; names the line.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._header, exchanges = _read(path)
        self._prompts = tuple(prompt for prompt, _ in exchanges)
        self._answers: dict[str, list[SuspectAnswer]] = defaultdict(list)
        for prompt, answer in exchanges:
            self._answers[prompt].append(answer)

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts in it.

        Raises:
            DocumentError: they are not those that were registered.
        """
        registered = self._header.get("prompts_sha256")
        if self._header and registered != prompts_sha256(self._prompts):
            raise DocumentError(
                f"{self._path} holds {len(self._prompts)} of {self._header.get('n_prompts')} "
                "registered prompts, or other ones; complete it by running the probe that began "
                "it once more, or say with --prompts what was asked"
            )
        return self._prompts

    def ask(
        self, prompts: Sequence[str], sampling: Sampling, known: Collection[int] = ()
    ) -> Generator[tuple[int, SuspectAnswer], None, None]:
        """Look prompts up; see `Suspect`. How the answers were drawn is not known here.

        Raises:
            ModelError: a prompt without an answer.
        """
        used: dict[str, int] = defaultdict(int)
        for position, prompt in enumerate(prompts):
            answers = self._answers.get(prompt, [])
            if used[prompt] >= len(answers):
                raise ModelError(
                    f"{self._path} holds {len(answers)} answers to prompt {position + 1}, "
                    f"{used[prompt] + 1} are needed: {prompt[:60]!r}"
                )
            if position not in known:
                yield position, answers[used[prompt]]
            used[prompt] += 1


def _read(path: Path) -> tuple[dict[str, Any], list[tuple[str, SuspectAnswer]]]:
    """Return the header, empty for a file that is not ours, and (prompt, answer) in order."""
    text = read_text_file(path)
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DocumentError(f"{path} is empty; expected JSON objects, one a line")
    header = _object(path, *lines[0])
    if not is_header(header):
        return {}, [_foreign(path, n, _object(path, n, line)) for n, line in lines]
    if not text.endswith("\n"):
        lines.pop()  # torn by a stop
    records = [(n, _object(path, n, line)) for n, line in lines[1:]]
    try:
        # Answers stand in the order of their arrival.
        records.sort(key=lambda numbered: int(numbered[1]["position"]))
    except (KeyError, TypeError, ValueError):
        raise DocumentError(f"{path} is damaged: an answer without its position") from None
    return header, [_exchange(path, n, record) for n, record in records]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise DocumentError(f"{path}, line {number}: expected a JSON object")
    return record


def _exchange(path: Path, number: int, record: dict[str, Any]) -> tuple[str, SuspectAnswer]:
    try:
        return str(record["prompt"]), answer_of(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DocumentError(f"{path}, line {number}: not an answer; it is damaged") from None


def _foreign(path: Path, number: int, record: dict[str, Any]) -> tuple[str, SuspectAnswer]:
    """Of a file that is not ours, prompt and text alone have a known meaning."""
    prompt, text = record.get("prompt"), record.get("text", record.get("response"))
    if not isinstance(prompt, str) or not isinstance(text, str):
        raise DocumentError(
            f'{path}, line {number}: expected text in "prompt", and in "text" or "response"'
        )
    return prompt, SuspectAnswer(prompt, text)
