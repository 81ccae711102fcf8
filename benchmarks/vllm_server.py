"""vLLM's own OpenAI-compatible server on a processor, started as a user would start it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["PROCESSOR", "PYTHON", "ask_chat", "engine_environment", "read_url", "serve"]

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".engines" / "vllm" / "bin" / "python"
PROCESSOR = "watermark.serving.vllm:HeirmarkLogitsProcessor"
_START_SECONDS = 1500


def engine_environment(policy: Path | None) -> dict[str, str]:
    """Return the environment variables that an engine is started with.

    Args:
        policy: of the server's marks; None for an engine without the processor.
    """
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    return variables if policy is None else {**variables, "HEIRMARK_POLICY": str(policy)}


@contextmanager
def serve(model: Path, policy: Path | None, log: Path, *options: str) -> Iterator[str]:
    """Run a server as long as the block lasts.

    Args:
        model: folder of the model.
        policy: of the server's marks; None serves without the processor.
        log: where the server's output goes.
        options: further ones of `vllm serve`.

    Yields:
        The server's address.

    Raises:
        RuntimeError: it did not start; the end of its log is in the message.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(PYTHON), "-m", "benchmarks.vllm_serve", "--model", str(model),
        "--served-model-name", "smollm2", "--port", str(port), "--host", "127.0.0.1",
        "--enforce-eager", "--max-model-len", "512", "--generation-config", "vllm",
        # Where line breaks are allowed, this small model goes on with them, marked or not.
        "--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}',
        *(() if policy is None else ("--logits-processors", PROCESSOR)), *options,
    ]  # fmt: skip
    with log.open("w") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=engine_environment(policy)
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(server, url, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not answer; its log ends:\n{_end(log)}")
        time.sleep(2)


def _end(log: Path) -> str:
    return log.read_text()[-3000:]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/health", timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except OSError:
        return False


def read_url(url: str) -> str:
    """Return what an address answers."""
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
        return str(response.read().decode())


def ask_chat(url: str, content: str, key: str | None = None, **body: Any) -> tuple[int, str]:
    """Ask for a chat completion.

    Args:
        url: the server's.
        content: what the user says.
        key: the key to name, if any.
        body: further fields of the request.

    Returns:
        HTTP status and the answer's text.
    """
    message = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": content}],
        "temperature": 1.0,
        "max_tokens": 60,
        "return_token_ids": True,
        **({} if key is None else {"vllm_xargs": {"heirmark_key_id": key}}),
        **body,
    }
    request = urllib.request.Request(  # noqa: S310
        url + "/v1/chat/completions",
        json.dumps(message).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=1200) as response:  # noqa: S310
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
