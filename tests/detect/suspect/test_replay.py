"""Recorded answers in a suspect's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detect.suspect.replay import ReplaySuspect
from detect.suspect.transcript import Registration, recorded_answers
from watermark.errors import DocumentError, ModelError
from watermark.generation.sampling import Sampling


def _write(path: Path, *rows: object) -> ReplaySuspect:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ReplaySuspect(path)


@pytest.fixture
def replay(tmp_path: Path) -> ReplaySuspect:
    return _write(
        tmp_path / "answers.jsonl",
        {"prompt": "Who?", "text": "I.", "token_ids": [3]},
        {"prompt": "Why?", "response": "So.", "model": 3, "reported": "elsewhere"},
        {"prompt": "Who?", "text": "", "response": "You."},
    )


def test_a_prompt_asked_again_gets_its_next_answer(replay: ReplaySuspect) -> None:
    assert replay.prompts == ("Who?", "Why?", "Who?")
    answers = dict(replay.ask(["Who?", "Who?", "Why?"], Sampling(), known={0}))
    assert {i: a.text for i, a in answers.items()} == {1: "", 2: "So."}
    with pytest.raises(ModelError, match=r"1 answers to prompt 2, 2 are needed: 'Why\?'"):
        list(replay.ask(["Why?", "Why?"], Sampling()))
    with pytest.raises(ModelError, match="0 answers to prompt 1"):
        list(replay.ask(["How?"], Sampling()))


def test_a_transcript_is_replayed_in_the_order_of_its_prompts(
    replay: ReplaySuspect, tmp_path: Path
) -> None:
    path = tmp_path / "transcript.jsonl"
    registration = Registration("model", replay.prompts, Sampling())
    whole = dict(recorded_answers(replay, registration, path))
    header, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *reversed(lines)]) + '{"torn')
    again = ReplaySuspect(path)
    assert again.prompts == replay.prompts
    assert dict(again.ask(again.prompts, Sampling())) == whole


def test_a_transcript_without_all_registered_answers_does_not_speak_for_them(
    replay: ReplaySuspect, tmp_path: Path
) -> None:
    """Leaving out answers after a look at them would choose the evidence."""
    path = tmp_path / "transcript.jsonl"
    registration = Registration("model", replay.prompts, Sampling())
    list(recorded_answers(replay, registration, path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[3]]))
    with pytest.raises(DocumentError, match="2 of 3 registered prompts"):
        _ = ReplaySuspect(path).prompts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{oops\n", "line 1: expected a JSON object"),
        ('{"prompt": "a", "text": "b"}\n[]\n', "line 2: expected a JSON object"),
        ('{"prompt": "a"}\n', 'line 1: expected text in "prompt"'),
        ('{"prompt": "a", "text": 3}\n', 'line 1: expected text in "prompt"'),
        ('{"prompt": null, "text": "a"}\n', 'line 1: expected text in "prompt"'),
        ('{"format": "heirmark-transcript-1"}\n{"prompt": "a", "text": "b"}\n', "is damaged"),
    ],
)
def test_damaged_recordings_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(content)
    with pytest.raises(DocumentError, match=message):
        ReplaySuspect(path)
