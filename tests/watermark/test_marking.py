"""The pure marking step: which rows are marked, with which words, under which key."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.errors import ConfigError, GenerationError
from watermark.keys import SecretKey
from watermark.marking import MarkedStep, Marker
from watermark.prf_reference import prf_word
from watermark.schemes.gumbel import force_gumbel_winner

KEY = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(range(1, 33)))


def _logits(rows: int, vocabulary: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PRESETS)
def test_rows_without_context_come_back_unchanged(name: str) -> None:
    config = preset(name)
    logits = _logits(2)
    short = torch.zeros((2, max(config.context_width - 1, 0)), dtype=torch.int64)
    marked = Marker(config, KEY)(short, logits)
    assert torch.equal(marked, logits) == (config.context_width > 0)


def test_gumbel_takes_the_reference_winner() -> None:
    logits = _logits(3)
    response = torch.tensor([[5, 6, 7], [1, 2, 3], [9, 9, 8]])
    marked = Marker(preset("gumbel"), KEY)(response, logits)
    material = KEY.subkey("prf heirmark-1", 16)
    k0, k1 = (int.from_bytes(material[i : i + 8], "little") for i in (0, 8))
    for row, ids in enumerate(response.tolist()):
        words = np.array([prf_word(k0, k1, ids[-2:], x) for x in range(40)])
        noise = -np.log(-np.log((words + 0.5) / 2**32))
        assert marked[row].isfinite().nonzero().flatten().tolist() == [
            int((logits[row].numpy() + noise).argmax())
        ]


@pytest.mark.parametrize("name", PRESETS)
def test_truncated_logits_get_the_same_mark_as_dense_ones(name: str) -> None:
    """The sparse path (few finite logits) and the dense path must agree, to rounding."""
    config = preset(name)
    response = torch.tensor([[5, 6, 7], [1, 2, 3], [4, 4, 8], [6, 1, 2]])
    logits = _logits(4, 64).masked_fill(
        torch.rand(4, 64, generator=torch.Generator().manual_seed(2)) < 0.92, -torch.inf
    )
    logits[:, 0] = 0.5
    sparse = Marker(config, KEY)(response, logits, torch.Generator().manual_seed(1))
    # One row without truncation forces the dense path for all.
    dense_logits = torch.cat([logits, _logits(1, 64)])
    dense = Marker(config, KEY)(
        torch.cat([response, torch.tensor([[3, 1, 4]])]),
        dense_logits,
        torch.Generator().manual_seed(1),
    )[:4]
    assert torch.equal(sparse.isfinite(), dense.isfinite())
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-5)
    assert not (sparse.isfinite() & ~logits.isfinite()).any()


def test_each_row_is_marked_under_its_own_key() -> None:
    response = torch.tensor([[5, 6, 7]] * 4)
    logits = _logits(1).expand(4, -1).clone()
    both = Marker(preset("gumbel"), [KEY, OTHER])(response, logits)
    first = Marker(preset("gumbel"), KEY)(response, logits)
    second = Marker(preset("gumbel"), OTHER)(response, logits)
    assert torch.equal(both[:2], first[:2])
    assert torch.equal(both[2:], second[2:])
    assert not torch.equal(both[0], both[2])


def test_a_batch_is_its_rows() -> None:
    response = torch.randint(0, 40, (6, 9), generator=torch.Generator().manual_seed(3))
    logits = _logits(6)
    whole = Marker(preset("tournament"), KEY)(response, logits)
    for row in range(6):
        alone = Marker(preset("tournament"), KEY)(response[row : row + 1], logits[row : row + 1])
        torch.testing.assert_close(whole[row], alone[0])


def test_dual_key_routes_a_tenth_of_rows_to_the_second_stream() -> None:
    rows = 4000
    response = torch.tensor([[5, 6, 7]] * rows)
    logits = _logits(1).expand(rows, -1).clone()
    marked = Marker(preset("default"), KEY)(response, logits, torch.Generator().manual_seed(0))
    winners, counts = marked.argmax(dim=1).unique(return_counts=True)
    assert len(winners) == 2
    # 400 expected, sd 19: six sigma, false alarms 1e-9.
    assert abs(int(counts.min()) - 400) < 6 * 19


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_bad_logits_are_refused(poison: float) -> None:
    logits = _logits(2)
    logits[1, 3] = poison
    with pytest.raises(GenerationError, match="row 1"):
        Marker(preset("default"), KEY)(torch.tensor([[1, 2], [3, 4]]), logits)


def test_a_row_with_nothing_left_is_refused() -> None:
    logits = _logits(2)
    logits[0] = -torch.inf
    with pytest.raises(GenerationError, match="row 0"):
        Marker(preset("red-green"), KEY)(torch.tensor([[1, 2], [3, 4]]), logits)


def test_keys_must_divide_the_batch() -> None:
    with pytest.raises(GenerationError, match="3 rows cannot be shared among 2 keys"):
        Marker(preset("gumbel"), [KEY, OTHER])(torch.zeros((3, 4), dtype=torch.int64), _logits(3))
    with pytest.raises(ConfigError, match="at least one key"):
        Marker(preset("gumbel"), [])


def test_half_precision_keeps_its_dtype() -> None:
    marked = Marker(preset("default"), KEY)(torch.tensor([[1, 2]]), _logits(1).bfloat16())
    assert marked.dtype == torch.bfloat16


def test_unigram_marks_from_the_first_token() -> None:
    config: WatermarkConfig = preset("unigram")
    logits = _logits(1)
    marked = Marker(config, KEY)(torch.empty((1, 0), dtype=torch.int64), logits)
    assert set((marked - logits).round(decimals=4).unique().tolist()) == {0.0, 2.0}


def test_the_marker_shows_no_secret() -> None:
    text = repr(Marker(preset("default"), KEY))
    assert KEY.key_id in text
    assert bytes(range(32)).hex() not in text


@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0, 300.0])
@pytest.mark.parametrize("vocabulary", [1_000, 1_023, 5_000])
def test_the_compiled_search_finds_the_winner_of_the_definition(
    spread: float, vocabulary: int
) -> None:
    """Flat rows, steep ones, ones with equal logits and with almost nothing left."""
    generator = torch.Generator().manual_seed(vocabulary)
    n_rows = 200
    logits = torch.randn(n_rows, vocabulary, generator=generator) * spread
    logits[50:100] = logits[50:100].round()
    gone = torch.rand(50, vocabulary, generator=generator) < 0.999
    gone[:, 7] = False
    logits[100:150] = logits[100:150].masked_fill(gone, -torch.inf)
    logits[150:] += 5_000
    step = MarkedStep(
        preset("gumbel"),
        torch.randint(-(2**62), 2**62, (n_rows, 2), generator=generator),
        torch.randint(0, 40, (n_rows, 2), generator=generator),
        torch.randint(0, 2, (n_rows,), generator=generator),
    )
    words = step.words(torch.arange(vocabulary).expand(n_rows, -1).contiguous())
    expected = force_gumbel_winner(logits, words).isfinite().int().argmax(dim=1)
    assert torch.equal(step.winners(logits), expected)
