"""Reasoning and answer: two channels of one response, with borders of a few tokens between them.

Readers often see the answer alone. What stands after a border therefore knows nothing of what
stands before it: contexts reach back to the last border at most, and the contexts that were met
are forgotten there. The answer alone is then marked as if there had been no reasoning.

Borders are found in token ids, where the model writes them. Every border counts, also a second
begin, or an end of what was not begun; reasoning that is not ended goes on to the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ConfigError

__all__ = ["Places", "ReasoningChannel"]

_LONGEST: Final = 16
_FIELDS: Final = frozenset({"begin_ids", "end_ids", "is_marked", "starts_open"})


class Places(NamedTuple):
    """Where the tokens of a response of T tokens stand, and where the next one would.

    Attributes:
        starts: int64, shape (T + 1,): the last border before each ends there; 0 without one.
        in_reasoning: bool, shape (T + 1,).
        on_border: bool, shape (T,): the token is part of a border.
    """

    starts: NDArray[np.int64]
    in_reasoning: NDArray[np.bool_]
    on_border: NDArray[np.bool_]


@final
@dataclass(frozen=True)
class ReasoningChannel:
    """What a deployment knows of its model's reasoning.

    Attributes:
        begin_ids: token ids that begin reasoning ("<think>").
        end_ids: token ids that end it ("</think>").
        is_marked: False leaves reasoning without a mark.
        starts_open: True if responses begin in reasoning, since the prompt's template has begun
            it. It matters only where reasoning is not marked.
    """

    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    is_marked: bool = True
    starts_open: bool = False

    def __post_init__(self) -> None:
        for name in ("begin_ids", "end_ids"):
            _check_border(name, getattr(self, name))
        for name in ("is_marked", "starts_open"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, got {getattr(self, name)!r}")
        _check_apart(self.begin_ids, self.end_ids)

    @property
    def longest(self) -> int:
        """Tokens of the longer border."""
        return max(len(self.begin_ids), len(self.end_ids))

    def check_vocabulary(self, n_tokens: int) -> None:
        """Refuse borders that a model can never write.

        Args:
            n_tokens: the vocabulary's size.

        Raises:
            ConfigError: a border's id is not in the vocabulary.
        """
        largest = max(*self.begin_ids, *self.end_ids)
        if largest >= n_tokens:
            raise ConfigError(
                f"a border of the reasoning channel holds the token id {largest}, and there are "
                f"only {n_tokens} tokens: it would never be found. Take the ids from the served "
                "model's tokenizer (heirmark config --reasoning BEGIN END --tokenizer ...)"
            )

    def place(self, token_ids: NDArray[np.int64]) -> Places:
        """Find out where tokens stand. What follows a token never changes where it stands.

        Args:
            token_ids: int64, shape (T,), a response from its start.

        Returns:
            The places.
        """
        n = len(token_ids)
        at, covered = np.arange(n + 1), np.zeros(n + 1, np.int64)
        last = []
        for border in (self.begin_ids, self.end_ids):
            ends = _ends(token_ids, border)
            covered[ends - len(border)] += 1
            covered[ends] -= 1
            last.append(np.maximum.accumulate(np.where(np.isin(at, ends), at, 0)))
        begun, ended = last
        starts = np.maximum(begun, ended)
        in_reasoning = np.where(starts > 0, begun > ended, self.starts_open)
        return Places(starts, in_reasoning, np.cumsum(covered)[:n] > 0)

    def as_read(self, token_ids: NDArray[np.int64]) -> Self:
        """Return the channel by which a text is read that may have lost its beginning.

        Readers mostly see the answer alone, without the reasoning that a prompt has begun and the
        border that ended it: only a text whose first border is an end began in reasoning.

        Args:
            token_ids: int64, shape (T,), the text.

        Returns:
            The channel, open at its start only if the text shows it.
        """
        if not self.starts_open:
            return self
        begins, ends = _ends(token_ids, self.begin_ids), _ends(token_ids, self.end_ids)
        is_whole = len(ends) > 0 and (not len(begins) or ends[0] < begins[0])
        return self if is_whole else replace(self, starts_open=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values that `from_dict` reads back."""
        return {
            "begin_ids": list(self.begin_ids),
            "end_ids": list(self.end_ids),
            "is_marked": self.is_marked,
            "starts_open": self.starts_open,
        }

    @classmethod
    def from_dict(cls, payload: Any) -> Self:
        """Read a channel back.

        Args:
            payload: what `to_dict` gave.

        Returns:
            The channel.

        Raises:
            ConfigError: unknown or missing field, or borders that cannot be told apart.
        """
        if not isinstance(payload, dict) or set(payload) != _FIELDS:
            raise ConfigError(
                f'config field "reasoning" must be an object of {", ".join(sorted(_FIELDS))}'
            )
        begin, end = payload["begin_ids"], payload["end_ids"]
        if not (isinstance(begin, list) and isinstance(end, list)):
            raise ConfigError("begin_ids and end_ids must be lists of token ids")
        return cls(tuple(begin), tuple(end), payload["is_marked"], payload["starts_open"])


def _check_border(name: str, ids: tuple[int, ...]) -> None:
    if not isinstance(ids, tuple) or not 1 <= len(ids) <= _LONGEST:
        raise ConfigError(f"{name} must be 1 to {_LONGEST} token ids, got {ids!r}")
    if not all(type(i) is int and 0 <= i < 1 << 32 for i in ids):
        raise ConfigError(f"{name} must be token ids in [0, 2^32), got {list(ids)}")


def _check_apart(begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    """Refuse borders that can share a token: which of them it is would be a matter of taste."""
    if begin == end:
        raise ConfigError(
            f"reasoning must begin and end with different tokens, got {list(begin)} for both"
        )
    for one, other in ((begin, end), (end, begin)):
        runs = {one[i : i + len(other)] for i in range(len(one))}
        # Runs at the end are shorter than the other border: there it may begin.
        if any(other[: len(run)] == run for run in runs):
            raise ConfigError(
                f"the borders {list(begin)} and {list(end)} can overlap in a text, so that they "
                "cannot be told apart; give ones that share no tokens where they meet"
            )


def _ends(token_ids: NDArray[np.int64], border: tuple[int, ...]) -> NDArray[np.int64]:
    """List where a border has just ended: the places behind its last tokens."""
    width = len(border)
    if len(token_ids) < width:
        return np.empty(0, np.int64)
    runs = np.lib.stride_tricks.sliding_window_view(token_ids, width)
    return np.flatnonzero((runs == np.array(border)).all(axis=1)) + width
