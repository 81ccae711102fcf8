"""One place of speculative sampling: its law over keys, its words, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import watermark.generation.speculative_sampling as module
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig, preset
from watermark.errors import ConfigError, GenerationError
from watermark.generation.speculative_sampling import (
    DRAFT,
    PLAIN,
    TARGET,
    Drafted,
    SpeculativeMarker,
    residual,
    verify,
)
from watermark.interop.textseal import TextSealWords
from watermark.interop.vllm import VllmPhilox
from watermark.keys import EngineKey, SecretKey
from watermark.prf import Prf
from watermark.schemes.dual_gumbel import DualGumbel

KEY = SecretKey(bytes(range(32)))
# Tokens 1 and 2 have the same law, and very different drafts: noise that is used twice tells.
P = torch.tensor([0.1, 0.4, 0.4, 0.05, 0.05], dtype=torch.float64)
Q = torch.tensor([0.7, 0.22, 0.01, 0.04, 0.03], dtype=torch.float64)
RESPONSE = torch.tensor([7, 8, 9])
N_DRAWS = 2000


def _verified_under_fresh_keys(generator: torch.Generator) -> tuple[np.ndarray, int]:
    """Draw at one place under keys of their own; count tokens, and accepted ones."""
    rng = np.random.default_rng(5)
    counts, accepted = np.zeros(len(P), np.int64), 0
    for _ in range(N_DRAWS):
        step = SpeculativeMarker(preset("default"), SecretKey(rng.bytes(32))).step(RESPONSE)
        drafted = Drafted(step.draw(Q, DRAFT), Q, step)
        done = verify(drafted, P, generator)
        counts[done.token] += 1
        accepted += done.accepted
    return counts, accepted


def test_a_place_has_the_targets_law_over_keys() -> None:
    """H0: tokens have law P, and drafts are accepted with probability sum min(P, Q).

    Chi-square and exact binomial test; a right implementation fails once in 10^6 seeds each.
    """
    counts, accepted = _verified_under_fresh_keys(torch.Generator().manual_seed(1))
    assert stats.chisquare(counts, N_DRAWS * P.numpy()).pvalue > 1e-6
    overlap = float(torch.minimum(P, Q).sum())
    assert stats.binomtest(accepted, N_DRAWS, overlap).pvalue > 1e-6


def test_one_stream_for_both_draws_would_be_biased(monkeypatch: pytest.MonkeyPatch) -> None:
    """The independence that the proof asks for is needed, and the test above would see it."""
    monkeypatch.setattr(module, "TARGET", DRAFT)
    counts, _ = _verified_under_fresh_keys(torch.Generator().manual_seed(1))
    assert stats.chisquare(counts, N_DRAWS * P.numpy()).pvalue < 1e-6


def _winner(law: torch.Tensor, words: np.ndarray) -> int:
    uniform = (words + 0.5) / 2**32
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(law.numpy()) - np.log(-np.log(uniform))))


def test_draft_and_target_draw_by_their_own_stream_of_our_words() -> None:
    step = SpeculativeMarker(preset("default"), KEY).step(RESPONSE)
    prf, ids = Prf.from_key(KEY), np.arange(len(P))[None]
    hashes = prf.context_hashes(np.array([[8, 9]]))
    for who in (DRAFT, TARGET):
        words = prf.words(hashes, ids, who)[0]
        assert all(step.draw(law, who) == _winner(law, words) for law in (P, Q, residual(P, Q)))
    assert any(step.draw(law, DRAFT) != step.draw(law, TARGET) for law in (P, Q))


def test_vllms_two_keys_serve_as_the_streams() -> None:
    source = VllmPhilox(dual=True)
    config = WatermarkConfig(DualGumbel(), context_width=2, source=source)
    key = EngineKey([42])
    step = SpeculativeMarker(config, key).step(RESPONSE)
    integers = source.key_of(key)
    hashes = source.context_hashes(integers, np.array([[8, 9]]))
    for who in (DRAFT, TARGET):
        words = source.words(integers, hashes, np.arange(len(P))[None], who)[0]
        assert step.draw(P, who) == _winner(P, words)


def test_places_without_a_context_of_their_own_are_plain() -> None:
    marker = SpeculativeMarker(preset("default"), KEY)
    for ids in ([], [3], [3, 4, 3, 4], [3, 4, 5, 3, 4]):
        assert marker.step(torch.tensor(ids, dtype=torch.int64)) is PLAIN
    assert marker.step(torch.tensor([3, 4])) is not PLAIN
    again = WatermarkConfig(
        DualGumbel(), 2, source=VllmPhilox(dual=True, deduplicate_contexts="none")
    )
    marker = SpeculativeMarker(again, EngineKey([42]))
    assert marker.step(torch.tensor([3, 4, 3, 4])) is not PLAIN
    assert marker.step(torch.tensor([3])) is PLAIN
    assert SpeculativeMarker(preset("unigram"), KEY).step(torch.tensor([])) is not PLAIN


def test_plain_draws_follow_the_law_and_the_seed() -> None:
    """H0: tokens have law P; fails once in 10^6 seeds."""
    generator = torch.Generator().manual_seed(3)
    drawn = [PLAIN.draw(P, TARGET, generator) for _ in range(N_DRAWS)]
    counts = np.bincount(drawn, minlength=len(P))
    assert stats.chisquare(counts, N_DRAWS * P.numpy()).pvalue > 1e-6
    again = torch.Generator().manual_seed(3)
    assert drawn[:50] == [PLAIN.draw(P, TARGET, again) for _ in range(50)]


def test_red_green_tilts_both_laws_by_the_same_words() -> None:
    config = preset("red-green")
    step = SpeculativeMarker(config, KEY).step(RESPONSE)
    prf = Prf.from_key(KEY)
    hashes = prf.context_hashes(np.array([[8, 9]]))
    green = torch.from_numpy(prf.words(hashes, np.arange(len(P))[None])[0] < 1 << 31)
    assert 0 < green.sum() < len(P)
    for law in (P, Q):
        weights = law * math.e ** (2.0 * green.double())
        assert torch.allclose(step.law(law.log()), weights / weights.sum(), atol=1e-6)
    assert torch.allclose(PLAIN.law(P.log()), P)


def test_the_tournaments_laws_average_to_the_models_over_keys() -> None:
    """H0: the mean over keys of a tilted law is the model's; 4.9 standard errors, 1e-6 a token."""
    rng = np.random.default_rng(2)
    laws = torch.stack(
        [
            SpeculativeMarker(preset("tournament"), SecretKey(rng.bytes(32)))
            .step(RESPONSE)
            .law(P.log())
            for _ in range(400)
        ]
    )
    error = laws.std(dim=0) / len(laws) ** 0.5
    assert (laws.mean(dim=0) - P).abs().lt(4.9 * error).all()
    assert laws.max(dim=1).values.mean() > 0.9


