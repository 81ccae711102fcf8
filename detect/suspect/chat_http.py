"""One HTTP request to a chat endpoint, sent until it is answered or cannot be.

The API key stands in no object's repr and in no message, and goes to one address only: redirects
are not followed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, final

import httpx
import tenacity

from detect.suspect.chat_address import Endpoint, read_key
from detect.suspect.chat_reply import error_message
from detect.suspect.pacing import Pacer
from watermark.errors import ModelError

__all__ = ["ChatClient", "RefusedRequestError"]

_MAX_BODY: Final = 32 << 20  # bytes; an answer of 8,192 tokens with 20 candidates each is 15 MB
_MAX_WAIT: Final = 300.0  # seconds between two attempts
_TRANSIENT: Final = frozenset({408, 409, 425, 429, *range(500, 600)})
_NO_RETRY: Final = frozenset({501, 505})


class RefusedRequestError(ModelError):
    """The endpoint refused what was asked (400, 422): another form of it may do."""


@final
class _TransientError(Exception):
    """Worth another attempt, after `wait` seconds if the server said so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


@final
class _Bearer(httpx.Auth):
    """Adds the key to a request as it is sent, so that the client itself does not hold it."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


@final
class ChatClient:
    """Sends requests to one endpoint, from several threads; close it by `with`.

    Args:
        endpoint: where and how.

    Raises:
        ConfigError: the environment variable is not set, or holds no key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.secret = read_key(endpoint)
        self.stop = threading.Event()
        self._pacer = Pacer(endpoint.requests_per_minute)
        self._http = httpx.Client(
            auth=_Bearer(self.secret),
            timeout=httpx.Timeout(endpoint.timeout, connect=min(endpoint.timeout, 20.0)),
            limits=httpx.Limits(max_connections=endpoint.concurrency),
        )

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def post(self, body: Mapping[str, Any]) -> bytes:
        """Send one chat request.

        Connection errors, timeouts, 408, 429 and 5xx are tried again, after a random wait that
        doubles, and not before Retry-After.

        Args:
            body: JSON values.

        Returns:
            The body of the reply.

        Raises:
            RefusedRequestError: 400 or 422.
            ModelError: no attempt was answered, the reply is too large, or the request is one
                that no further attempt would mend.
        """
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            wait=_wait,
            stop=tenacity.stop_after_attempt(self._endpoint.max_attempts)
            | tenacity.stop_when_event_set(self.stop),
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            return bytes(attempts(self._attempt, body))
        except _TransientError as error:
            raise ModelError(
                f"{self._endpoint.url} did not answer, {self._endpoint.max_attempts} attempts at "
                f"most: {error}; run again later, with --transcript what was answered is kept"
            ) from None

    def _attempt(self, body: Mapping[str, Any]) -> bytes:
        self._pacer.wait(self.stop)
        if self.stop.is_set():
            raise ModelError(f"{self._endpoint.url} was not asked: the run was stopped")
        url = f"{self._endpoint.url.rstrip('/')}/chat/completions"
        try:
            with self._http.stream("POST", url, json=body) as response:
                content = self._read(response)
        except httpx.TransportError as error:
            raise _TransientError(f"{type(error).__name__} {error}".strip()) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OverflowError) as error:
            # The last two: a host or port that the resolver cannot even look up.
            raise ModelError(f"{self._endpoint.url}: {type(error).__name__}") from None
        if response.status_code != 200:
            raise self._failure(response, content)
        return content

    def _read(self, response: httpx.Response) -> bytes:
        deadline = time.monotonic() + self._endpoint.timeout
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _MAX_BODY:
                raise ModelError(
                    f"{self._endpoint.url} sent a reply of more than {_MAX_BODY >> 20} MiB; "
                    "no answer of a chat model is so long"
                )
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the reply took too long")
        return bytes(content)

    def _failure(self, response: httpx.Response, content: bytes) -> Exception:
        status = response.status_code
        said = error_message(content, self.secret)
        message = f"HTTP {status} {said}".strip()
        if status in _TRANSIENT - _NO_RETRY:
            wait = _retry_after(response.headers.get("Retry-After"))
            if wait is None or wait <= _MAX_WAIT:
                return _TransientError(message, wait)
            message += f" (it asks to come back in {wait:.0f} seconds)"
        full = f"{self._endpoint.url} refused the request: {message}{self._advice(status)}"
        return RefusedRequestError(full) if status in (400, 422) else ModelError(full)

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            name = self._endpoint.api_key_env
            return f"; is the API key in ${name} right?" if name else "; give --api-key-env NAME"
        if 300 <= status < 400:
            return "; redirects are not followed, give the final address"
        if status == 404:
            return "; is the address right, ending in /v1, and the model's name?"
        return ""


def _wait(state: tenacity.RetryCallState) -> float:
    """Wait longer each time, even for a server that says "at once" and then refuses again."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, _TransientError) and error.wait else 0.0
    return max(asked, float(tenacity.wait_random_exponential(multiplier=1, max=60)(state)))


def _retry_after(header: str | None) -> float | None:
    """Read Retry-After, seconds or a date; None if it says nothing usable."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header.strip()[:9])
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
