"""Model Runner V2's adapter: every row, drafts included, is marked as V1 would mark it alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watermark.serving.engine_doubles import (
    BatchUpdate,
    Params,
    batch_context,
    policy_of,
    states_of,
)
from watermark.channels import ReasoningChannel
from watermark.config import PRESETS, preset
from watermark.serving.truncation import Truncation as Cut
from watermark.serving.truncation import cutoffs, stack_truncations
from watermark.serving.vllm_v1 import RunnerV1
from watermark.serving.vllm_v2 import RunnerV2

V = 40
# Of 40 tokens at a temperature: some rows pass, some do not. Borders come and go.
_SPARED = {"min_entropy": 1.7, "reasoning": ReasoningChannel((1,), (2, 0), is_marked=False)}
CONFIGS = {
    **{name: config for name, config in PRESETS.items() if name != "tournament"},
    "gumbel, spared": replace(PRESETS["gumbel"], **_SPARED),
    "red-green, spared": replace(PRESETS["red-green"], **_SPARED),
    "unigram, spared": replace(PRESETS["unigram"], **_SPARED),
    "tracer, borders": replace(PRESETS["tracer"], reasoning=ReasoningChannel((2, 1), (0,))),
}


def _logits(n_rows: int, seed: int) -> torch.Tensor:
    return torch.randn(n_rows, V, generator=torch.Generator().manual_seed(seed)) * 2


def _alone(name: str, params: Params, response: list[int], logits: torch.Tensor) -> torch.Tensor:
    """The row as the V1 runner's sampler has it in the end, by the engine's order of things."""
    runner = RunnerV1(policy_of(CONFIGS[name]), 0)
    runner.update(BatchUpdate(1, added=[(0, params, None, list(response))]))
    if not runner.runs_last:
        return runner.apply(logits[None].clone())[0]
    scaled = logits[None] / params.temperature
    least = cutoffs(scaled, stack_truncations([Cut(min_p=params.min_p)], V))
    final = scaled.masked_fill(scaled < least[:, None], -torch.inf)
    marked = runner.apply(final.clone())[0]
    return logits if torch.equal(marked, final[0]) else marked


RESPONSES = st.lists(st.integers(0, 2), max_size=9)
PARAMS = st.builds(
    Params,
    key=st.sampled_from([None, "k0", "k1", "k2"]),
    temperature=st.sampled_from([1.0, 0.5, 1.7]),
    top_k=st.sampled_from([0, -1, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.05]),
    seed=st.integers(0, 99),
)


@pytest.mark.parametrize("name", CONFIGS)
@given(
    requests=st.lists(
        st.tuples(PARAMS, RESPONSES, st.lists(st.integers(0, 2), max_size=3)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_marked_as_if_it_were_alone(
    name: str, requests: list[tuple[Params, list[int], list[int]]], seed: int
) -> None:
    """Slots, batch and rows have different orders; drafts are context for the rows behind them."""
    prompts = [[7] * (1 + i) for i in range(len(requests))]
    states = states_of(prompts, [response for _, response, _ in requests], V)
    runner = RunnerV2(policy_of(CONFIGS[name]), 0, states)
    for slot, (params, _, _) in enumerate(requests):
        assert runner.add_request(slot, params)
    runner.apply_staged_writes()
    order = np.random.default_rng(seed).permutation(len(requests)).tolist()
    context = batch_context(states, order, [requests[slot][2] for slot in order])
    logits = _logits(len(context.input_ids), seed)
    marked = runner.apply(logits.clone(), context)
    row = 0
    for slot in order:
        params, response, drafts = requests[slot]
        for n_seen in range(len(drafts) + 1):
            expected = _alone(name, params, response + drafts[:n_seen], logits[row])
            assert torch.equal(marked[row].isfinite(), expected.isfinite())
            if not CONFIGS[name].scheme.always_samples:
                torch.testing.assert_close(marked[row], expected)
            elif not torch.equal(expected, logits[row]):
                assert int(marked[row].isfinite().sum()) == 1
            else:
                assert torch.equal(marked[row], logits[row])
            row += 1


def test_a_tournament_leaves_one_token_too() -> None:
    states = states_of([[7]], [[1, 2, 3]], V)
    runner = RunnerV2(policy_of(preset("tournament")), 0, states)
    runner.add_request(0, Params("k1"))
    marked = runner.apply(_logits(1, 0), batch_context(states, [0], [[]]))
    assert int(marked.isfinite().sum()) == 1


def test_rows_of_nobody_and_of_unmarked_requests_stay_as_they_are() -> None:
    states = states_of([[7]] * 3, [[1, 2, 3]] * 3, V)
    runner = RunnerV2(policy_of(preset("gumbel"), greedy="unmarked"), 0, states)
    assert runner.add_request(0, Params("k1"))
    assert not runner.add_request(1, Params("k1", temperature=0.0))
    assert not runner.add_request(2, Params("gone"))
    assert runner.tally.counts["refused late"] == 1
    context = batch_context(states, [1, 0, 2], [[], [], []])
    logits = _logits(3, 0)
    marked = runner.apply(logits.clone(), context)
    assert torch.equal(marked[[0, 2]], logits[[0, 2]])
    assert int(marked[1].isfinite().sum()) == 1
    # Rows that fill a graph up have a negative slot.
    context.expanded_idx_mapping[1] = -1
    assert torch.equal(runner.apply(logits.clone(), context), logits)


def test_a_slot_forgets_its_earlier_request() -> None:
    states = states_of([[7]], [[1, 2, 3]], V)
    runner = RunnerV2(policy_of(preset("gumbel"), greedy="unmarked"), 0, states)
    context, logits = batch_context(states, [0], [[]]), _logits(1, 0)
    runner.add_request(0, Params("k1"))
    first = runner.apply(logits.clone(), context)
    runner.add_request(0, Params("k2"))
    second = runner.apply(logits.clone(), context)
    assert not torch.equal(first, second)
    runner.add_request(0, Params("k2", temperature=0.0))
    assert torch.equal(runner.apply(logits.clone(), context), logits)


def test_grammar_masks_stay_and_bad_rows_stop_nothing() -> None:
    states = states_of([[7]] * 3, [[1, 2, 3]] * 3, V)
    runner = RunnerV2(policy_of(preset("gumbel")), 0, states)
    for slot in range(3):
        runner.add_request(slot, Params("k1", top_p=0.9))
    logits = _logits(3, 2)
    logits[0, 1:] = -torch.inf
    logits[1] = torch.nan
    marked = runner.apply(logits.clone(), batch_context(states, [0, 1, 2], [[], [], []]))
    assert marked[0].isfinite().nonzero().flatten().tolist() == [0]
    assert marked[1].isnan().all()
    assert int(marked[2].isfinite().sum()) == 1
