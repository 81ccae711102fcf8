"""A suspect behind an OpenAI-compatible chat API: text, and log-probabilities where offered.

Each prompt is one conversation of one user message, with a seed of its own, so that an answer does
not depend on which others were asked before it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final, final

from detect.suspect.chat_address import Endpoint, read_key
from detect.suspect.chat_http import ChatClient, RefusedRequestError
from detect.suspect.chat_reply import parse_reply
from detect.suspect.exchanges import SuspectAnswer, derived_seed
from watermark.generation.sampling import Sampling

__all__ = ["EndpointSuspect"]

_FEWER: Final = 5  # what thriftier servers offer


@final
class EndpointSuspect:
    """A model that is asked over HTTP.

    Args:
        endpoint: where and how hard.
        model: the model's name there.
        top_log_probs: candidates to ask for at each position; 0 asks for no log-probabilities. A
            server that refuses is asked for fewer, then for none.

    Raises:
        ConfigError: no API key in the environment variable that should hold it.
    """

    def __init__(self, endpoint: Endpoint, model: str, top_log_probs: int) -> None:
        self.name = model
        self._endpoint = endpoint
        read_key(endpoint)  # a missing key is said before anything is spent
        self._dialect = _Dialect(top_log_probs)

    def ask(
        self, prompts: Sequence[str], sampling: Sampling, known: Collection[int] = ()
    ) -> Generator[tuple[int, SuspectAnswer], None, None]:
        """Ask prompts, several at a time; see `Suspect`.

        Raises:
            ModelError: a prompt that the endpoint did not answer. Answers to those already asked
                are waited for and yielded first; they are paid for.
        """
        missing = sorted(set(range(len(prompts))).difference(known))
        with (
            ChatClient(self._endpoint) as client,
            ThreadPoolExecutor(self._endpoint.concurrency) as pool,
        ):
            futures = {
                pool.submit(self._answer, client, prompts[i], sampling, i): i for i in missing
            }
            try:
                yield from _as_they_come(futures, client.stop)
            finally:
                client.stop.set()
                pool.shutdown(cancel_futures=True)

    def _answer(
        self, client: ChatClient, prompt: str, sampling: Sampling, position: int
    ) -> SuspectAnswer:
        seed = derived_seed(sampling.seed, position)
        while True:
            version, body = self._dialect.body(self.name, prompt, sampling, seed)
            try:
                reply = client.post(body)
            except RefusedRequestError as error:
                if not self._dialect.adapt(version, str(error)):
                    raise
            else:
                return parse_reply(reply, prompt, client.secret)


def _as_they_come(
    futures: dict[Future[SuspectAnswer], int], stop: threading.Event
) -> Generator[tuple[int, SuspectAnswer], None, None]:
    """Yield results; after a failure or Ctrl-C only those under way, then raise it."""
    waiting = set(futures)
    failure: BaseException | None = None
    while waiting:
        done: set[Future[SuspectAnswer]] = set()
        try:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt as interrupt:
            if failure is not None:
                raise
            failure = interrupt
        for future in done:
            error = future.exception()
            if error is None:
                yield futures[future], future.result()
            failure = failure or error
        if failure is not None:
            stop.set()
            waiting = {future for future in waiting if not future.cancel()}
    if failure is not None:
        raise failure


@final
class _Dialect:
    """Which optional fields a server takes, learned from what it refuses; shared by threads."""

    def __init__(self, top_log_probs: int) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._top = top_log_probs
        self._limit = "max_tokens"
        self._seeded = True

    def body(
        self, model: str, prompt: str, sampling: Sampling, seed: int
    ) -> tuple[int, dict[str, Any]]:
        with self._lock:
            body: dict[str, Any] = {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                self._limit: sampling.max_new_tokens,
                "temperature": sampling.temperature,
            }
            if sampling.top_k:
                body["top_k"] = sampling.top_k
            if self._seeded:
                body["seed"] = seed
            if self._top:
                body |= {"logprobs": True, "top_logprobs": self._top}
            return self._version, body

    def adapt(self, version: int, complaint: str) -> bool:
        """Give up what a server complains about; False if there is nothing to give up.

        Settings that decide what is sampled are never given up.
        """
        with self._lock:
            if version != self._version:
                return True  # another thread has adapted since
            if self._top and "logprobs" in complaint:
                self._top = _FEWER if self._top > _FEWER else 0
            elif self._limit == "max_tokens" and "max_completion_tokens" in complaint:
                self._limit = "max_completion_tokens"
            elif self._seeded and "seed" in complaint:
                self._seeded = False
            else:
                return False
            self._version += 1
            return True
