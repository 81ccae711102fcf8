"""An endpoint as a suspect: a real server and model, and all that can go wrong between."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from detect.suspect import chat_http
from detect.suspect.chat_address import Endpoint
from detect.suspect.endpoint import EndpointSuspect
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.pacing import Pacer
from tests.chat_server import ChatServer, Fault, body, drop, slow, status
from watermark.errors import ConfigError, ModelError
from watermark.generation.sampling import Sampling

PROMPTS = [f"Count {n} nets, please." for n in range(6)]
SAMPLING = Sampling(8, seed=3)
KEY = "sk-very-secret-0123456789"


def _suspect(server: ChatServer, top: int = 5, **changes: Any) -> EndpointSuspect:
    endpoint = Endpoint(server.url, None, 4, None, 20.0, max_attempts=3)
    return EndpointSuspect(replace(endpoint, **changes), "tiny", top)


def _ask(suspect: EndpointSuspect, prompts: list[str] = PROMPTS) -> list[SuspectAnswer]:
    found = dict(suspect.ask(prompts, SAMPLING))
    return [found[i] for i in range(len(prompts))]


@pytest.fixture
def unbroken(server: ChatServer) -> list[SuspectAnswer]:
    answers = _ask(_suspect(server))
    server.reset()
    return answers


def test_reported_log_probs_are_the_models_own(server: ChatServer, model_folder: Any) -> None:
    """Against the same weights, read in one pass by transformers alone."""
    model = LlamaForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    chat = AutoTokenizer.from_pretrained(model_folder)
    seen = 0
    for answer in _ask(_suspect(server)):
        raw = answer.text.encode()
        starts = [p.start for p in answer.reported]
        ends = [*starts[1:], len(raw)]
        drawn = [raw[a:b].decode() for a, b in zip(starts, ends, strict=True)]
        rendered = f"User: {answer.prompt}\nAnswer:"
        prompt = chat(rendered)["input_ids"]
        vocabulary = {chat.decode([i]): i for i in range(len(chat))}
        ids = [vocabulary[token] for token in drawn]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        # The server bars what is not ASCII.
        logits[:, [i for i in range(len(chat)) if not chat.decode([i]).isascii()]] = -1e9
        expected = logits.log_softmax(1).topk(5, dim=1)
        for position, row in zip(answer.reported, expected.values.tolist(), strict=True):
            assert position.log_probs == pytest.approx(row, abs=1e-3)
        seen += len(ids)
        assert answer.model == "tiny-1"
        assert answer.finish_reason in ("length", "stop")
    assert seen > 20


def test_answers_hang_on_seed_and_position_only(
    server: ChatServer, unbroken: list[SuspectAnswer]
) -> None:
    assert len({a.text for a in unbroken}) > 3
    some = dict(_suspect(server, concurrency=1).ask(PROMPTS, SAMPLING, known={0, 2, 3}))
    assert some == {i: unbroken[i] for i in (1, 4, 5)}
    assert len(server.requests) == 3
    other = dict(_suspect(server).ask(PROMPTS, replace(SAMPLING, seed=4)))
    assert other != dict(enumerate(unbroken))


@pytest.mark.parametrize(
    "fault",
    [
        status(429, "slow down", Retry_After="0"),
        status(500),
        status(503, "overloaded", Retry_After=formatdate(0)),
        drop,
        slow(0.2),
    ],
    ids=["429", "500", "503", "dropped", "slow"],
)
def test_passing_faults_change_no_answer(
    server: ChatServer, unbroken: list[SuspectAnswer], fault: Fault
) -> None:
    server.faults.extend([fault, fault])
    assert _ask(_suspect(server)) == unbroken


def test_retry_after_is_honoured(server: ChatServer) -> None:
    server.faults.append(status(429, Retry_After="1"))
    start = time.monotonic()
    _ask(_suspect(server), PROMPTS[:1])
    assert time.monotonic() - start >= 1.0
    server.faults.append(status(429, "daily limit", Retry_After="86400"))
    with pytest.raises(ModelError, match=r"daily limit .*come back in 86400 seconds"):
        _ask(_suspect(server), PROMPTS[:1])


def test_who_never_answers_is_given_up(server: ChatServer) -> None:
    server.faults.extend([slow(0.5)] * 2)
    with pytest.raises(ModelError, match=r"did not answer, 2 attempts.*Timeout.*--transcript"):
        _ask(_suspect(server, timeout=0.1, max_attempts=2), PROMPTS[:1])
    nobody = _suspect(server, url="http://127.0.0.1:9/v1", max_attempts=2)
    with pytest.raises(ModelError, match="ConnectError"):
        _ask(nobody, PROMPTS[:1])
    for host in ("127.0.0.1:99999", "a" * 64):
        with pytest.raises(ModelError, match="http://"):
            _ask(_suspect(server, url=f"http://{host}/v1", max_attempts=1), PROMPTS[:1])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(404, "no model tiny"), r"404 no model tiny; is the address right"),
        (status(302, Location="http://127.0.0.1:9/"), "redirects are not followed"),
        (status(400, "prompt too long"), "400 prompt too long"),
        (body(b"<html>"), "not JSON"),
        (body(b" " * 3_000_000), "more than 2 MiB"),
    ],
)
def test_what_no_attempt_would_mend_is_said_and_nothing_is_lost(
    server: ChatServer,
    unbroken: list[SuspectAnswer],
    fault: Fault,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat_http, "_MAX_BODY", 2 << 20)
    # Three are under way when the fourth fails: they are waited for.
    meeting = threading.Barrier(4, timeout=10)
    server.on_request = lambda n: meeting.wait() and None if n <= 4 else None
    server.faults.append(fault)
    found: dict[int, SuspectAnswer] = {}
    with pytest.raises(ModelError, match=message):
        found.update(_suspect(server).ask(PROMPTS, SAMPLING))
    assert len(found) >= 3
    assert all(answer == unbroken[position] for position, answer in found.items())


@pytest.mark.parametrize("field", ["top_logprobs", "seed", "logprobs"])
def test_a_server_that_refuses_an_optional_field_is_asked_without(
    server: ChatServer, field: str
) -> None:
    server.refuses = field
    answers = _ask(_suspect(server))
    assert all(bool(a.reported) == (field == "seed") for a in answers)
    server.refuses = "temperature"
    with pytest.raises(ModelError, match="unknown field: temperature"):
        _ask(_suspect(server))


def test_no_more_requests_at_a_time_than_allowed(server: ChatServer) -> None:
    server.faults.extend([slow(0.05)] * 6)
    _ask(_suspect(server, concurrency=2))
    assert server.most_in_flight == 2


def test_requests_are_spaced() -> None:
    pacer, moments = Pacer(1200), []
    for _ in range(5):
        pacer.wait(threading.Event())
        moments.append(time.monotonic())
    assert moments[-1] - moments[0] >= 4 * 0.05 - 0.001


def test_a_minute_has_no_more_requests_than_allowed(server: ChatServer) -> None:
    start = time.monotonic()
    _ask(_suspect(server, requests_per_minute=600))
    assert time.monotonic() - start >= 5 * 0.1 - 0.001


def _echo(handler: Any) -> None:
    key = handler.headers["Authorization"].removeprefix("Bearer ")
    spelled = "".join(f"\\u{ord(c):04x}" for c in key)
    content = f'{{"choices": [{{"message": {{"content": "I was sent {spelled}"}}}}]}}'
    handler.reply(200, content.encode())


def _denounce(handler: Any) -> None:
    status(401, "bad key " + handler.headers["Authorization"])(handler)


@pytest.mark.parametrize("provoke", [_denounce, _echo], ids=["401", "echo"])
def test_the_api_key_goes_to_the_server_and_nowhere_else(
    server: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    provoke: Callable[[Any], None],
) -> None:
    monkeypatch.setenv("THEIR_KEY", KEY)
    server.faults.append(provoke)
    suspect = _suspect(server, api_key_env="THEIR_KEY")
    with caplog.at_level(logging.DEBUG):
        try:
            said = repr(_ask(suspect, PROMPTS[:1]))
        except ModelError as error:
            said = str(error)
            assert "$THEIR_KEY" in said
    assert "[API key]" in said
    assert server.requests[0][0]["Authorization"] == f"Bearer {KEY}"
    for shown in (said, repr(suspect), repr(vars(suspect)), caplog.text):
        assert KEY not in shown


@pytest.mark.parametrize("value", ["", "  ", "two words", "caf\u00e9", "a\nb"])
def test_an_environment_variable_without_key_is_said_at_once(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("THEIR_KEY", value)
    with pytest.raises(ConfigError, match="THEIR_KEY") as caught:
        _suspect(server, api_key_env="THEIR_KEY")
    assert not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://x/v1", "http://", "http://a:sesame@x/v1", "http://x/v1?key=sesame", "http://x:a/v1"],
)
def test_addresses_that_cannot_be_used_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(url, None, 1, None, 1.0)
    assert "sesame" not in str(caught.value)
