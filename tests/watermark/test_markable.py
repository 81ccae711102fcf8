"""Generator and detector agree on which tokens are marked, however each of them finds it out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watermark.test_channels import CHANNELS, naive
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig
from watermark.due_rows import due_rows
from watermark.interop.vllm import VllmPhilox
from watermark.markable import stand
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.red_green import RedGreen
from watermark.serving.requests import MetContexts

IDS = st.lists(st.integers(0, 3), max_size=16)
REPEATING = VllmPhilox(deduplicate_contexts="none")


def config_of(
    context_width: int, channel: ReasoningChannel | None, marks_repeats: bool
) -> WatermarkConfig:
    if not marks_repeats:
        return WatermarkConfig(RedGreen(), context_width, reasoning=channel)
    return WatermarkConfig(Gumbel(), max(context_width, 1), source=REPEATING, reasoning=channel)


def is_markable(config: WatermarkConfig, ids: list[int]) -> bool:
    """The rule, read from the front for the token after these."""
    h, t, channel = config.context_width, len(ids), config.reasoning
    start, in_reasoning = (0, False) if channel is None else naive(channel, ids)
    if t - start < h or (channel is not None and in_reasoning and not channel.is_marked):
        return False
    met = [ids[i - h : i] for i in range(start + h, t)]
    return h == 0 or config.source.marks_repeats or ids[t - h :] not in met


@pytest.mark.parametrize("channel", [None, *CHANNELS])
@pytest.mark.parametrize("marks_repeats", [False, True])
@given(rows=st.lists(IDS, min_size=1, max_size=4), junk=IDS, context_width=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_all_say_of_a_token_what_the_rule_says(
    channel: ReasoningChannel | None,
    marks_repeats: bool,
    rows: list[list[int]],
    junk: list[int],
    context_width: int,
) -> None:
    """Behind a row stands what is none of its business, borders included."""
    config = config_of(context_width, channel, marks_repeats)
    h, width = config.context_width, max(map(len, rows)) + len(junk)
    padded = [(row + junk + [1] * width)[:width] for row in rows]
    ids = torch.tensor(padded, dtype=torch.int64).reshape(len(rows), width)
    found, contexts = due_rows(config, ids, torch.tensor([len(row) for row in rows]))
    for i, row in enumerate(rows):
        markable = [is_markable(config, row[:t]) for t in range(len(row) + 1)]
        standing = stand(np.array([*row, 0]), h, channel, marks_repeats=config.source.marks_repeats)
        unmarked = standing.in_unmarked_channel | standing.without_context
        assert (~(unmarked | standing.repeats_context)).tolist() == markable
        met = MetContexts(config)
        assert [met.is_new(row[:t]) for t in range(len(row) + 1)] == markable
        assert (
            bool(found[i]) == markable[-1] == bool(due_rows(config, ids[i : i + 1, : len(row)])[0])
        )
        if markable[-1]:
            assert contexts[i].tolist() == row[len(row) - h :]
