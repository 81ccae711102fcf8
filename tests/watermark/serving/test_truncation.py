"""Truncation leaves what transformers' warpers leave."""

from __future__ import annotations

import numpy as np
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

from watermark.kernels.numba_truncation import row_cutoffs
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


@given(
    cuts=st.lists(CUTS, min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    spread=st.sampled_from([0.0, 0.01, 1.0, 4.0, 60.0]),
    masked=st.sampled_from([0.0, 0.7, 0.999]),
    rounded=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_kernel_cuts_where_sorting_cuts(
    cuts: list[Truncation], seed: int, spread: float, masked: float, rounded: bool
) -> None:
    """Equal logits, few or none near the largest, a block's end within the row."""
    n, vocabulary = len(cuts), 2500
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n + 2, vocabulary, generator=generator) * spread
    if rounded:
        logits = logits.round()
    hidden = torch.rand(logits.shape, generator=generator) < masked
    hidden[:, 7] = False
    logits = logits.masked_fill(hidden, -torch.inf)
    cut = stack_truncations(cuts, vocabulary)
    rows = torch.randperm(n + 2, generator=generator)[:n]
    expected = cutoffs(logits, cut, rows)
    found = torch.from_numpy(row_cutoffs(logits.numpy(), rows.numpy(), cut.numpy()))
    for i, row in enumerate(rows.tolist()):
        if not torch.equal(logits[row] >= expected[i], logits[row] >= found[i]):
            # Sums in another order: the nucleus may end one token sooner or later.
            low, high = sorted([float(expected[i]), float(found[i])])
            uncut = stack_truncations([cuts[i]._replace(top_p=1.0)], vocabulary)
            floor = float(cutoffs(logits, uncut, rows[i : i + 1]))
            weights = (logits[row].double() - logits[row].max()).exp()
            weights = weights.masked_fill(logits[row] < floor, 0.0)
            share = float(weights[logits[row] >= high].sum() / weights.sum())
            assert abs(share - cuts[i].top_p) < 1e-6
            between = (logits[row] > low) & (logits[row] < high)
            assert not between.any()


def test_large_batches_take_the_kernel_and_keep_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(64, 8_000, generator=torch.Generator().manual_seed(5)) * 2
    cut = stack_truncations([Truncation(0, 0.9), Truncation(40, 0.9, 0.01)] * 32, 8_000)
    found = cutoffs(logits, cut)
    monkeypatch.setattr(truncation, "_COMPILE_FROM", logits.numel() + 1)
    assert torch.equal(found, cutoffs(logits, cut))


def test_rows_that_cannot_be_cut_stop_nothing() -> None:
    logits = torch.zeros(4, 100)
    logits[1, 3], logits[2, 3] = torch.nan, torch.inf
    logits[3] = -torch.inf
    cut = stack_truncations([Truncation(5, 0.9, 0.1)] * 4, 100)
    found = row_cutoffs(logits.numpy(), np.arange(4), cut.numpy())
    assert found.tolist() == [0.0, -np.inf, -np.inf, -np.inf]


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
