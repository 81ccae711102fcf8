"""`heirmark watch`: the stream of answers, the state file, and being killed half way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from detect.commands.watch import watch
from detect.reporting import render_report
from detect.sequential import watching
from detect.sequential.calibrators import default_calibrator
from detect.sequential.eprocess import log_e_path, n_powered
from detect.sequential.watching import Answer, Deployment, Watch
from detect.suspect.inheritance import TEXT_EFFECT
from tests.detect.reporting.numbers import check_numbers
from tests.detect.synthetic import marked_ids
from watermark.config import WatermarkConfig, preset
from watermark.contexts import first_occurrences, windows
from watermark.errors import FingerprintError, ResultError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.schemes.red_green import RedGreen
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("gumbel")
COMMAND = "from detect.commands.watch import watch; watch()"


def _rows(
    tokenizer: TextTokenizer, n: int, *, key: SecretKey | None, length: int = 60
) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}",
            "prompt_ids": [3, i % 7, 5],
            "token_ids": marked_ids(
                CONFIG, key, length, vocabulary=tokenizer.vocab_size, seed=50 + i
            ).tolist(),
        }
        for i in range(n)
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def options(tmp_path: Path, tokenizer_folder: Path) -> list[str]:
    save_key(KEY, tmp_path / "key.json")
    return [
        "--key", str(tmp_path / "key.json"), "--tokenizer", str(tokenizer_folder),
        "--preset", "gumbel",
    ]  # fmt: skip


def _run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(watch, [str(a) for a in arguments], input=stdin)


def _error(result: Result) -> str:
    assert result.exit_code == 1
    assert result.exception is not None
    return str(result.exception)


def test_marked_answers_are_found_and_reading_stops(
    tokenizer: TextTokenizer, tmp_path: Path, options: list[str]
) -> None:
    source = _write(tmp_path / "a.jsonl", _rows(tokenizer, 12, key=KEY))
    stopped = _run(source, *options, "--output", tmp_path / "r.json")
    assert stopped.exit_code == 0, stopped.output
    payload = json.loads((tmp_path / "r.json").read_text())
    check_numbers(render_report(payload), payload)
    assert payload["verdict"] == "signal"
    assert payload["n_answers"] < 12
    lines = stopped.stdout.splitlines()
    assert len([line for line in lines if "log10 E" in line]) == payload["n_answers"]
    assert lines[payload["n_answers"]].startswith("verdict   signal")
    whole = json.loads(_run(source, *options, "--go-on", "--json").stdout)
    assert whole["n_answers"] == 12
    assert whole["log10_p"] < payload["log10_p"] <= -6
    course = whole["course"]
    assert course["n_answers"] == list(range(1, 13))
    assert course["n_scored"][-1] == whole["n_scored"]
    assert max(course["log10_e"]) == pytest.approx(-whole["log10_p"], abs=1e-3)
    assert "The answers carry the key’s mark." in render_report(whole)
    assert whole["n_tokens"] == 720 == whole["n_scored"] + sum(whole["reasons"].values())


def test_unmarked_answers_are_not_found(
    tokenizer: TextTokenizer, tmp_path: Path, options: list[str]
) -> None:
    """Fixed key and texts: a value, not a chance."""
    source = _write(tmp_path / "a.jsonl", _rows(tokenizer, 12, key=None))
    payload = json.loads(_run(source, *options, "--json").stdout)
    assert payload["verdict"] == "inconclusive"
    assert payload["log10_p"] > -2
    assert not payload["warnings"]


def test_each_pair_of_the_stream_counts_once(tokenizer: TextTokenizer) -> None:
    """Against one pass over the distinct pairs of all answers; repeats change nothing."""
    rows = _rows(tokenizer, 4, key=KEY)
    state = Watch.begun(Deployment(CONFIG, KEY, tokenizer, 1e-6))
    answers = [Answer(r["id"], np.array(r["token_ids"]), None) for r in rows]
    longer = Answer("again", np.concatenate([answers[0].token_ids, [7, 7, 9]]), None)
    for answer in [*answers, *answers, longer]:
        state = state.after(answer)
    h, prf = CONFIG.context_width, Prf.from_key(KEY)
    every = [
        np.column_stack([windows(a.token_ids, h), a.token_ids[h:]]) for a in [*answers, longer]
    ]
    pairs = np.concatenate(every)
    pairs = pairs[
        first_occurrences(pairs) & ~np.isin(pairs, list(tokenizer.special_ids)).any(axis=1)
    ]
    words = prf.words(prf.context_hashes(np.ascontiguousarray(pairs[:, :h])), pairs[:, h])
    path = log_e_path(default_calibrator(CONFIG.scheme), words[None])
    assert state.process.n_scored == len(pairs) == len(state.pairs)
    assert state.process.log_e == pytest.approx(path[-1], abs=1e-9)
    assert state.process.log_peak == pytest.approx(path.max(), abs=1e-9)
    assert len(state.answers) == 5


def test_what_the_prompt_shows_is_not_scored(
    tokenizer: TextTokenizer, tmp_path: Path, options: list[str]
) -> None:
    """An innocent that copies marked text from its prompt; without the prompt it looks guilty."""
    marked = _rows(tokenizer, 3, key=KEY, length=150)
    copied = [{"token_ids": r["token_ids"], "prompt_ids": r["token_ids"]} for r in marked]
    payload = json.loads(_run(_write(tmp_path / "a.jsonl", copied), *options, "--json").stdout)
    assert payload["n_scored"] == 0
    assert payload["verdict"] == "inconclusive"
    broken = [{"token_ids": r["token_ids"]} for r in marked]
    payload = json.loads(_run(_write(tmp_path / "b.jsonl", broken), *options, "--json").stdout)
    assert payload["verdict"] == "signal"
    assert "without their prompt" in payload["warnings"][0]


def test_killed_half_way_nothing_is_lost(
    tokenizer: TextTokenizer, tmp_path: Path, options: list[str]
) -> None:
    """A growing pipe, SIGKILL after the third line, then the whole stream again."""
    rows = _rows(tokenizer, 8, key=None)
    lines = [(json.dumps(row) + "\n").encode() for row in rows]
    state = tmp_path / "state.json"
    arguments = ["-", *options, "--go-on", "--state", str(state)]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for line in lines[:3]:
        process.stdin.write(line)
        process.stdin.flush()
        assert b"log10 E" in process.stdout.readline()
    process.kill()
    process.communicate()
    kept = json.loads(state.read_text())
    rest = _run(*arguments, "--json", stdin=b"".join(lines))
    assert rest.stderr.count("log10 E") == 5
    whole = _run("-", *options, "--go-on", "--json", stdin=b"".join(lines))
    assert kept["process"]["n_scored"] > 0
    found, expected = json.loads(rest.stdout), json.loads(whole.stdout)
    assert found.pop("log10_e") == pytest.approx(expected.pop("log10_e"), abs=1e-9)
    assert found.pop("log10_p") == pytest.approx(expected.pop("log10_p"), abs=1e-9)
    assert found.pop("p_value") == pytest.approx(expected.pop("p_value"), rel=1e-6)
    assert found == expected
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_state_without_a_course_goes_on_and_a_long_course_keeps_its_peak(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(CONFIG, KEY, tokenizer, 1e-6)
    answers = [
        Answer(r["id"], np.array(r["token_ids"]), None)
        for key in (KEY, None)
        for r in _rows(tokenizer, 6, key=key)
    ]
    state = Watch.begun(deployment)
    for answer in answers[:3]:
        state = state.after(answer)
    old = state.to_dict()
    del old["course"]
    state = Watch.restored(deployment, old)
    for answer in answers[3:]:
        state = state.after(answer)
    course = state.result()["course"]
    assert course["n_answers"][0] == 4
    monkeypatch.setattr(watching, "_POINTS", 3)
    thinned = state.result()["course"]
    assert len(thinned["n_answers"]) <= 4
    assert max(thinned["log10_e"]) == max(course["log10_e"])
    assert thinned["n_answers"][-1] == course["n_answers"][-1]


def test_a_weak_bias_needs_more_answers_before_nothing_means_nothing(
    tokenizer: TextTokenizer,
) -> None:
    def needed(delta: float) -> int:
        config = WatermarkConfig(RedGreen(0.5, delta), 2)
        return int(Watch.begun(Deployment(config, KEY, tokenizer, 1e-6)).result()["n_powered"])

    assert needed(4.0) == needed(2.0) == n_powered(TEXT_EFFECT, 1e-6)
    # (e^d / (e^d + 1) - 1/2) at d = 2 against d = 0.2, squared.
    assert needed(0.2) == pytest.approx(58.39 * needed(2.0), rel=1e-3)


def test_a_state_holds_neither_secret_nor_text_and_stops_at_once_after_a_signal(
    tokenizer: TextTokenizer, tmp_path: Path, options: list[str]
) -> None:
    source = _write(tmp_path / "a.jsonl", _rows(tokenizer, 12, key=KEY))
    state = tmp_path / "state.json"
    first = json.loads(_run(source, *options, "--json", "--state", state).stdout)
    text = state.read_text()
    assert json.loads((tmp_path / "key.json").read_text())["secret"] not in text
    assert set(json.loads(text)) == {
        "format", "key_id", "config_fingerprint", "tokenizer", "alpha", "bets", "process", "pairs",
        "answers", "n_tokens", "n_without_prompt", "reasons", "course",
    }  # fmt: skip
    assert json.loads(_run(source, *options, "--json", "--state", state).stdout) == first


def test_a_state_is_bound_to_key_config_tokenizer_and_level(
    tokenizer: TextTokenizer, tmp_path: Path, options: list[str]
) -> None:
    source = _write(tmp_path / "a.jsonl", _rows(tokenizer, 1, key=None))
    state = tmp_path / "state.json"
    assert _run(source, *options, "--state", state).exit_code == 0
    save_key(SecretKey(bytes(32)), tmp_path / "other.json")
    for changed in (["--key", tmp_path / "other.json"], ["--preset", "default"], ["--alpha", 0.01]):
        found = _run(source, *options, *changed, "--state", state)
        assert isinstance(found.exception, FingerprintError)
        assert "begun with" in _error(found)
    payload = json.loads(state.read_text())
    damages: tuple[dict[str, object], ...] = (
        {"format": "x"}, {"pairs": ""}, {"pairs": "?"}, {"answers": None}, {"process": {}},
        {"reasons": 3}, {"course": 3}, {"course": [[1, float("nan")]]}, {"course": [[1, 0.0]] * 9},
    )  # fmt: skip
    for damage in damages:
        state.write_text(json.dumps(payload | damage))
        found = _run(source, *options, "--state", state)
        assert isinstance(found.exception, ResultError), damage


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{oops", "line 2: not JSON"),
        (b"[1]", "line 2: expected a JSON object"),
        (b'{"prompt": "x"}', 'expected "text" or "token_ids"'),
        (b'{"text": 3}', "expected text"),
        (b'{"token_ids": [1, "a"]}', "list of integers"),
        (b'{"token_ids": [1, 99999999]}', "not all in the tokenizer"),
        (b'{"token_ids": [-1]}', "not all in the tokenizer"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "\xff"}', "not UTF-8"),
    ],
)
def test_bad_lines_are_named_and_what_came_before_is_kept(
    line: bytes, message: str, tmp_path: Path, options: list[str]
) -> None:
    state = tmp_path / "state.json"
    good = b'{"text": "The old captain read the book.", "prompt": "Tell me."}\n'
    found = _run("-", *options, "--state", state, stdin=good + line)
    assert message in _error(found)
    assert json.loads(state.read_text())["n_tokens"] > 0


def test_nothing_is_inconclusive_and_a_missing_file_an_error(
    tmp_path: Path, options: list[str]
) -> None:
    payload = json.loads(_run("-", *options, "--json", stdin=b"\n\n").stdout)
    assert (payload["verdict"], payload["p_value"]) == ("inconclusive", 1.0)
    assert "cannot read" in _error(_run(tmp_path / "none.jsonl", *options))


def test_a_verdict_does_not_wait_for_the_next_answer(
    tokenizer: TextTokenizer, options: list[str]
) -> None:
    """The pipe stays open and silent after the answer that decides."""
    line = json.dumps(_rows(tokenizer, 1, key=KEY, length=300)[0]).encode() + b"\n"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND, "-", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()
    assert process.wait(timeout=60) == 0
    output, _ = process.communicate()
    assert b"verdict   signal" in output
