"""Which rows are due: contexts end at borders, and what was met before them is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watermark.test_channels import CHANNELS, naive
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig
from watermark.due_rows import due_rows
from watermark.engine_settings import engine_config
from watermark.schemes.red_green import RedGreen

REPEATING = engine_config("transformers-kgw", {"vocab_size": 50})


@pytest.mark.parametrize("channel", CHANNELS)
@given(ids=st.lists(st.integers(0, 3), max_size=16), context_width=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_rows_are_due_by_the_rule(
    channel: ReasoningChannel, ids: list[int], context_width: int
) -> None:
    config = WatermarkConfig(RedGreen(), context_width, reasoning=channel)
    h, t = context_width, len(ids)
    start, in_reasoning = naive(channel, ids)
    met = [tuple(ids[i - h : i]) for i in range(start + h, t)]
    is_new = h == 0 or (t - start >= h and tuple(ids[t - h :]) not in met)
    expected = is_new and (channel.is_marked or not in_reasoning)
    rows = torch.tensor([ids], dtype=torch.int64)
    assert due_rows(config, rows).tolist() == [expected]


@pytest.mark.parametrize("channel", CHANNELS[:2])
def test_a_source_that_marks_repeats_needs_a_context_since_the_border(
    channel: ReasoningChannel,
) -> None:
    assert REPEATING.source.marks_repeats
    ids = torch.tensor([[5, 6, 5, 6, 1, 5, 6, 5, 6]])
    config, h = replace(REPEATING, reasoning=channel), REPEATING.context_width
    due = [bool(due_rows(config, ids[:, :n])[0]) for n in range(10)]
    assert due == [n >= h if n < 5 else n - 5 >= h for n in range(10)]
    without = [bool(due_rows(REPEATING, ids[:, :n])[0]) for n in range(10)]
    assert without == [n >= h for n in range(10)]
