"""Long texts: cut where tokens end, so that the ids are those of the whole."""

from __future__ import annotations

import pytest

from detect.scanning.encoding import encode_texts
from tests.conftest import PARAGRAPH
from watermark.tokens import TextTokenizer


@pytest.mark.parametrize("longest", [1, 3, 40, 333, 10_000])
def test_ids_are_those_of_the_whole(
    longest: int, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["", PARAGRAPH, "\n".join([PARAGRAPH] * 3), PARAGRAPH.replace(", ", ",\n\n  ")]
    monkeypatch.setattr("detect.scanning.encoding._LONGEST", longest)
    found = encode_texts(tokenizer, texts)
    for text, ids in zip(texts, found, strict=True):
        # Shorter than a word, a cut parts tokens; what they spell stays.
        assert tokenizer.decode(ids.tolist()) == text
        if longest >= 40 and "\n\n" not in text:
            assert ids.tolist() == tokenizer.encode(text).tolist()
