"""Replies of a hostile or careless server: an answer or a ModelError, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.suspect.chat_reply import error_message, parse_reply
from detect.suspect.exchanges import ReportedPosition
from watermark.errors import ModelError


def _entry(token: str, log_prob: object = -0.5, **more: Any) -> dict[str, Any]:
    return {"token": token, "logprob": log_prob, **more}


def _reply(text: object, *entries: object, **choice: Any) -> bytes:
    log_probs = {"logprobs": {"content": list(entries)}} if entries else {}
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message, **log_probs, **choice}]}).encode()


def test_bytes_are_preferred_and_a_character_may_span_tokens() -> None:
    first, second = (
        _entry("\ufffd", bytes=[195], top_logprobs=[_entry("\ufffd", -0.1, bytes=[195])]),
        _entry("\ufffd", bytes=[169], top_logprobs=[_entry("x", -2), _entry("\ufffd", -3)]),
    )
    answer = parse_reply(_reply("a\u00e9", _entry("a"), first, second), "Who?")
    assert answer.prompt == "Who?"
    assert answer.reported == (
        ReportedPosition(0, (b"a",), (-0.5,)),
        ReportedPosition(1, (b"\xc3",), (-0.1,)),
        # Of the other candidate it is not known which bytes it stands for.
        ReportedPosition(2, (b"x",), (-2.0,)),
    )


def test_an_end_token_is_no_part_of_the_text() -> None:
    answer = parse_reply(_reply("ab", _entry("a"), _entry("b"), _entry("<|end|>")), "")
    assert [p.start for p in answer.reported] == [0, 1]
    assert parse_reply(_reply("", _entry("<|end|>")), "").reported == ()


@pytest.mark.parametrize("tokens", [["a", "c"], ["a"], [" ab"], ["ab "], ["\ufffd", "b"]])
def test_tokens_that_do_not_make_up_the_text_are_dropped(tokens: list[str]) -> None:
    answer = parse_reply(_reply("ab", *map(_entry, tokens)), "")
    assert (answer.text, answer.reported) == ("ab", ())


def test_a_filtered_answer_is_an_empty_one() -> None:
    answer = parse_reply(_reply(None, finish_reason="content_filter"), "")
    assert (answer.text, answer.finish_reason) == ("", "content_filter")


def test_half_characters_are_replaced() -> None:
    answer = parse_reply(_reply("a\ud83d", _entry("a"), _entry("\ud83d")), "")
    assert (answer.text, answer.reported) == ("a\ufffd", ())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"<html>502</html>", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b'{"choices": NaN}', "NaN is not JSON"),
        (b"[]", "choices"),
        (b"{}", "choices"),
        (b'{"error": {"message": "no money"}}', "it says: no money"),
        (b'{"choices": []}', "choices"),
        (b'{"choices": [3]}', "choices"),
        (b'{"choices": [{}]}', "message, got NoneType"),
        (_reply(None), "content, got NoneType"),
        (_reply(["a"]), "content, got list"),
        (_reply("a", 3), "an object with a token"),
        (_reply("a", {"token": 3}), "an object with a token"),
        (_reply("a", {"token": "a"}), "a number in logprob"),
        (_reply("a", _entry("a", "-1")), "a number in logprob"),
        (_reply("a", _entry("a", True)), "a number in logprob"),
        (_reply("a", _entry("a", 0.1)), "log-probability 0.1"),
        (_reply("a", _entry("a", 10**400)), "log-probability 1000"),
        (_reply("a", _entry("a")).replace(b"-0.5", b"-1e999"), "log-probability -inf"),
        (_reply("a", _entry("a", float("nan"))), "NaN is not JSON"),
        (_reply("a", _entry("a", bytes=[256])), "a list of bytes"),
        (_reply("a", _entry("a", bytes=[True])), "a list of bytes"),
        (_reply("a", _entry("a", bytes="a")), "a list of bytes"),
        (_reply("a", _entry("a", top_logprobs={"a": -1})), "a list in top_logprobs"),
        (_reply("a", logprobs={"content": {}}), "a list in logprobs.content"),
    ],
)
def test_malformed_replies_are_said(body: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_reply(body, "")
    error_message(body)


@pytest.mark.parametrize("choice", [{"logprobs": None}, {"logprobs": []}, {"finish_reason": 3}])
def test_what_only_misses_is_forgiven(choice: dict[str, Any]) -> None:
    answer = parse_reply(_reply("a", **choice), "")
    assert (answer.text, answer.reported, answer.finish_reason) == ("a", (), "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "logprobs", "token", "logprob", "bytes"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(choice=JSON, entry=JSON)
def test_nothing_else_than_a_model_error_comes_out(choice: object, entry: object) -> None:
    for body in (
        json.dumps({"choices": [choice]}).encode(),
        json.dumps(choice).encode(),
        _reply("a", entry, _entry("a", top_logprobs=entry)),
    ):
        try:
            answer = parse_reply(body, "p", secret="s")
        except ModelError:
            continue
        answer.text.encode()
        assert all(value <= 0 for p in answer.reported for value in p.log_probs)


def test_an_error_message_is_one_short_line_without_the_secret() -> None:
    assert error_message(b"a\nb\x1b[31m" + b"x" * 999).startswith("a b [31mx")
    assert len(error_message(b"x" * 999)) == 300
    assert error_message(b'{"error": {"message": "bad \\u006bey"}}', "key") == "bad [API key]"
    assert error_message(b'{"detail": [{"loc": ["top_logprobs"]}]}') == (
        '[{"loc": ["top_logprobs"]}]'
    )
