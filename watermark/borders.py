"""From the strings that a model's documentation names ("<think>") to borders in token ids."""

from __future__ import annotations

from typing import Final

from watermark.channels import ReasoningChannel
from watermark.errors import ConfigError
from watermark.tokens import TextTokenizer

__all__ = ["is_kept_whole", "reasoning_between"]

# What may stand beside a border: a letter, a full stop, a space, the end of a line.
_NEIGHBOURS: Final = ("a", ".", " ", "\n", "\n\n")


def reasoning_between(
    tokenizer: TextTokenizer,
    begin: str,
    end: str,
    *,
    is_marked: bool = True,
    starts_open: bool = False,
) -> ReasoningChannel:
    """Resolve the strings around a model's reasoning by its tokenizer.

    Args:
        tokenizer: the model's.
        begin: what begins reasoning.
        end: what ends it.
        is_marked: see `ReasoningChannel`.
        starts_open: see `ReasoningChannel`.

    Returns:
        The channel.

    Raises:
        ConfigError: an empty string, or borders that cannot be told apart.
    """
    return ReasoningChannel(
        _border_ids(tokenizer, begin), _border_ids(tokenizer, end), is_marked, starts_open
    )


def _border_ids(tokenizer: TextTokenizer, border: str) -> tuple[int, ...]:
    ids = tuple(tokenizer.encode(border).tolist())
    if not ids:
        raise ConfigError(f"a border of reasoning needs at least one token, got {border!r}")
    return ids


def is_kept_whole(tokenizer: TextTokenizer, border: str) -> bool:
    """Tell whether a string is the same tokens wherever it stands, as added tokens are.

    Where it is not, a text that is tokenised anew can lose the border: its pieces are then read
    as one, which costs some tokens' scores, and no validity.

    Args:
        tokenizer: the model's.
        border: the string.

    Returns:
        True if no neighbour that was tried changes its tokens.
    """
    ids = tokenizer.encode(border).tolist()
    for before in ("", *_NEIGHBOURS):
        for after in ("", *_NEIGHBOURS):
            text = tokenizer.encode(before + border + after).tolist()
            if not any(text[i : i + len(ids)] == ids for i in range(len(text))):
                return False
    return True
