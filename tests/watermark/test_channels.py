"""Where tokens stand: found by the rule, one token at a time, and the same on the device."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.channels import ReasoningChannel
from watermark.due_rows import channel_starts
from watermark.errors import ConfigError

CHANNELS = [
    ReasoningChannel((1,), (2,)),
    ReasoningChannel((1,), (2,), starts_open=True),
    ReasoningChannel((1, 1), (2, 0, 3), is_marked=False),
    ReasoningChannel((3, 0, 3), (1, 2), is_marked=False, starts_open=True),
]


def naive(channel: ReasoningChannel, ids: list[int]) -> tuple[int, bool]:
    """Where the token after these starts, and whether in reasoning: read from the front."""
    start, in_reasoning = 0, channel.starts_open
    for n in range(1, len(ids) + 1):
        for border, begins in ((channel.begin_ids, True), (channel.end_ids, False)):
            if tuple(ids[max(n - len(border), 0) : n]) == border:
                start, in_reasoning = n, begins
    return start, in_reasoning


IDS = st.lists(st.integers(0, 3), max_size=20)


@pytest.mark.parametrize("channel", CHANNELS)
@given(ids=IDS)
@settings(max_examples=150, deadline=None)
def test_every_token_stands_where_the_rule_says(channel: ReasoningChannel, ids: list[int]) -> None:
    places = channel.place(np.array(ids, np.int64))
    for n in range(len(ids) + 1):
        assert (places.starts[n], places.in_reasoning[n]) == naive(channel, ids[:n])
    on_border = [False] * len(ids)
    for border in (channel.begin_ids, channel.end_ids):
        for i in range(len(ids) - len(border) + 1):
            if tuple(ids[i : i + len(border)]) == border:
                on_border[i : i + len(border)] = [True] * len(border)
    assert places.on_border.tolist() == on_border


@pytest.mark.parametrize("channel", CHANNELS)
@given(rows=st.lists(IDS, min_size=1, max_size=5), junk=IDS)
@settings(max_examples=100, deadline=None)
def test_rows_of_any_length_stand_where_they_do_alone(
    channel: ReasoningChannel, rows: list[list[int]], junk: list[int]
) -> None:
    """Behind a row stands what is none of its business, borders included."""
    width = max(map(len, rows)) + len(junk)
    padded = [(row + junk + [1] * width)[:width] for row in rows]
    ids = torch.tensor(padded, dtype=torch.int64).reshape(len(rows), width)
    starts, is_left = channel_starts(ids, torch.tensor([len(row) for row in rows]), channel)
    for i, row in enumerate(rows):
        start, in_reasoning = naive(channel, row)
        assert int(starts[i]) == start
        assert bool(is_left[i]) == (in_reasoning and not channel.is_marked)


def test_nested_and_unclosed_reasoning() -> None:
    channel = ReasoningChannel((1,), (2,), is_marked=False)
    places = channel.place(np.array([0, 1, 0, 1, 0, 2, 0, 2, 1, 0]))
    # A second begin does not need a second end; the last one is never ended.
    assert places.in_reasoning.tolist() == [
        False, False, True, True, True, True, False, False, False, True, True
    ]  # fmt: skip
    assert places.starts.tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 9, 9]


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_survives_json(channel: ReasoningChannel) -> None:
    assert ReasoningChannel.from_dict(json.loads(json.dumps(channel.to_dict()))) == channel


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ((), (2,)),
        ((1,), ()),
        ((1,), (1,)),
        ((1, 2), (1, 2)),
        ((1, 2), (2,)),
        ((2,), (1, 2, 3)),
        ((1, 2), (2, 3)),
        ((2, 3), (1, 2)),
        ((-1,), (2,)),
        ((1,), (1 << 32,)),
        ((True,), (2,)),
        (("<think>",), (2,)),
        (tuple(range(17)), (99,)),
    ],
)
def test_borders_that_cannot_be_told_apart_or_are_none_are_refused(begin: Any, end: Any) -> None:
    with pytest.raises(ConfigError):
        ReasoningChannel(begin, end)


@pytest.mark.parametrize(
    "change",
    [
        {"begin_ids": "<think>"},
        {"begin_ids": 5},
        {"end_ids": [[1]]},
        {"is_marked": 1},
        {"starts_open": "no"},
        {"extra": 1},
    ],
)
def test_what_is_no_channel_is_refused(change: dict[str, Any]) -> None:
    good = CHANNELS[0].to_dict()
    with pytest.raises(ConfigError):
        ReasoningChannel.from_dict({**good, **change})
    with pytest.raises(ConfigError):
        ReasoningChannel.from_dict({k: v for k, v in good.items() if k != "is_marked"})


def test_borders_beyond_the_vocabulary_are_refused() -> None:
    channel = ReasoningChannel((5,), (7, 8))
    channel.check_vocabulary(9)
    with pytest.raises(ConfigError, match="8"):
        channel.check_vocabulary(8)
