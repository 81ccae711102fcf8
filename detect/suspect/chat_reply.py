"""A chat endpoint's reply, read without trust.

The server is the suspect's own: whatever it sends becomes an answer or a ModelError, nothing else.
The format is OpenAI's chat completion, which most servers speak.
"""

from __future__ import annotations

import json
import math
from itertools import accumulate
from typing import Any, Final, NoReturn

from detect.suspect.exchanges import ReportedPosition, SuspectAnswer
from watermark.errors import ModelError

__all__ = ["error_message", "parse_reply"]

# Servers round: a certain token may come out a little above ln 1.
_ROUNDING: Final = 1e-6
# What stands for bytes that are no text; which bytes, it does not say.
_REPLACEMENT: Final = "\ufffd"


def parse_reply(body: bytes, prompt: str, secret: str = "") -> SuspectAnswer:
    """Read one reply.

    Args:
        body: the response's body.
        prompt: what was asked.
        secret: blotted out wherever the reply repeats it.

    Returns:
        The answer. `reported` is empty if the server gave no log-probabilities, or tokens that do
        not make up the text: then it is not known where they stand.

    Raises:
        ModelError: not a chat completion, or log-probabilities that cannot be.
    """
    payload = _load(body, secret)
    choice = _first_choice(payload)
    text = _text(choice)
    model, reason = payload.get("model"), choice.get("finish_reason")
    return SuspectAnswer(
        prompt=prompt,
        text=text,
        reported=_reported(choice, text),
        finish_reason=_valid_unicode(reason) if isinstance(reason, str) else "",
        model=_valid_unicode(model) if isinstance(model, str) else "",
    )


def error_message(body: bytes, secret: str = "") -> str:
    """Return what a server says of an error, shortened to one printable line.

    Args:
        body: the response's body.
        secret: blotted out.
    """
    try:
        said = _error_text(_load(body, secret))
    except ModelError:
        said = _blotted(_valid_unicode(body[:65_536].decode("utf-8", "replace")), secret)
    return _one_line(said)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:300]).strip()


def _error_text(payload: Any) -> str:
    error = payload
    for name in ("error", "detail", "message"):
        if isinstance(error, dict):
            error = error.get(name, error)
    try:
        return _valid_unicode(error if isinstance(error, str) else json.dumps(error))
    except RecursionError:
        return ""


def _load(body: bytes, secret: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return _blotted(json.loads(body.decode("utf-8"), parse_constant=refuse), secret)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the endpoint's reply is not JSON ({str(error)[:100]}); is the address that of a chat "
            "API, ending in /v1?"
        ) from None


def _blotted(payload: Any, secret: str) -> Any:
    """Hide a secret in every text of a JSON value."""
    if not secret:
        return payload
    if isinstance(payload, str):
        return payload.replace(secret, "[API key]")
    if isinstance(payload, list):
        return [_blotted(value, secret) for value in payload]
    if isinstance(payload, dict):
        return {_blotted(k, secret): _blotted(v, secret) for k, v in payload.items()}
    return payload


def _malformed(expected: str, got: object) -> ModelError:
    return ModelError(
        f"the endpoint's reply is not a chat completion: expected {expected}, "
        f"got {type(got).__name__}"
    )


def _first_choice(payload: Any) -> dict[str, Any]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        said = _one_line(_error_text(payload)) if payload else ""
        raise ModelError(
            "the endpoint's reply is not a chat completion: expected a list in choices"
            + (f"; it says: {said}" if said else "")
        )
    return choices[0]


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise _malformed("an object in choices[0].message", message)
    content = message.get("content")
    if content is None and choice.get("finish_reason") == "content_filter":
        return ""
    if not isinstance(content, str):
        raise _malformed("text in choices[0].message.content", content)
    return _valid_unicode(content)


def _valid_unicode(text: str) -> str:
    """JSON can spell half a character, which is no text and cannot be written to a file."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _reported(choice: dict[str, Any], text: str) -> tuple[ReportedPosition, ...]:
    log_probs = choice.get("logprobs")
    content = log_probs.get("content") if isinstance(log_probs, dict) else None
    if content is None:
        return ()
    if not isinstance(content, list):
        raise _malformed("a list in logprobs.content", content)
    drawn = [_token_bytes(entry) for entry in content]
    starts = _starts(drawn, text.encode("utf-8"))
    return tuple(
        ReportedPosition(start, *_candidates(entry))
        for start, entry in zip(starts, content, strict=False)
    )


def _starts(drawn: list[bytes | None], text: bytes) -> list[int]:
    """Place tokens in a text; none if they do not make it up.

    Some servers list the end token as well, which is no part of the text.
    """
    known = [b"" if token is None else token for token in drawn]
    ends = list(accumulate(map(len, known), initial=0))
    fitting = [n for n, end in enumerate(ends) if end == len(text)]
    if not fitting or b"".join(known[: fitting[0]]) != text:
        return []
    return ends[: fitting[0]]


def _candidates(entry: dict[str, Any]) -> tuple[tuple[bytes, ...], tuple[float, ...]]:
    offered = entry.get("top_logprobs") or [entry]
    if not isinstance(offered, list):
        raise _malformed("a list in top_logprobs", offered)
    pairs = [(_token_bytes(candidate), _log_prob(candidate)) for candidate in offered]
    known = [(token, log_prob) for token, log_prob in pairs if token]
    return tuple(token for token, _ in known), tuple(log_prob for _, log_prob in known)


def _token_bytes(entry: Any) -> bytes | None:
    """The token's bytes; None where the server does not say them."""
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        raise _malformed("an object with a token in logprobs", entry)
    given = entry.get("bytes")
    if given is None:
        token: str = entry["token"]
        lost = _REPLACEMENT in token or token != _valid_unicode(token)
        return None if lost else token.encode("utf-8")
    if not isinstance(given, list) or not all(_is_byte(value) for value in given):
        raise _malformed("a list of bytes (0 to 255) in logprobs", given)
    return bytes(given)


def _is_byte(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _log_prob(entry: dict[str, Any]) -> float:
    value = entry.get("logprob")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed("a number in logprob", value)
    if not math.isfinite(_as_float(value)) or value > _ROUNDING:
        raise ModelError(
            f"the endpoint reported the log-probability {str(value)[:20]}; expected a finite "
            "number not above 0. Ask it for none with --top-logprobs 0"
        )
    return min(float(value), 0.0)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
