"""Transcripts: cut anywhere, continued to the same end, and never mixed with another probe's."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from detect.suspect.exchanges import ReportedPosition, SuspectAnswer
from detect.suspect.replay import ReplaySuspect
from detect.suspect.transcript import Registration, known_answers, recorded_answers
from watermark.errors import DocumentError, ModelError, ResultError
from watermark.generation.sampling import Sampling

PROMPTS = ("Who?", "Where?\u2028", "Who?", "Why \u00e9?")
REGISTRATION = Registration("model", PROMPTS, Sampling(8, seed=3), "http://host/v1")


@pytest.fixture
def suspect(tmp_path: Path) -> ReplaySuspect:
    """A suspect with fixed answers: a recording, written by hand."""
    path = tmp_path / "recorded.jsonl"
    rows = [{"prompt": p, "response": f"Answer {i} \u00e9."} for i, p in enumerate(PROMPTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ReplaySuspect(path)


def _texts(answers: dict[int, SuspectAnswer]) -> list[str]:
    return [answers[i].text for i in range(len(PROMPTS))]


def test_a_transcript_cut_anywhere_is_continued_to_the_same_end(
    suspect: ReplaySuspect, tmp_path: Path
) -> None:
    """Wherever a stop tore the file; only what is missing is asked again."""
    path = tmp_path / "transcript.jsonl"
    whole = dict(recorded_answers(suspect, REGISTRATION, path))
    content = path.read_bytes()
    assert _texts(whole) == [f"Answer {i} \u00e9." for i in range(4)]
    for cut in {*range(0, len(content), 7), *(content.find(b"}\n", i) + 1 for i in (0, 500))}:
        path.write_bytes(content[:cut])
        n_whole = max(content.count(b"\n", 0, cut) - 1, 0)
        assert len(known_answers(path, REGISTRATION)) == n_whole
        assert dict(recorded_answers(suspect, REGISTRATION, path)) == whole
        assert path.read_bytes() == content


def test_the_prompts_are_registered_before_the_first_query(
    suspect: ReplaySuspect, tmp_path: Path
) -> None:
    path = tmp_path / "transcript.jsonl"
    unanswered = replace(REGISTRATION, prompts=("Never asked?",))
    with pytest.raises(ModelError):
        list(recorded_answers(suspect, unanswered, path))
    (line,) = path.read_text().splitlines()
    header = json.loads(line)
    # echo -n '["Never asked?"]' | sha256sum
    assert header["prompts_sha256"] == (
        "f65dc3444e4da8f043300997ad4f5759c2195e809926f3afe41a28df96912140"
    )
    assert header["sampling"]["seed"] == 3


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    answer = SuspectAnswer(
        "User: Who?",
        "a\u00e9\u2028\n",
        (ReportedPosition(0, (b"a", b"\xc3"), (-0.1, -2.5)), ReportedPosition(1, (), ())),
        "stop",
        "model-1",
    )

    class Once:
        name = "once"

        def ask(self, *asked: object) -> Generator[tuple[int, SuspectAnswer], None, None]:
            yield 0, answer

    registration = Registration("once", ("Who?",), Sampling())
    path = tmp_path / "t.jsonl"
    list(recorded_answers(Once(), registration, path))
    assert known_answers(path, registration) == {0: answer}
    assert dict(ReplaySuspect(path).ask(["Who?"], Sampling())) == {0: answer}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"prompts": (*PROMPTS[:3], "Else?")}, "prompts_sha256"),
        ({"sampling": Sampling(8, seed=4)}, "sampling"),
        ({"suspect": "another"}, "suspect"),
        ({"address": "http://elsewhere/v1"}, "address"),
    ],
)
def test_another_probe_is_refused(
    suspect: ReplaySuspect, tmp_path: Path, other: dict[str, object], named: str
) -> None:
    path = tmp_path / "transcript.jsonl"
    list(recorded_answers(suspect, REGISTRATION, path))
    content = path.read_bytes()
    with pytest.raises(ResultError, match=f"made with another {named}"):
        list(recorded_answers(suspect, replace(REGISTRATION, **other), path))  # type: ignore[arg-type]
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"A file of mine", b'{"prompt": "a", "text": "b"}\n', b"\n", b"\x00\xff", b"[[[["]
)
def test_a_file_that_is_no_transcript_is_left_as_it_is(
    suspect: ReplaySuspect, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(ResultError, match="not a transcript"):
        list(recorded_answers(suspect, REGISTRATION, path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], lines[1], lines[1]],
        lambda lines: [lines[0], b"{}"],
        lambda lines: [lines[0], b"\x00" * 20],
        lambda lines: [lines[0], lines[1].replace(b'"position": 0', b'"position": 1')],
        lambda lines: [lines[0], lines[1].replace(b'"position": 0', b'"position": -1')],
        lambda lines: [lines[0], lines[1].replace(b'"position": 0', b'"position": [0]')],
        lambda lines: [lines[0], lines[1].replace(b'"text": "', b'"text": 3, "x": "')],
        lambda lines: [lines[0], lines[1].replace(b'"reported": []', b'"reported": [[]]')],
    ],
)
def test_damage_is_named_by_its_line(
    suspect: ReplaySuspect, tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = tmp_path / "transcript.jsonl"
    list(recorded_answers(suspect, REGISTRATION, path))
    lines = damage(path.read_bytes().splitlines())
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ResultError, match=r"line [23]"):
        list(recorded_answers(suspect, REGISTRATION, path))


def test_two_runs_do_not_write_to_one_transcript(suspect: ReplaySuspect, tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    first = recorded_answers(suspect, REGISTRATION, path)
    next(first)
    with pytest.raises(ResultError, match="another run"):
        next(recorded_answers(suspect, REGISTRATION, path))
    first.close()
    assert len(dict(recorded_answers(suspect, REGISTRATION, path))) == len(PROMPTS)


def test_places_that_cannot_be_written_are_said(suspect: ReplaySuspect, tmp_path: Path) -> None:
    for place in (tmp_path, Path("/dev/zero"), tmp_path / "recorded.jsonl" / "inside"):
        with pytest.raises(DocumentError, match="cannot write"):
            list(recorded_answers(suspect, REGISTRATION, place))


def test_prompts_with_half_characters_are_refused() -> None:
    with pytest.raises(DocumentError, match="prompt 2"):
        Registration("model", ("a", "\ud800"), Sampling())
