"""What the generator marks is what the detector scores: the same rule, in both their hands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.scoring.scores import Reason, select_pairs
from tests.watermark.test_channels import CHANNELS
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig
from watermark.kernels.torch_entropy import row_entropies
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.schemes.red_green import RedGreen

GATE = 1.0
# Why the generator leaves a token; the other reasons are rules of evidence.
LEFT = (
    Reason.UNMARKED_CHANNEL, Reason.NO_CONTEXT, Reason.REPEATED_CONTEXT, Reason.LOW_ENTROPY,
)  # fmt: skip
MARKED = (Reason.SCORED, Reason.REPEATED_PAIR)


@pytest.mark.parametrize("channel", [None, *CHANNELS])
@given(
    tokens=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=16),
    context_width=st.integers(0, 3),
    prompt=st.lists(st.integers(0, 4), max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_a_token_is_scored_only_where_the_marker_marked_it(
    channel: ReasoningChannel | None,
    tokens: list[tuple[int, bool]],
    context_width: int,
    prompt: list[int],
) -> None:
    """Each token comes from a distribution that the gate lets pass or not."""
    if channel is not None and channel.starts_open:
        # A reader takes a text for the answer alone, unless it shows where reasoning ended.
        tokens = [*((token, True) for token in channel.end_ids), *tokens]
    ids = np.array([token for token, _ in tokens], np.int64)
    config = WatermarkConfig(RedGreen(), context_width, min_entropy=GATE, reasoning=channel)
    marker = Marker(config, SecretKey(bytes(32)))
    spread = torch.tensor([[0.1 if passes else 9.0] for _, passes in tokens]).reshape(-1, 1)
    logits = spread * torch.randn((len(ids), 40), generator=torch.Generator().manual_seed(0))
    response = torch.from_numpy(ids)[None]
    marked = [
        not torch.equal(marker(response[:, :t], logits[t : t + 1]), logits[t : t + 1])
        for t in range(len(ids))
    ]
    low = (row_entropies(logits) < GATE).numpy()
    options: dict[str, Any] = {
        "drop_repeated_contexts": True, "reasoning": channel, "low_entropy": low
    }  # fmt: skip
    plain = select_pairs(ids, context_width, **options)
    for reason, is_marked in zip(plain.reasons, marked, strict=True):
        assert reason == Reason.BORDER or (reason in MARKED) == is_marked
        assert reason in (Reason.BORDER, *MARKED, *LEFT)
    strict = select_pairs(
        ids, context_width, special_ids=[4], prompt_ids=np.array(prompt, np.int64), **options
    )
    assert all(m for r, m in zip(strict.reasons, marked, strict=True) if r in MARKED)
    assert strict.n_scored <= plain.n_scored
