"""The V1 runner's adapter: rows follow their requests, each under its own key and length."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watermark.serving.engine_doubles import KEYS, BatchUpdate, Direction, Params, policy_of
from watermark.channels import ReasoningChannel
from watermark.config import preset
from watermark.kernels.torch_entropy import row_entropies
from watermark.marking import Marker
from watermark.prf import Prf
from watermark.serving.vllm_v1 import RunnerV1

V = 60


def _logits(n_rows: int, seed: int) -> torch.Tensor:
    return torch.randn(n_rows, V, generator=torch.Generator().manual_seed(seed)) * 2


def _added(index: int, params: Params, response: list[int]) -> Any:
    return (index, params, [1, 2, 3], response)


def _expected(key: str, response: list[int], logits: torch.Tensor) -> list[int]:
    """The columns that the Marker leaves finite, all if the row is not marked."""
    ids = torch.tensor([response], dtype=torch.int64)
    marked = Marker(preset("gumbel"), KEYS[key])(ids, logits[None])
    return marked[0].isfinite().nonzero().flatten().tolist()


def test_rows_have_keys_and_lengths_of_their_own() -> None:
    runner = RunnerV1(policy_of(preset("gumbel")), 0)
    responses: list[list[int]] = [[], [4], [4, 5], [4, 5, 6], [4, 5, 4, 5], [9] * 12 + [1, 2]]
    requests = [_added(i, Params(f"k{i % 5}"), r) for i, r in enumerate(responses)]
    runner.update(BatchUpdate(6, added=requests))
    logits = _logits(6, 1)
    marked = runner.apply(logits.clone())
    for row, response in enumerate(responses):
        finite = marked[row].isfinite().nonzero().flatten().tolist()
        assert finite == _expected(f"k{row % 5}", response, logits[row])
    # Too short, or a context that came back: untouched, not only unmarked.
    for row in (0, 1, 4):
        assert torch.equal(marked[row], logits[row])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_requests_come_go_and_move_as_in_the_engine(seed: int) -> None:
    """A random life of a batch against a plain list of who sits where."""
    rng = random.Random(seed)
    runner = RunnerV1(policy_of(preset("gumbel"), greedy="unmarked"), 0)
    seats: dict[int, tuple[Params, list[int]]] = {}
    for step in range(12):
        removed = [i for i in list(seats) if rng.random() < 0.2]
        for i in removed:
            del seats[i]
        added = []
        for i in rng.sample(range(6), rng.randint(0, 2)):
            # Some are greedy and stay unmarked, some come back with tokens, some replace others.
            params = Params(f"k{rng.randrange(5)}", temperature=rng.choice([1.0, 1.0, 0.0]))
            response = [rng.randrange(4) for _ in range(rng.randint(0, 6))]
            added.append(_added(i, params, response))
            seats[i] = (params, response)
        moved = []
        for _ in range(rng.randint(0, 2)):
            one, other = rng.sample(range(6), 2)
            if one not in seats:
                continue
            direction = rng.choice(list(Direction))
            if direction is Direction.SWAP and other not in seats:
                continue
            moved.append((one, other, direction))
            here, there = seats.pop(one), seats.pop(other, None)
            seats[other] = here
            if direction is Direction.SWAP and there is not None:
                seats[one] = there
        runner.update(BatchUpdate(len(seats), removed, added, moved))
        logits = _logits(6, 100 * seed + step)
        marked = runner.apply(logits.clone())
        for row in range(6):
            params, response = seats.get(row, (Params(), []))
            expected = list(range(V))
            if row in seats and params.temperature > 0:
                expected = _expected(params.key or "k0", response, logits[row])
            assert marked[row].isfinite().nonzero().flatten().tolist() == expected
        for _, response in seats.values():
            response.append(rng.randrange(4))


def test_top_k_and_top_p_are_applied_before_the_draw() -> None:
    """What the engine would cut away afterwards is never drawn."""
    runner = RunnerV1(policy_of(preset("gumbel")), 0)
    cuts = [Params("k0", top_k=3), Params("k1", top_p=0.5), Params("k2", top_k=4, top_p=0.9)]
    n_rows = 300
    added = [_added(i, cuts[i % 3], [i % 50, i // 50]) for i in range(n_rows)]
    runner.update(BatchUpdate(n_rows, added=added))
    logits = _logits(n_rows, 3)
    winners = runner.apply(logits.clone()).argmax(dim=1)
    ranks = (logits > logits.gather(1, winners[:, None])).sum(dim=1)
    ordered = logits.softmax(dim=1).sort(dim=1, descending=True).values
    before = ordered.cumsum(dim=1) - ordered
    own_before = before.gather(1, ranks[:, None]).squeeze(1)
    assert int(ranks[0::3].max()) == 2
    assert float(own_before[1::3].max()) < 0.5
    assert int(ranks[2::3].max()) == 3


@pytest.mark.parametrize("name", ["gumbel", "red-green"])
def test_the_gate_is_no_switch_for_clients(name: str) -> None:
    """Flat rows, of which the request cuts all but a few tokens, or draws at a low temperature.

    A scheme that draws has no choice left there. One that tilts marks whatever is asked for, by
    what the model has: broken, `top_k=1` would be greedy text without a mark.
    """
    cuts = [
        (Params("k1"), True),
        (Params("k1", top_k=2), False),
        (Params("k1", top_k=30), True),
        (Params("k1", top_p=0.04), False),
        (Params("k1", temperature=0.001), False),
        (Params("k1", min_p=0.999), False),
    ]
    config = replace(preset(name), min_entropy=1.5)
    runner = RunnerV1(policy_of(config), 0)
    runner.update(BatchUpdate(6, added=[_added(i, p, [3, 4]) for i, (p, _) in enumerate(cuts)]))
    logits = torch.linspace(0, 0.1, V).expand(6, -1).clone()
    given = logits.clone()
    if runner.runs_last:
        # The engine divides and applies min-p before it calls a scheme that draws.
        given[4] /= 0.001
        given[5, : V - 2] = -torch.inf
    marked = runner.apply(given.clone())
    for row, (_, leaves_choice) in enumerate(cuts):
        is_marked = leaves_choice or not runner.runs_last
        assert torch.equal(marked[row], given[row]) != is_marked, cuts[row]


def test_a_tilting_schemes_gate_leaves_what_the_model_is_sure_of() -> None:
    runner = RunnerV1(policy_of(replace(preset("red-green"), min_entropy=1.5)), 0)
    runner.update(BatchUpdate(2, added=[_added(i, Params("k1"), [3, 4]) for i in range(2)]))
    logits = torch.linspace(0, 0.1, V).expand(2, -1).clone()
    logits[1, 5] = 20.0
    marked = runner.apply(logits.clone())
    assert not torch.equal(marked[0], logits[0])
    assert torch.equal(marked[1], logits[1])


def test_no_request_shows_its_key() -> None:
    runner = RunnerV1(policy_of(preset("default")), 0)
    runner.update(BatchUpdate(1, added=[_added(0, Params("k1"), [3, 4])]))
    assert "key hidden" in repr(runner._rows)
    assert "tensor" not in repr(runner._rows)


def test_a_gate_leaves_bad_rows_to_be_counted() -> None:
    runner = RunnerV1(policy_of(replace(preset("gumbel"), min_entropy=1.0)), 0)
    runner.update(BatchUpdate(2, added=[_added(i, Params("k1"), [3, 4]) for i in range(2)]))
    logits = _logits(2, 5)
    logits[0] = torch.nan
    logits[1, 1:] = -torch.inf
    before = logits.clone()
    assert torch.equal(runner.apply(logits)[1], before[1])
    assert runner.tally.counts["bad logits"] == 1


def test_rows_of_a_batch_have_borders_of_their_own() -> None:
    channel = ReasoningChannel((1,), (2,), is_marked=False, starts_open=True)
    config = replace(preset("gumbel"), reasoning=channel, min_entropy=0.5)
    runner = RunnerV1(policy_of(config), 0)
    responses = [[4, 5, 6], [4, 2, 6, 7], [2, 6], [2, 6, 7, 8, 6, 7], [6, 7, 2, 6, 7], [2, 1, 6, 7]]
    runner.update(
        BatchUpdate(6, added=[_added(i, Params("k1"), r) for i, r in enumerate(responses)])
    )
    logits = _logits(6, 7)
    assert float(row_entropies(logits).min()) > 0.5
    marked = runner.apply(logits.clone())
    is_marked = [not torch.equal(marked[row], logits[row]) for row in range(6)]
    # In reasoning; due; too short after the border; met since; met before the border; reopened.
    assert is_marked == [False, True, False, False, True, False]


def test_a_seed_repeats_the_coins_and_others_do_not() -> None:
    def life(seed: int | None, engine_seed: int) -> list[int]:
        runner = RunnerV1(policy_of(preset("default")), engine_seed)
        # 200 requests of one context: only coins tell their winners apart.
        added = [
            _added(i, Params("k0", seed=None if seed is None else seed + i), [3, 4])
            for i in range(200)
        ]
        runner.update(BatchUpdate(200, added=added))
        logits = _logits(1, 0).expand(200, -1).clone()
        winners: list[int] = runner.apply(logits).argmax(dim=1).tolist()
        return winners

    assert life(5, 0) == life(5, 1)
    assert life(None, 0) != life(None, 1)
    assert len(set(life(None, 0))) == 2


@pytest.mark.parametrize("seed", [-(1 << 63), (1 << 63) - 1, -1, 1 << 80])
def test_any_seed_will_do(seed: int) -> None:
    runner = RunnerV1(policy_of(preset("default")), 0)
    runner.update(BatchUpdate(1, added=[_added(0, Params("k0", seed=seed), [3, 4])]))
    assert int(runner.apply(_logits(1, 0)).isfinite().sum()) == 1


def test_a_tilting_scheme_marks_greedy_requests_too() -> None:
    config = preset("red-green")
    runner = RunnerV1(policy_of(config), 0)
    params = [Params("k1", temperature=0.0), Params("k2", temperature=0.5)]
    runner.update(BatchUpdate(2, added=[_added(i, p, [3, 4, 5]) for i, p in enumerate(params)]))
    assert not runner.runs_last
    logits = _logits(2, 4)
    marked = runner.apply(logits.clone())
    raised = (marked - logits).round(decimals=3)
    assert set(raised[0].tolist()) == {0.0, 2.0}
    # The engine divides by the temperature afterwards.
    assert set(raised[1].tolist()) == {0.0, 1.0}


def test_where_the_adapter_stands_depends_on_the_scheme() -> None:
    for name in ("default", "gumbel", "tournament"):
        assert RunnerV1(policy_of(preset(name)), 0).runs_last


def test_a_request_that_the_policy_no_longer_knows_is_left_unmarked_and_counted() -> None:
    runner = RunnerV1(policy_of(preset("gumbel")), 0)
    runner.update(BatchUpdate(1, added=[_added(0, Params("gone"), [3, 4])]))
    logits = _logits(1, 5)
    assert torch.equal(runner.apply(logits.clone()), logits)
    assert runner.tally.counts["refused late"] == 1


def test_bad_logits_are_counted() -> None:
    runner = RunnerV1(policy_of(preset("gumbel")), 0)
    runner.update(BatchUpdate(2, added=[_added(i, Params("k1"), [3, 4]) for i in range(2)]))
    logits = _logits(2, 5)
    logits[1] = torch.nan
    assert int(runner.apply(logits)[0].isfinite().sum()) == 1
    assert runner.tally.counts["bad logits"] == 1


def test_text_of_the_batch_is_found_under_each_key() -> None:
    """200 tokens of each of five requests: mean score near 2.5 under its own key, 1 otherwise."""
    config = preset("gumbel")
    runner = RunnerV1(policy_of(config), 0)
    responses: list[list[int]] = [[i, 50 + i] for i in range(5)]
    runner.update(
        BatchUpdate(5, added=[_added(i, Params(f"k{i}"), responses[i]) for i in range(5)])
    )
    generator = torch.Generator().manual_seed(8)
    for _ in range(200):
        logits = torch.randn(5, V, generator=generator)
        noise = -torch.log(-torch.log(torch.rand(5, V, generator=generator)))
        drawn = (runner.apply(logits) + noise).argmax(dim=1)
        for response, token in zip(responses, drawn.tolist(), strict=True):
            response.append(token)
        runner.update(None)
    for i, response in enumerate(responses):
        ids = np.array(response)
        contexts = np.lib.stride_tricks.sliding_window_view(ids[:-1], 2)
        for j in range(5):
            prf = Prf.from_key(KEYS[f"k{j}"])
            words = prf.words(prf.context_hashes(np.ascontiguousarray(contexts)), ids[2:])
            mean = config.scheme.score(words[None]).mean()
            # 200 exponential scores have mean 1 with SD 0.07.
            assert mean > 1.6 if i == j else mean < 1.45


def test_the_policy_is_not_changed_by_use() -> None:
    policy = policy_of(preset("gumbel"))
    before = copy.copy(policy)
    RunnerV1(policy, 0).update(BatchUpdate(1, added=[_added(0, Params("k1"), [])]))
    assert policy == before
