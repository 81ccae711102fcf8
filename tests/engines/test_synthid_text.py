"""Google's own synthid-text, old hash and current, against our two sources of words.

The release (0.2.1, old hash: that of transformers) has an environment of its own. The current hash
is only in the repository: point SYNTHID_TEXT_CHECKOUT at a clone of google-deepmind/synthid-text
at addb4a1 or later.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

from detect.text import assess_tokens
from tests.engines.oracle import ask
from tests.watermark.interop.synthid_marks import deployment, fresh_key, g_values
from watermark.interop.google_synthid import GoogleSynthID
from watermark.interop.transformers_synthid import TransformersSynthID
from watermark.keys import EngineKey
from watermark.marking import Marker
from watermark.tokens import TextTokenizer
from watermark.word_sources import WordSource

KINDS = ("release", "checkout")


def _source(kind: str) -> WordSource:
    return TransformersSynthID() if kind == "release" else GoogleSynthID()


def _ask(kind: str, want: str, key: EngineKey, **request: Any) -> Any:
    if kind == "checkout":
        if "SYNTHID_TEXT_CHECKOUT" not in os.environ:
            pytest.skip("set SYNTHID_TEXT_CHECKOUT to a clone of google-deepmind/synthid-text")
        request["checkout"] = os.environ["SYNTHID_TEXT_CHECKOUT"]
    asked = {"keys": list(key.integers), "ngram_len": 5, "want": [want, "has_table"], **request}
    reply = ask("synthid_text", asked)
    assert reply["has_table"] == (kind == "release")
    return reply[want]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ngram_len", [2, 5])
def test_every_g_value_is_theirs(kind: str, ngram_len: int) -> None:
    """150,000 for each of two kinds of key."""
    source, ids = _source(kind), np.random.default_rng(ngram_len).integers(0, 128_256, 5_000)
    for key in (fresh_key(source, ngram_len), EngineKey(range(1, 31))):
        theirs = _ask(kind, "g_values", key, token_ids=ids.tolist(), ngram_len=ngram_len)
        ours = ["".join(map(str, row)) for row in g_values(source, key, ids, ngram_len).tolist()]
        assert ours == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_their_text_is_found(kind: str, tokenizer: TextTokenizer) -> None:
    source = _source(kind)
    key, vocabulary = fresh_key(source, 5), tokenizer.vocab_size
    ids = np.array(_ask(kind, "marked", key, n=200, vocabulary=vocabulary, seed=1))
    found = assess_tokens(ids, tokenizer=tokenizer, config=deployment(source), key=key)
    assert found.finding.tail.log10_p < -6


@pytest.mark.parametrize("kind", KINDS)
def test_our_text_is_found_by_them(kind: str, tokenizer: TextTokenizer) -> None:
    """By their mean g-value, of 196 x 30 bits: one half, deviation 0.0065, in plain text."""
    source = _source(kind)
    key, generator = fresh_key(source, 5), torch.Generator().manual_seed(3)
    marker, response = Marker(deployment(source), key), torch.empty((1, 0)).long()
    for _ in range(200):
        logits = 1.5 * torch.randn(1, tokenizer.vocab_size, generator=generator)
        shares = marker(response, logits, generator).softmax(dim=1)
        token = torch.multinomial(shares, 1, generator=generator)
        response = torch.cat([response, token], dim=1)
    mean = _ask(kind, "mean_g", key, token_ids=response[0].tolist())
    assert mean > 0.5 + 5 * 0.0065
