"""Strings around reasoning become ids, by the model's tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from watermark.borders import is_kept_whole, reasoning_between
from watermark.errors import ConfigError
from watermark.tokens import TextTokenizer


@pytest.fixture(scope="module")
def with_think(tokenizer_folder: Path) -> TextTokenizer:
    """The test tokenizer, with <think> and </think> added as models have them."""
    content = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))
    for text in ("<think>", "</think>"):
        content["added_tokens"].append(
            {
                "id": len(content["model"]["vocab"]) + len(content["added_tokens"]) - 2,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": False,
            }
        )
    return TextTokenizer(json.dumps(content))


def test_added_tokens_are_one_id_and_whole_everywhere(with_think: TextTokenizer) -> None:
    channel = reasoning_between(with_think, "<think>", "</think>", is_marked=False)
    assert channel.begin_ids == (with_think.vocab_size - 2,)
    assert channel.end_ids == (with_think.vocab_size - 1,)
    assert not channel.is_marked
    assert is_kept_whole(with_think, "<think>")
    text = with_think.encode("The nets.<think>The boat.</think>\n\nThe sea.")
    assert channel.place(text).on_border.sum() == 2


def test_other_strings_are_several_ids_and_may_be_joined(tokenizer: TextTokenizer) -> None:
    channel = reasoning_between(tokenizer, "<think>", "</think>", starts_open=True)
    assert len(channel.begin_ids) > 1
    assert channel.starts_open
    # " the" is one token of this tokenizer, " th" is none that stays before an "e".
    assert not is_kept_whole(tokenizer, "quie")


@pytest.mark.parametrize(("begin", "end"), [("", "</think>"), ("<think>", ""), ("the", "the")])
def test_borders_that_are_none_are_refused(tokenizer: TextTokenizer, begin: str, end: str) -> None:
    with pytest.raises(ConfigError):
        reasoning_between(tokenizer, begin, end)
