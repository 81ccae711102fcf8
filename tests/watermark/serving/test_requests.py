"""What is kept of a request is a shortcut: it never says anything else than reading anew."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watermark.test_channels import CHANNELS
from tests.watermark.test_markable import config_of, is_markable
from watermark.channels import ReasoningChannel
from watermark.serving.requests import MetContexts, Tally


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.lists(st.integers(0, 2), min_size=0, max_size=3)),
        max_size=25,
    ),
    context_width=st.integers(0, 3),
)
@settings(max_examples=300, deadline=None)
def test_growing_lists_are_read_as_the_marker_reads_them(
    steps: list[tuple[int, list[int]]], context_width: int
) -> None:
    """Tokens are taken back and appended in any number between two looks."""
    response: list[int] = []
    config = config_of(context_width, None, False)
    met = MetContexts(config)
    for n_back, new in steps:
        del response[max(len(response) - n_back, 0) :]
        response.extend(new)
        assert met.is_new(response) == is_markable(config, response)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("marks_repeats", [False, True])
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.integers(0, 3), min_size=0, max_size=4)),
        max_size=20,
    ),
    context_width=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_borders_are_crossed_as_the_marker_crosses_them(
    channel: ReasoningChannel,
    marks_repeats: bool,
    steps: list[tuple[int, list[int]]],
    context_width: int,
) -> None:
    """Also where a border is taken back, or comes in pieces."""
    config = config_of(context_width, channel, marks_repeats)
    response: list[int] = []
    met = MetContexts(config)
    for n_back, new in steps:
        del response[max(len(response) - n_back, 0) :]
        response.extend(new)
        assert met.is_new(response) == is_markable(config, response)


@pytest.mark.parametrize("channel", [None, *CHANNELS])
@pytest.mark.parametrize("context_width", [0, 1, 2])
def test_borders_are_crossed_one_token_at_a_time(
    channel: ReasoningChannel | None, context_width: int
) -> None:
    """Nothing is read anew here: what was met before a border must be forgotten on the way."""
    config = config_of(context_width, channel, False)
    ids = torch.randint(0, 4, (150,), generator=torch.Generator().manual_seed(1)).tolist()
    met, found = MetContexts(config), []
    for n in range(len(ids)):
        found.append(met.is_new(ids[:n]))
        assert found[-1] == is_markable(config, ids[:n])
    assert any(found)


def test_a_source_that_marks_repeats_needs_only_a_context() -> None:
    met = MetContexts(config_of(2, None, True))
    assert [met.is_new([1] * n) for n in range(5)] == [False, False, True, True, True]


def test_tokens_that_are_not_known_yet_are_no_context() -> None:
    met = MetContexts(config_of(2, None, False))
    assert not met.is_new([4, 5, -1])
    assert met.is_new([4, 5, 6])


def test_a_tally_speaks_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    with caplog.at_level(logging.WARNING):
        for _ in range(120):
            tally.add("odd", "something odd")
    assert tally.counts["odd"] == 120
    assert len(caplog.records) == 3
