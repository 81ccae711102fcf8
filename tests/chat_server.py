"""A small OpenAI-compatible chat server that really generates, with faults to order.

`transformers serve` would need fastapi, uvicorn and openai, and has no faults.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, DynamicCache
from transformers.convert_slow_tokenizer import bytes_to_unicode

from watermark.generation.loop import chat_prompt
from watermark.models import load_model

__all__ = ["ChatServer", "Fault", "body", "drop", "slow", "status"]

Fault = Callable[["_Handler"], None]


def status(code: int, message: str = "", **headers: str) -> Fault:
    def fail(handler: _Handler) -> None:
        handler.reply(code, json.dumps({"error": {"message": message}}).encode(), headers)

    return fail


def body(content: bytes) -> Fault:
    return lambda handler: handler.reply(200, content)


def drop(handler: _Handler) -> None:
    """Promise a body, send a part, and go."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def slow(seconds: float) -> Fault:
    def wait(handler: _Handler) -> None:
        time.sleep(seconds)
        handler.answer()

    return wait


class ChatServer:
    """Serves one model.

    Attributes:
        faults: what happens to the next requests instead of an answer.
        requests: headers and bodies of all requests.
        refuses: a field that the server does not know, and says so.
        most_in_flight: requests that were under way at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.refuses = ""
        self.most_in_flight = 0
        self.on_request: Callable[[int], None] = lambda n: None
        self.lock = threading.Lock()
        self.in_flight = 0
        self._computing = threading.Lock()
        self._model = load_model(folder, torch.float32)
        self._chat = AutoTokenizer.from_pretrained(folder)
        spelled = {char: byte for byte, char in bytes_to_unicode().items()}
        names = self._chat.convert_ids_to_tokens(range(len(self._chat)))
        self._bytes = [bytes(spelled.get(c, 63) for c in name) for name in names]
        # Single bytes beyond ASCII, drawn at random, seldom make up characters.
        self._barred = [i for i, token in enumerate(self._bytes) if not token.isascii()]
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.chat = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def reset(self) -> None:
        self.faults.clear()
        self.requests.clear()
        self.refuses, self.most_in_flight = "", 0
        self.on_request = lambda n: None

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def complete(self, asked: dict[str, Any]) -> dict[str, Any]:
        ids = chat_prompt(self._chat, asked["messages"][0]["content"])
        drawn, content, reason = [], [], "length"
        generator = torch.Generator().manual_seed(asked.get("seed", 0))
        cache, unread = DynamicCache(), ids
        for _ in range(asked["max_tokens"]):
            log_probs = self._log_probs(unread, cache, asked["temperature"])
            token = int(torch.multinomial(log_probs.exp(), 1, generator=generator))
            if token == self._chat.eos_token_id:
                reason = "stop"
                break
            drawn.append(token)
            unread = [token]
            entry = self._entry(token, log_probs)
            top = log_probs.topk(asked.get("top_logprobs", 0)).indices.tolist()
            content.append({**entry, "top_logprobs": [self._entry(i, log_probs) for i in top]})
        text = b"".join(self._bytes[i] for i in drawn).decode("utf-8", "replace")
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = reason
        if asked.get("logprobs"):
            choice["logprobs"] = {"content": content}
        return {"object": "chat.completion", "model": "tiny-1", "choices": [choice]}

    def _log_probs(self, ids: list[int], cache: DynamicCache, temperature: float) -> torch.Tensor:
        with self._computing, torch.inference_mode():
            read = self._model(torch.tensor([ids]), past_key_values=cache, logits_to_keep=1)
            logits = read.logits[0, -1].float()
            logits[self._barred] = -1e9
            result: torch.Tensor = (logits / temperature).log_softmax(0)
        return result

    def _entry(self, token: int, log_probs: torch.Tensor) -> dict[str, Any]:
        raw = self._bytes[token]
        return {
            "token": raw.decode("utf-8", "replace"),
            "bytes": list(raw),
            "logprob": max(float(log_probs[token]), -9999.0),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def chat(self) -> ChatServer:
        server: ChatServer = self.server.chat  # type: ignore[attr-defined]
        return server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.asked = json.loads(self.rfile.read(length))
        with self.chat.lock:
            self.chat.in_flight += 1
            self.chat.most_in_flight = max(self.chat.most_in_flight, self.chat.in_flight)
            self.chat.requests.append((dict(self.headers), self.asked))
            fault = self.chat.faults.popleft() if self.chat.faults else None
            n = len(self.chat.requests)
        try:
            self.chat.on_request(n)
            with suppress(ConnectionError):
                self._serve(fault)
        finally:
            with self.chat.lock:
                self.chat.in_flight -= 1

    def _serve(self, fault: Fault | None) -> None:
        if fault is not None:
            fault(self)
        elif self.path != "/v1/chat/completions":
            status(404, "no such path")(self)
        elif self.chat.refuses and self.chat.refuses in self.asked:
            status(400, f"unknown field: {self.chat.refuses}")(self)
        else:
            self.answer()

    def answer(self) -> None:
        self.reply(200, json.dumps(self.chat.complete(self.asked)).encode())

    def reply(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass
