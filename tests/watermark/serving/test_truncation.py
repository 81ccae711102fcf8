"""Truncation leaves what transformers' warpers leave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from watermark.serving import truncation
from watermark.serving.truncation import Truncation, cutoffs, stack_truncations

CUTS = st.builds(
    Truncation,
    st.sampled_from([0, -1, 1, 2, 5, 40, 10_000]),
    st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.01]),
    st.sampled_from([0.0, 0.001, 0.1, 0.9, 1.0]),
)


def _warped(logits: torch.Tensor, cut: Truncation) -> torch.Tensor:
    warpers = LogitsProcessorList()
    if cut.min_p > 0:
        warpers.append(MinPLogitsWarper(cut.min_p))
    if cut.top_k > 0:
        warpers.append(TopKLogitsWarper(cut.top_k))
    if cut.top_p < 1:
        warpers.append(TopPLogitsWarper(cut.top_p))
    return warpers(torch.zeros((len(logits), 1), dtype=torch.int64), logits)  # type: ignore[arg-type]


@given(
    cuts=st.lists(CUTS, min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.1, 1.0, 4.0]),
    masked=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_rows_keep_what_the_warpers_keep(
    cuts: list[Truncation], seed: int, spread: float, masked: bool
) -> None:
    """The prefix of the sorted logits is enough, or all of them are sorted: the same either way."""
    vocabulary = 900
    generator = torch.Generator().manual_seed(seed)
    # float64, so that rounding at the edge of a nucleus does not decide.
    logits = torch.randn(len(cuts), vocabulary, generator=generator, dtype=torch.float64) * spread
    if masked:
        hidden = torch.rand(logits.shape, generator=generator) < 0.7
        hidden[:, 0] = False
        logits = logits.masked_fill(hidden, -torch.inf)
    least = cutoffs(logits, stack_truncations(cuts, vocabulary))
    kept = (logits >= least[:, None]) & logits.isfinite()
    for row, cut in enumerate(cuts):
        expected = _warped(logits[row : row + 1].clone(), cut)[0].isfinite()
        assert torch.equal(kept[row], expected), cut


def test_sorting_all_gets_the_same_as_sorting_what_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(6, 900, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    cuts = [Truncation(), Truncation(5), Truncation(0, 0.9), Truncation(40, 0.5, 0.01)]
    cut = stack_truncations([*cuts, Truncation(0, 1.0, 0.3), Truncation(1)], 900)
    near = cutoffs(logits, cut)
    for width in (1, 3, 10_000):
        monkeypatch.setattr(truncation, "_PREFIX", width)
        assert torch.equal(near, cutoffs(logits, cut))


def test_equal_logits_at_the_edge_all_stay() -> None:
    logits = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0]])
    assert cutoffs(logits, stack_truncations([Truncation(2)], 5)).tolist() == [2.0]


def test_nothing_is_cut_where_nothing_is_asked() -> None:
    assert Truncation().keeps_all
    assert Truncation(-1).keeps_all
    assert not Truncation(5).keeps_all
    assert cutoffs(torch.randn(2, 7), stack_truncations([Truncation()] * 2, 7)).tolist() == [
        -torch.inf,
        -torch.inf,
    ]
