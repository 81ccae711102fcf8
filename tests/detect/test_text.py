"""One text: verdicts, bad input, and the JSON result."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detect.text import assess_text, assess_tokens
from tests.detect.synthetic import marked_ids
from watermark.config import preset
from watermark.errors import DocumentError, FingerprintError
from watermark.keys import SecretKey
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
CONFIG = preset("default")
SHARED = {"p_value", "log10_p", "n_scored", "n_tokens", "verdict", "scheme", "key_id", "limits"}


@pytest.mark.parametrize("text", ["", "a", "an"])
def test_next_to_nothing_is_inconclusive(tokenizer: TextTokenizer, text: str) -> None:
    result = assess_text(text, tokenizer=tokenizer, config=CONFIG, key=KEY).to_dict(tokens=True)
    assert result["verdict"] == "inconclusive"
    assert result["p_value"] == 1.0 or result["n_scored"] > 0
    assert result["n_tokens"] == result["n_scored"] + sum(result["reasons"].values())
    assert "".join(t["text"] for t in result["tokens"]) == text


def test_marked_ids_are_a_signal_and_decoys_agree(tokenizer: TextTokenizer) -> None:
    ids = marked_ids(CONFIG, KEY, 120, vocabulary=tokenizer.vocab_size, seed=0)
    result = assess_tokens(ids, tokenizer=tokenizer, config=CONFIG, key=KEY, n_decoys=199)
    payload = result.to_dict(tokens=False)
    assert payload["verdict"] == "signal"
    assert payload["log10_p"] < -15
    assert payload["decoys"]["p_value"] == 1 / 200
    assert set(payload) >= SHARED
    assert payload["curve"]["log10_p"][-1] == pytest.approx(payload["log10_p"], abs=1e-3)
    assert KEY.key_id == payload["key_id"]
    assert bytes(range(32)).hex() not in json.dumps(payload, allow_nan=False)


def test_the_marked_text_under_another_key_is_nothing(tokenizer: TextTokenizer) -> None:
    ids = marked_ids(CONFIG, KEY, 400, vocabulary=tokenizer.vocab_size, seed=0)
    other = SecretKey(bytes(32))
    result = assess_tokens(ids, tokenizer=tokenizer, config=CONFIG, key=other)
    # Fixed key and text: a value, not a chance. The null p-value is what it is.
    assert result.finding.verdict.value in ("no_signal", "inconclusive")
    assert result.finding.tail.log10_p > -4


def test_verdicts_are_no_truth_values(tokenizer: TextTokenizer) -> None:
    with pytest.raises(TypeError, match="three values"):
        bool(assess_text("x", tokenizer=tokenizer, config=CONFIG, key=KEY).finding.verdict)


def test_another_tokenizer_is_refused_not_guessed(tokenizer: TextTokenizer) -> None:
    bound = CONFIG.bound_to("sha256:" + "0" * 64)
    with pytest.raises(FingerprintError, match="provider's tokenizer"):
        assess_text("some text", tokenizer=tokenizer, config=bound, key=KEY)
    unbound = assess_text("some text", tokenizer=tokenizer, config=CONFIG, key=KEY)
    assert any("not bound to a tokenizer" in s for s in unbound.limits)
    right = CONFIG.bound_to(tokenizer.fingerprint)
    assert len(assess_text("x", tokenizer=tokenizer, config=right, key=KEY).limits) == 2


def test_ids_that_the_tokenizer_lacks_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DocumentError, match="not in the tokenizer"):
        assess_tokens(
            np.array([1, 2, tokenizer.vocab_size]), tokenizer=tokenizer, config=CONFIG, key=KEY
        )


def test_lone_surrogates_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(DocumentError, match="surrogate"):
        assess_text("a\ud800b", tokenizer=tokenizer, config=CONFIG, key=KEY)
