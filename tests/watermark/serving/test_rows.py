"""Rows are marked as the Marker marks them, and nothing that was forbidden comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from watermark.config import PRESETS, preset
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.serving.rows import BAD_ROW, Rows, draw_tokens, force_drawn, tilt_logits, warm_up

KEYS = [SecretKey(bytes([i]) * 32) for i in range(1, 7)]
DRAWING = [n for n in PRESETS if PRESETS[n].scheme.always_samples]
TILTING = [n for n in PRESETS if not PRESETS[n].scheme.always_samples]


def _logits(n_rows: int, vocabulary: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 2


def _rows(name: str, n_rows: int, seed: int = 0) -> tuple[Rows, torch.Tensor]:
    """Rows and the responses that they come from, all of one length."""
    config = preset(name)
    ids = torch.randint(0, 50, (n_rows, 9), generator=torch.Generator().manual_seed(seed))
    keys = np.stack([config.source.key_of(KEYS[i % 6]) for i in range(n_rows)])
    rows = Rows(
        torch.from_numpy(keys.view(np.int64)),
        ids[:, 9 - config.context_width :],
        torch.arange(n_rows) + 1000 * seed,
        torch.full((n_rows,), 9),
    )
    return rows, ids


@pytest.mark.parametrize("vocabulary", [50, 90_000])
def test_gumbel_rows_are_drawn_as_the_marker_draws(vocabulary: int) -> None:
    """The last vocabulary is large enough for the compiled search."""
    rows, ids = _rows("gumbel", 6)
    logits = _logits(6, vocabulary)
    tokens = draw_tokens(preset("gumbel"), rows, logits, None)
    for row in range(6):
        alone = Marker(preset("gumbel"), KEYS[row])(ids[row : row + 1], logits[row : row + 1])
        assert alone[0].isfinite().nonzero().flatten().tolist() == [int(tokens[row])]


@pytest.mark.parametrize("name", TILTING)
def test_tilted_rows_are_the_marker_s_after_the_temperature(name: str) -> None:
    rows, ids = _rows(name, 6)
    logits = _logits(6)
    temperatures = torch.tensor([1.0, 0.5, 2.0, 0.01, 1.0, 0.7])
    tilted = tilt_logits(preset(name), rows, logits, temperatures)
    for row in range(6):
        scaled = logits[row : row + 1] / temperatures[row]
        marked = Marker(preset(name), KEYS[row])(ids[row : row + 1], scaled)
        torch.testing.assert_close(tilted[row] / temperatures[row], marked[0])


def test_tournament_rows_are_drawn_from_the_tournament_s_distribution() -> None:
    """One context and key, many coins: the frequencies of the tokens are the marked ones.

    Chi-squared over the tokens expected 5 times or more; the limit is its mean and 6 SD.
    """
    n = 4000
    config = preset("tournament")
    rows, ids = _rows("tournament", 1)
    many = Rows(
        rows.keys.expand(n, -1), rows.contexts.expand(n, -1), torch.arange(n), torch.full((n,), 9)
    )
    logits = _logits(1)
    tokens = draw_tokens(config, many, logits.expand(n, -1), None)
    expected = Marker(config, KEYS[0])(ids, logits)[0].softmax(dim=0) * n
    counts = torch.bincount(tokens, minlength=50)
    kept = expected >= 5
    assert kept.sum() >= 2
    statistic = float((((counts - expected) ** 2) / expected)[kept].sum())
    assert statistic < kept.sum() + 6 * (2 * int(kept.sum())) ** 0.5


@given(
    name=st.sampled_from(sorted(PRESETS)),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.5, 0.9, 0.98]),
    cut=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_a_forbidden_token_never_comes_back(name: str, seed: int, share: float, cut: bool) -> None:
    config = preset(name)
    rows, _ = _rows(name, 5, seed)
    logits = _logits(5, seed=seed)
    hidden = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) < share
    hidden[torch.arange(5), torch.arange(5) + seed % 40] = False
    logits = logits.masked_fill(hidden, -torch.inf)
    if config.scheme.always_samples:
        least = logits.amax(dim=1) - 1.0 if cut else None
        tokens = draw_tokens(config, rows, logits, least)
        drawn = logits.gather(1, tokens[:, None]).squeeze(1)
        assert drawn.isfinite().all()
        assert least is None or bool((drawn >= least).all())
        marked = logits.clone()
        assert torch.equal(force_drawn(config, rows, marked, torch.arange(5), least), tokens)
        assert (marked.isfinite().sum(dim=1) == 1).all()
    else:
        marked = tilt_logits(config, rows, logits, torch.ones(5))
        assert torch.equal(marked.isfinite(), logits.isfinite())
    assert not (marked.isfinite() & hidden).any()


@pytest.mark.parametrize("name", PRESETS)
def test_bad_logits_stop_nothing_and_stay_as_they_are(name: str) -> None:
    config = preset(name)
    rows, _ = _rows(name, 4)
    logits = _logits(4)
    logits[0, 3] = torch.nan
    logits[1, 3] = torch.inf
    logits[2] = -torch.inf
    if config.scheme.always_samples:
        tokens = draw_tokens(config, rows, logits, None)
        assert tokens[:3].tolist() == [BAD_ROW] * 3
        assert tokens[3] >= 0
        marked = logits.clone()
        force_drawn(config, rows, marked, torch.arange(4))
    else:
        marked = tilt_logits(config, rows, logits, torch.ones(4))
    torch.testing.assert_close(marked[:3], logits[:3], equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(marked[3], logits[3])


def test_coins_are_the_request_s_own_and_fair() -> None:
    n = 4000
    rows = Rows(
        torch.zeros((n, 2), dtype=torch.int64),
        torch.zeros((n, 2), dtype=torch.int64),
        torch.arange(n),
        torch.arange(n) % 7,
    )
    coins = rows.coins(0)
    assert torch.equal(coins, rows.coins(0))
    assert 0 <= float(coins.min()) <= float(coins.max()) < 1
    # Mean of 4,000 uniform numbers: SD 0.0046, six of them.
    assert abs(float(coins.mean()) - 0.5) < 6 * 0.0046
    assert abs(float(np.corrcoef(coins.numpy(), rows.coins(1).numpy())[0, 1])) < 6 / n**0.5


@pytest.mark.parametrize("vocabulary", [50, 300_000])
def test_forced_rows_are_those_that_are_named(vocabulary: int) -> None:
    """The last vocabulary is large enough for the compiled search."""
    config = preset("gumbel")
    rows, _ = _rows("gumbel", 3)
    logits = _logits(5, vocabulary)
    logits[0, 7] = torch.nan
    forced = logits.clone()
    index = torch.tensor([4, 0, 2])
    least = torch.tensor([2.0, 0.0, -torch.inf])
    tokens = force_drawn(config, rows, forced, index, least)
    assert torch.equal(tokens, draw_tokens(config, rows, logits[index], least))
    assert int(tokens[1]) == BAD_ROW
    torch.testing.assert_close(forced[[0, 1, 3]], logits[[0, 1, 3]], equal_nan=True)
    for row, token in ((4, tokens[0]), (2, tokens[2])):
        assert forced[row].isfinite().nonzero().flatten().tolist() == [int(token)]
    assert float(logits[4, tokens[0]]) >= 2.0


@pytest.mark.parametrize("name", PRESETS)
def test_warming_up_needs_no_request(name: str) -> None:
    warm_up(preset(name), 64)


def test_rows_show_no_key() -> None:
    rows, _ = _rows("gumbel", 2)
    assert str(int(rows.keys[0, 0])) not in repr(rows)
    assert str(int(rows.keys[0, 0])) not in repr(rows.step(preset("gumbel")))
