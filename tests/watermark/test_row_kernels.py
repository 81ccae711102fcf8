"""Compiled kernels mark rows as the schemes define it, in place, and touch no other row."""

from __future__ import annotations

import pytest
import torch

from watermark.config import WatermarkConfig, preset
from watermark.keys import SecretKey
from watermark.marking import MarkedStep, Marker
from watermark.row_kernels import finds_winners, mark_rows, marks_rows
from watermark.schemes.green_list import GreenList
from watermark.schemes.red_green import RedGreen
from watermark.schemes.tournament import Tournament
from watermark.serving.rows import Rows, draw_tokens, tilt_logits

# Not a multiple of any block, one block, and several tasks a row.
VOCABULARIES = (1_003, 256, 40_000)


def _step(config: WatermarkConfig, n_rows: int, seed: int = 0) -> MarkedStep:
    generator = torch.Generator().manual_seed(seed)
    return MarkedStep(
        config,
        torch.randint(-(2**62), 2**62, (n_rows, 2), generator=generator),
        torch.randint(0, 40, (n_rows, config.context_width), generator=generator),
        torch.randint(0, 2, (n_rows,), generator=generator),
    )


def _logits(n_rows: int, vocabulary: int, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(n_rows, vocabulary, generator=generator) * spread
    # A truncated row: whole blocks of it hold nothing.
    logits[1, 3:] = -torch.inf
    logits[1, vocabulary - 2] = 1.0
    return logits


def _definition(step: MarkedStep, logits: torch.Tensor) -> torch.Tensor:
    ids = torch.arange(logits.shape[1]).expand(len(logits), -1).contiguous()
    return step.config.scheme.embed(logits, step.words(ids))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("scheme", [RedGreen(0.25, 2.0), RedGreen(0.9, 1.5), GreenList(3, 7, 4.0)])
def test_green_logits_are_tilted_to_the_bit(scheme: RedGreen | GreenList, vocabulary: int) -> None:
    step, logits = _step(WatermarkConfig(scheme, 2), 3), _logits(3, vocabulary)
    assert torch.equal(step.mark_rows(logits.clone()), _definition(step, logits))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("n_layers", [1, 11, 12, 23, 30, 32])
def test_tournaments_are_played_as_defined(n_layers: int, vocabulary: int) -> None:
    """The definition is float64; float32 weights may cost 1e-6 of the probability in all."""
    step = _step(WatermarkConfig(Tournament(n_layers), 2), 4)
    logits = _logits(4, vocabulary)
    logits[2] += 5_000
    logits[3] *= 30
    marked, expected = step.mark_rows(logits.clone()), _definition(step, logits)
    # The last row is so steep that rounding decides what is left of all but one token.
    assert torch.equal(marked[:3].isfinite(), expected[:3].isfinite())
    assert float((marked.exp() - expected.exp()).abs().sum(dim=1).max()) < 3e-6
    likely = expected > -20
    torch.testing.assert_close(marked[likely], expected[likely], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["red-green", "tournament"])
def test_only_the_named_rows_change(name: str) -> None:
    logits = _logits(5, 1_003)
    logits[0, 7] = torch.nan
    step, rows = _step(preset(name), 3), torch.tensor([4, 1, 2])
    marked = step.mark_rows(logits.clone(), rows)
    torch.testing.assert_close(marked[[0, 3]], logits[[0, 3]], rtol=0, atol=0, equal_nan=True)
    alone = step.mark_rows(logits[rows])
    assert torch.equal(marked[rows], alone)


def test_a_row_s_bias_is_scaled_and_bad_numbers_stay() -> None:
    step, logits = _step(preset("red-green"), 4), _logits(4, 1_003)
    logits[2, 5:8] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    scales = torch.tensor([2.0, 1.0, 0.0, 0.5])
    marked = step.mark_rows(logits.clone(), scales=scales)
    torch.testing.assert_close(marked[2], logits[2], rtol=0, atol=0, equal_nan=True)
    green = (_definition(step, torch.zeros_like(logits)) > 0)[[0, 3]]
    delta = preset("red-green").scheme.delta  # type: ignore[attr-defined]
    bias = torch.where(green, delta * scales[[0, 3], None], 0.0)
    torch.testing.assert_close(marked[[0, 3]], logits[[0, 3]] + bias)


@pytest.mark.parametrize("name", ["red-green", "tournament"])
def test_the_marker_s_wide_batches_are_marked_like_narrow_ones(name: str) -> None:
    """The batch is large enough for the kernels, its single rows are not."""
    config, key = preset(name), SecretKey(bytes(range(32)))
    response = torch.randint(0, 9, (14, 12), generator=torch.Generator().manual_seed(1))
    # Some contexts occurred before, so that not all rows are marked.
    response[3, -config.context_width :] = response[3, : config.context_width]
    logits = _logits(14, 10_000)
    assert marks_rows(config, logits)
    assert not marks_rows(config, logits[:1])
    before = logits.clone()
    marked = Marker(config, key)(response, logits)
    assert torch.equal(logits, before)
    assert torch.equal(marked[3], logits[3])
    for row in (0, 1, 3, 13):
        alone = Marker(config, key)(response[row : row + 1], logits[row : row + 1])[0]
        # What is all but impossible is left to rounding.
        likely = alone > alone.max() - 40
        torch.testing.assert_close(marked[row][likely], alone[likely], rtol=1e-5, atol=1e-5)
        assert (marked[row][~likely] < alone.max() - 30).all()


def test_a_server_s_bad_rows_stay_as_they_are() -> None:
    config = preset("red-green")
    step = _step(config, 14)
    rows = Rows(step.keys, step.contexts, torch.arange(14), torch.full((14,), 5))
    logits = _logits(14, 10_000)
    logits[0, 3], logits[2, 4], logits[3] = torch.nan, torch.inf, -torch.inf
    temperatures = torch.linspace(0.5, 2, 14)
    tilted = tilt_logits(config, rows, logits, temperatures)
    bad = [0, 2, 3]
    torch.testing.assert_close(tilted[bad], logits[bad], rtol=0, atol=0, equal_nan=True)
    for row in (1, 4, 13):
        one = Rows(*(part[row : row + 1] for part in rows))
        here = slice(row, row + 1)
        alone = tilt_logits(config, one, logits[here], temperatures[here])
        torch.testing.assert_close(tilted[here], alone)


def test_a_server_s_bad_rows_stop_no_tournament() -> None:
    config = preset("tournament")
    step = _step(config, 14)
    rows = Rows(step.keys, step.contexts, torch.arange(14), torch.full((14,), 5))
    logits = _logits(14, 10_000)
    logits[0, 3], logits[2, 4], logits[3] = torch.nan, torch.inf, -torch.inf
    tokens = draw_tokens(config, rows, logits)
    assert tokens[[0, 2, 3]].tolist() == [-1, -1, -1]
    others = tokens >= 0
    assert int(others.sum()) == 11
    assert logits[others].gather(1, tokens[others, None]).isfinite().all()


def test_what_has_no_kernel_is_left_to_tensors() -> None:
    wide = torch.zeros((16, 10_000))
    assert finds_winners(preset("gumbel"), wide)
    assert not finds_winners(preset("red-green"), wide)
    assert not marks_rows(preset("gumbel"), wide)
    assert not marks_rows(preset("red-green"), wide.double())
    assert not marks_rows(preset("red-green"), wide.to("meta"))


def test_gradients_and_gaps_do_not_disturb() -> None:
    config, key = preset("red-green"), SecretKey(bytes(range(32)))
    response = torch.randint(0, 9, (14, 4), generator=torch.Generator().manual_seed(2))
    logits = _logits(14, 10_000)
    expected = Marker(config, key)(response, logits)
    with_gaps = logits.T.contiguous().T
    assert not with_gaps.is_contiguous()
    assert torch.equal(Marker(config, key)(response, with_gaps), expected)
    assert torch.equal(Marker(config, key)(response, logits.requires_grad_()), expected)


def test_mark_rows_is_the_step_s() -> None:
    step, logits = _step(preset("red-green"), 3), _logits(3, 1_003)
    direct = mark_rows(step.config, step.keys, step.contexts, step.streams, logits.clone())
    assert torch.equal(direct, step.mark_rows(logits.clone()))