def test_rejection_draws_only_what_the_target_has_above_the_draft() -> None:
    assert torch.allclose(
        residual(P, Q), torch.tensor([0.0, 0.18, 0.39, 0.01, 0.02], dtype=torch.float64)
    )
    assert torch.equal(residual(P, P), P)
    forbidden = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    step = SpeculativeMarker(preset("default"), KEY).step(RESPONSE)
    done = verify(Drafted(0, Q, step), forbidden)
    assert not done.accepted
    assert done.token in (1, 2)
    assert done.overlap == pytest.approx(0.23)


def test_what_the_mark_forbids_stays_forbidden() -> None:
    masked = P.clone()
    masked[[1, 4]] = 0
    for name in ("default", "red-green", "tournament"):
        step = SpeculativeMarker(preset(name), KEY).step(RESPONSE)
        law = step.law(masked.log())
        assert (law[[1, 4]] == 0).all()
        assert all(step.draw(law, who) not in (1, 4) for who in (DRAFT, TARGET) for _ in range(20))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    scores = torch.tensor([0.0, bad, 1.0])
    for step in (PLAIN, SpeculativeMarker(preset("red-green"), KEY).step(RESPONSE)):
        with pytest.raises(GenerationError, match="NaN"):
            step.law(scores)
        with pytest.raises(GenerationError, match="-inf"):
            step.law(torch.full((3,), -math.inf))


def test_drawing_without_two_independent_streams_is_refused() -> None:
    with pytest.raises(ConfigError, match="dual-gumbel"):
        SpeculativeMarker(preset("gumbel"), KEY)
    source = TextSealWords(dual_key=True)
    config = WatermarkConfig(DualGumbel(0.1), context_width=2, source=source)
    with pytest.raises(ConfigError, match="depend on each other"):
        SpeculativeMarker(config, EngineKey([42, 43]))


def test_representations_hold_no_key_material() -> None:
    marker = SpeculativeMarker(preset("default"), KEY)
    shown = repr(marker) + repr(marker.step(RESPONSE))
    assert KEY.key_id in shown
    sip_key = Prf.from_key(KEY).sip_key
    assert not any(str(part) in shown for part in sip_key.tolist() + sip_key.view("i8").tolist())


def test_borders_of_reasoning_begin_anew_and_a_gate_is_refused() -> None:
    channel = ReasoningChannel((7,), (8,), is_marked=False)
    marker = SpeculativeMarker(replace(preset("default"), reasoning=channel), KEY)
    places = [marker.step(torch.tensor(ids)) for ids in ([5, 6], [5, 8, 6], [8, 5, 6], [7, 5, 6])]
    # Due; too short since the border; due behind it; in reasoning that is left unmarked.
    assert [place is PLAIN for place in places] == [False, True, False, True]
    with pytest.raises(ConfigError, match="entropy gate"):
        SpeculativeMarker(replace(preset("default"), min_entropy=0.5), KEY)
