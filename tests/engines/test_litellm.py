"""LiteLLM's real proxy with the hook, in front of a small OpenAI-compatible server."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import ChatServer, body
from tests.engines.oracle import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

BIN = ROOT / ".engines" / "litellm" / "bin"
GATEWAY: dict[str, Any] = {
    "format": "heirmark-gateway-1",
    "engine": "vllm",
    "tenants": {
        "team_id": {"team-north": "north"},
        "user_id": {"alice": "east"},
        "metadata.tenant": {"m1": "west"},
    },
    "default": None,
    "unmarked_models": ["other"],
}


@pytest.fixture(scope="module")
def upstream(model_folder: Path) -> Iterator[ChatServer]:
    if not (BIN.parent / ".installed").exists():
        pytest.skip("the environment of litellm is not built; run: make engines")
    with ChatServer(model_folder) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "gateway.json").write_text(json.dumps(GATEWAY))
    served = {"api_base": upstream.url, "api_key": "none"}
    config = {
        "model_list": [
            {"model_name": "smollm2", "litellm_params": {"model": "openai/tiny", **served}},
            {"model_name": "hosted", "litellm_params": {"model": "hosted_vllm/tiny", **served}},
            {"model_name": "other", "litellm_params": {"model": "openai/other", **served}},
        ],
        "litellm_settings": {
            "callbacks": "watermark.serving.litellm.heirmark_hook",
            "num_retries": 0,
        },
        "general_settings": {"custom_auth": "tests.engines.litellm_auth.authenticate"},
    }
    # YAML contains JSON.
    (folder / "config.yaml").write_text(json.dumps(config))
    with _running(folder) as url:
        yield url


@contextmanager
def _running(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "proxy.log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HEIRMARK_GATEWAY": str(folder / "gateway.json"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        # It does not start without one; nobody uses it here.
        "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(32)}",
        "LITELLM_TELEMETRY": "False",
    }
    command = [
        str(BIN / "litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1",
        "--port", str(port),
    ]  # fmt: skip
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 900
        while not _is_alive(url):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(1)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _is_alive(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health/liveliness", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _post(proxy: str, who: str, path: str = "/v1/chat/completions", **more: Any) -> tuple[int, str]:
    message = {"model": "smollm2", "max_tokens": 3, "temperature": 1.0, **more}
    if "prompt" not in more:
        message["messages"] = [{"role": "user", "content": "Hello"}]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {who}"}
    request = urllib.request.Request(proxy + path, json.dumps(message).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _seen(upstream: ChatServer, proxy: str, who: str, **more: Any) -> dict[str, Any]:
    """Ask, and return what came through to the engine."""
    upstream.reset()
    status, text = _post(proxy, who, **more)
    assert status == 200, text
    ((_, asked),) = upstream.requests
    return asked


@pytest.mark.parametrize("model", ["smollm2", "hosted"])
@pytest.mark.parametrize(
    ("who", "key"), [("sk-north", "north"), ("sk-alice", "east"), ("sk-meta", "west")]
)
def test_a_tenant_is_told_by_what_the_proxy_knows(
    upstream: ChatServer, proxy: str, who: str, key: str, model: str
) -> None:
    asked = _seen(upstream, proxy, who, model=model)
    assert asked["vllm_xargs"] == {"heirmark_key_id": key}


@pytest.mark.parametrize(
    "sent",
    [
        {"vllm_xargs": {"heirmark_key_id": "west", "heirmark_opt_out": True, "a": 1}},
        {"extra_body": {"vllm_xargs": {"heirmark_key_id": "west", "heirmark_key": "0", "a": 1}}},
        {"extra_body": {"vllm_xargs": {"a": 1}}, "vllm_xargs": {"heirmark_key_id": "west"}},
        {
            "vllm_xargs": {"a": 1},
            "watermarking": False,
            "watermark": {"enabled": False, "key": "1f"},
            "custom_logit_processor": "code",
            "heirmark_key_id": "west",
            "user": "m1",
            "metadata": {"tenant": "m1"},
        },
        {
            "vllm_xargs": {"a": 1},
            "additional_drop_params": ["vllm_xargs", "extra_body"],
            "extra_body": {"watermarking": False, "custom_logit_processor": "code"},
        },
    ],
)
def test_what_a_client_says_about_marks_is_dropped(
    upstream: ChatServer, proxy: str, sent: dict[str, Any]
) -> None:
    asked = _seen(upstream, proxy, "sk-north", **sent)
    assert asked["vllm_xargs"] == {"heirmark_key_id": "north", "a": 1}
    gone = {"watermarking", "watermark", "custom_logit_processor", "heirmark_key_id", "extra_body"}
    assert not gone & set(asked)


@pytest.mark.parametrize(
    "more",
    [
        {"fallbacks": ["hosted"]},
        {"fallbacks": [{"model": "hosted", "extra_body": {}}]},
        {"user_config": {"model_list": []}},
    ],
)
def test_a_way_around_the_model_is_refused(
    upstream: ChatServer, proxy: str, more: dict[str, Any]
) -> None:
    upstream.reset()
    for model in ("smollm2", "other"):
        status, text = _post(proxy, "sk-north", model=model, **more)
        # Of user_config the proxy's own report of our refusal fails: 500.
        assert status >= 400, text
    assert not upstream.requests


def test_text_completions_and_streams_carry_the_key(upstream: ChatServer, proxy: str) -> None:
    upstream.reset()
    choice = {"text": "Hi", "index": 0, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    reply = {"id": "1", "object": "text_completion", "created": 1, "model": "tiny"}
    upstream.faults.append(
        body(json.dumps({**reply, "choices": [choice], "usage": usage}).encode())
    )
    status, text = _post(proxy, "sk-alice", "/v1/completions", prompt="Hello")
    assert status == 200, text
    _post(proxy, "sk-alice", stream=True)
    assert len(upstream.requests) == 2
    for _, asked in upstream.requests:
        assert asked["vllm_xargs"] == {"heirmark_key_id": "east"}
    assert upstream.requests[1][1]["stream"]


def test_another_engines_model_is_let_through_without_the_clients_key(
    upstream: ChatServer, proxy: str
) -> None:
    asked = _seen(
        upstream, proxy, "sk-nobody", model="other", vllm_xargs={"heirmark_key_id": "west"}
    )
    assert "heirmark_key_id" not in json.dumps(asked)


@pytest.mark.parametrize(
    ("who", "path", "more", "says"),
    [
        ("sk-nobody", "/v1/chat/completions", {}, "knows no watermark key"),
        ("sk-north", "/v1/chat/completions", {"vllm_xargs": "x"}, "must be an object"),
        ("sk-north", "/v1/responses", {"input": "Hello"}, "do not carry a key"),
        ("sk-north", "/v1/messages", {}, "do not carry a key"),
    ],
)
def test_what_cannot_be_marked_is_refused(
    upstream: ChatServer, proxy: str, who: str, path: str, more: dict[str, Any], says: str
) -> None:
    upstream.reset()
    status, text = _post(proxy, who, path, **more)
    assert status == 400, text
    assert says in text
    assert not upstream.requests


def test_a_proxy_without_its_file_does_not_start(upstream: ChatServer, tmp_path: Path) -> None:
    settings = {"callbacks": "watermark.serving.litellm.heirmark_hook"}
    (tmp_path / "config.yaml").write_text(json.dumps({"litellm_settings": settings}))
    with pytest.raises(AssertionError, match=r"cannot read the gateway's file"), _running(tmp_path):
        pass
