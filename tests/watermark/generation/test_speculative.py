"""Speculative decoding through whole responses: law, caches, detection, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    MaxLengthCriteria,
    MistralConfig,
    MistralForCausalLM,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
)

from detect.text import assess_tokens
from watermark.channels import ReasoningChannel
from watermark.config import WatermarkConfig, preset
from watermark.contexts import first_occurrences, windows
from watermark.errors import ConfigError, GenerationError
from watermark.generation.speculative import Round, SpeculativeWatermark, speculate
from watermark.generation.speculative_sampling import SpeculativeMarker
from watermark.keys import SecretKey
from watermark.prf import Prf
from watermark.processor import TransformersWatermark, WatermarkProcessor
from watermark.schemes.gumbel import force_gumbel_winner
from watermark.schemes.red_green import RedGreen
from watermark.tokens import TextTokenizer

KEY = SecretKey(bytes(range(32)))
OTHER = SecretKey(bytes(range(1, 33)))
PROMPT = [5, 6, 7, 8, 9]


class _Table:
    """A model in which the next token depends on the last one, by a table of laws."""

    _is_stateful = False
    device = torch.device("cpu")

    def __init__(self, laws: np.ndarray) -> None:
        self._logits = torch.from_numpy(np.log(laws)).float()
        self.config = LlamaConfig(vocab_size=len(laws), num_hidden_layers=1)

    def _supports_logits_to_keep(self) -> bool:
        return False

    def __call__(self, input_ids: torch.Tensor, past_key_values: Any, use_cache: bool) -> Any:
        states = torch.zeros(1, 1, input_ids.shape[1], 1)
        past_key_values.update(states, states, 0)
        return SimpleNamespace(logits=self._logits[input_ids])


def _until(length: int) -> StoppingCriteriaList:
    return StoppingCriteriaList([MaxLengthCriteria(length)])


RNG = np.random.default_rng(7)
TARGET_LAWS, DRAFT_LAWS = RNG.dirichlet(np.full(3, 0.8), (2, 3))


def _count_triples(markers: list[SpeculativeMarker | None]) -> np.ndarray:
    """Count responses of three tokens to the prompt 0."""
    generator = torch.Generator().manual_seed(11)
    counts = np.zeros((3, 3, 3), np.int64)
    target, draft = _Table(TARGET_LAWS), _Table(DRAFT_LAWS)
    for marker in markers:
        ids = speculate(
            target,
            draft,
            torch.tensor([[0]]),
            marker=marker,
            processors=LogitsProcessorList(),
            stops=_until(4),
            n_drafts=2,
            generator=generator,
        )
        counts[tuple(ids[0, 1:].tolist())] += 1
    return counts


def _p_value(counts: np.ndarray, laws: np.ndarray) -> float:
    expected = np.zeros_like(counts, float)
    for cell in product(range(3), repeat=3):
        expected[cell] = np.prod([laws[a, b] for a, b in pairwise((0, *cell))])
    expected *= counts.sum()
    seen, hoped = counts.ravel(), expected.ravel()
    small = hoped < 5
    pooled = [np.append(v[~small], v[small].sum()) for v in (seen, hoped)]
    return float(stats.chisquare(*pooled).pvalue)


def test_responses_have_the_targets_joint_law_over_keys() -> None:
    """H0: three tokens, the first plain and two marked, have the target's joint law.

    Chi-square, 27 cells (those of less than 5 expected are one); fails once in 10^6 seeds.
    """
    rng = np.random.default_rng(3)
    config = WatermarkConfig(preset("default").scheme, context_width=1)
    counts = _count_triples(
        [SpeculativeMarker(config, SecretKey(rng.bytes(32))) for _ in range(500)]
    )
    assert _p_value(counts, TARGET_LAWS) > 1e-6
    assert _p_value(counts, DRAFT_LAWS) < 1e-6


def test_under_one_key_a_tilting_scheme_has_the_tilted_targets_joint_law() -> None:
    """H0 as above, for the target's laws with delta added where the context's words are green."""
    scheme = RedGreen(gamma=0.5, delta=1.5)
    key = SecretKey(bytes([7]) * 32)
    prf = Prf.from_key(key)
    hashes = prf.context_hashes(np.arange(3)[:, None])
    green = prf.words(hashes, np.tile(np.arange(3), (3, 1))) < 1 << 31
    assert 2 < green.sum() < 7
    # A repeated context would be plain; each is new within three tokens, or its law is the plain
    # one: with h = 1 the third token's context repeats only if the first two tokens are equal.
    config = WatermarkConfig(scheme, context_width=1)
    counts = _count_triples([SpeculativeMarker(config, key)] * 500)
    tilted = TARGET_LAWS * np.exp(1.5 * green)
    tilted /= tilted.sum(axis=1, keepdims=True)
    expected = np.zeros((3, 3, 3))
    for a, b, c in product(range(3), repeat=3):
        last = TARGET_LAWS if a == b else tilted
        expected[a, b, c] = TARGET_LAWS[0, a] * tilted[a, b] * last[b, c]
    pooled = expected.ravel() * counts.sum()
    small = pooled < 5
    cells = [np.append(v[~small], v[small].sum()) for v in (counts.ravel(), pooled)]
    assert stats.chisquare(*cells).pvalue > 1e-6
    assert _p_value(counts, TARGET_LAWS) < 1e-6


def _llama(seed: int, vocabulary: int, layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.25,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def target(tokenizer: TextTokenizer) -> LlamaForCausalLM:
    return _llama(0, tokenizer.vocab_size)


@pytest.fixture(scope="module")
def draft(target: LlamaForCausalLM) -> LlamaForCausalLM:
    """The target with other weights mixed in: often right, never equal."""
    model = _llama(0, target.config.vocab_size)
    other = _llama(1, target.config.vocab_size)
    with torch.no_grad():
        for mine, noise in zip(model.parameters(), other.parameters(), strict=True):
            mine.lerp_(noise, 0.08)
    return model


def _generate(
    target: LlamaForCausalLM, watermark: SpeculativeWatermark, n_tokens: int = 120, **options: Any
) -> list[int]:
    ids = torch.tensor([PROMPT])
    asked: dict[str, Any] = {
        "do_sample": True,
        "top_k": 0,
        "max_new_tokens": n_tokens,
        "min_new_tokens": n_tokens,
        **options,
    }
    out = target.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), custom_generate=watermark, **asked
    )
    return out[0, len(PROMPT) :].tolist()


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["default", "red-green", "unigram", "tournament"])
def test_what_comes_out_is_found_under_its_key_alone(
    target: LlamaForCausalLM, draft: LlamaForCausalLM, tokenizer: TextTokenizer, name: str
) -> None:
    config, rounds = preset(name), list[Round]()
    watermark = SpeculativeWatermark(
        config, KEY, draft, generator=_seeded(), on_round=rounds.append
    )
    answer = _generate(target, watermark, n_tokens=90)
    assert [t for r in rounds for t in r.tokens] == answer
    accepted, tested = sum(r.n_accepted for r in rounds), sum(len(r.overlaps) for r in rounds)
    assert 0.1 < accepted / tested < 0.95
    found = [
        assess_tokens(np.array(answer), tokenizer=tokenizer, config=config, key=key).finding
        for key in (KEY, OTHER)
    ]
    assert found[0].tail.log10_p < -6
    assert found[1].tail.log10_p > -6


def _check_overlaps(target: Any, draft: Any, n_tokens: int) -> list[Round]:
    """Compare the overlap of each tested draft with that of both models without any cache."""
    rounds: list[Round] = []
    watermark = SpeculativeWatermark(
        preset("default"), KEY, draft, generator=_seeded(), on_round=rounds.append
    )
    answer = _generate(target, watermark, n_tokens=n_tokens, min_new_tokens=None, temperature=0.8)
    ids = torch.tensor([PROMPT + answer])
    with torch.no_grad():
        laws = [(m(ids).logits[0].double() / 0.8).softmax(dim=1) for m in (target, draft)]
    overlaps = torch.minimum(*laws).sum(dim=1).tolist()
    at = len(PROMPT) - 1
    for done in rounds:
        assert np.allclose(done.overlaps, overlaps[at : at + len(done.overlaps)], atol=1e-5)
        at += len(done.tokens)
    return rounds


def test_caches_hold_what_the_models_would_read_afresh(
    target: LlamaForCausalLM, draft: LlamaForCausalLM
) -> None:
    rounds = _check_overlaps(target, draft, 40)
    assert any(0 < r.n_accepted < 4 for r in rounds)
    assert any(r.n_accepted == 4 for r in rounds)


def test_sliding_windows_are_taken_back_too(target: LlamaForCausalLM) -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = MistralConfig(
            vocab_size=target.config.vocab_size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=6,
            eos_token_id=None,
        )
        models.append(MistralForCausalLM(config).eval())
    rounds = _check_overlaps(*models, 40)
    assert any(r.n_accepted < len(r.overlaps) for r in rounds)
    assert any(r.n_accepted > 0 for r in rounds)


def test_a_model_accepts_its_own_drafts_which_its_words_draw(target: LlamaForCausalLM) -> None:
    """Every token with a context of its own is the winner of who drew it, read afresh."""
    config, rounds = preset("default"), list[Round]()
    watermark = SpeculativeWatermark(config, KEY, target, n_drafts=3, on_round=rounds.append)
    answer = _generate(target, watermark, n_tokens=40, min_new_tokens=None, eos_token_id=None)
    assert [(r.n_accepted, len(r.tokens)) for r in rounds] == [(3, 4)] * 10
    with torch.no_grad():
        logits = target(torch.tensor([PROMPT + answer])).logits[0, len(PROMPT) - 1 : -1].double()
    prf, vocabulary = Prf.from_key(KEY), np.arange(logits.shape[1])[None]
    contexts = windows(np.array(answer), 2)
    marked = np.flatnonzero(first_occurrences(np.ascontiguousarray(contexts)))
    assert len(marked) > 25
    for i in marked.tolist():
        hashes = prf.context_hashes(contexts[i : i + 1].copy())
        words = prf.words(hashes, vocabulary, int((i + 2) % 4 == 3))
        assert (
            answer[i + 2]
            == force_gumbel_winner(
                logits[i + 2][None], torch.from_numpy(words.astype(np.int64))
            ).argmax()
        )


@pytest.mark.parametrize("name", ["red-green", "tournament"])
def test_schemes_that_tilt_tilt_both_models(target: LlamaForCausalLM, name: str) -> None:
    """Equal laws stay equal: were one tilted alone, drafts would be rejected."""
    rounds: list[Round] = []
    watermark = SpeculativeWatermark(preset(name), KEY, target, on_round=rounds.append)
    _generate(target, watermark, n_tokens=20)
    assert all(r.n_accepted == len(r.overlaps) == 4 for r in rounds)


def test_the_first_tokens_are_plain(target: LlamaForCausalLM, draft: LlamaForCausalLM) -> None:
    """Drawn by words of the prompt they would be the same under every seed."""
    starts = {
        tuple(
            _generate(
                target,
                SpeculativeWatermark(preset("default"), KEY, draft, generator=_seeded(seed)),
                n_tokens=2,
                temperature=3.0,
            )
        )
        for seed in range(5)
    }
    assert len({first for first, _ in starts}) > 1
    assert len({second for _, second in starts}) > 1


def test_warpers_bind_both_models(target: LlamaForCausalLM, draft: LlamaForCausalLM) -> None:
    watermark = SpeculativeWatermark(preset("default"), KEY, draft, generator=_seeded())
    answer = _generate(
        target, watermark, n_tokens=60, min_new_tokens=None, eos_token_id=None, top_k=4
    )
    ids = torch.tensor([PROMPT + answer])
    with torch.no_grad():
        best = target(ids).logits[0, len(PROMPT) - 1 : -1].topk(4, dim=1).indices
    assert len(answer) == 60
    assert all(token in row for token, row in zip(answer, best, strict=True))


def test_answers_end_at_an_end_token_and_at_their_length(
    target: LlamaForCausalLM, draft: LlamaForCausalLM
) -> None:
    ends = list(range(10, 40))
    lengths = []
    for seed in range(12):
        watermark = SpeculativeWatermark(preset("default"), KEY, draft, generator=_seeded(seed))
        answer = _generate(target, watermark, n_tokens=9, min_new_tokens=None, eos_token_id=ends)
        assert not set(answer[:-1]) & set(ends)
        assert answer[-1] in ends or len(answer) == 9
        lengths.append(len(answer))
    assert min(lengths) < 9
    assert max(lengths) <= 9


def test_the_seed_decides_what_words_do_not(
    target: LlamaForCausalLM, draft: LlamaForCausalLM
) -> None:
    answers = [
        _generate(
            target,
            SpeculativeWatermark(preset("default"), KEY, draft, generator=_seeded(seed)),
            n_tokens=20,
            return_dict_in_generate=False,
        )
        for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]


def test_return_dict_is_given(target: LlamaForCausalLM, draft: LlamaForCausalLM) -> None:
    ids = torch.tensor([PROMPT])
    out = target.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        max_new_tokens=5,
        return_dict_in_generate=True,
        custom_generate=SpeculativeWatermark(preset("default"), KEY, draft),
    )
    assert out.sequences.shape == (1, len(PROMPT) + 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_sample": False}, "do_sample=True"),
        ({"num_beams": 2}, "num_beams=1"),
        ({"num_return_sequences": 2}, "one prompt at a time"),
        ({"return_dict_in_generate": True, "output_scores": True}, "output_scores"),
        (
            {"watermarking_config": TransformersWatermark(preset("default"), KEY)},
            "marks by itself",
        ),
        (
            {
                "logits_processor": LogitsProcessorList(
                    [WatermarkProcessor(preset("red-green"), KEY, prompt_length=5)]
                )
            },
            "marks by itself",
        ),
        ({"attention_mask": torch.tensor([[0, 1, 1, 1, 1]])}, "padding"),
    ],
)
def test_what_would_be_wrong_or_unmarked_is_refused(
    target: LlamaForCausalLM, draft: LlamaForCausalLM, options: dict[str, Any], message: str
) -> None:
    ids = torch.tensor([PROMPT])
    asked = {"do_sample": True, "attention_mask": torch.ones_like(ids), **options}
    watermark = SpeculativeWatermark(preset("default"), KEY, draft)
    with pytest.raises(GenerationError, match=message):
        target.generate(input_ids=ids, custom_generate=watermark, max_new_tokens=4, **asked)


def test_drafts_that_do_not_fit_are_refused(target: LlamaForCausalLM) -> None:
    smaller = _llama(0, target.config.vocab_size - 1)
    with pytest.raises(GenerationError, match="same vocabulary"):
        _generate(target, SpeculativeWatermark(preset("default"), KEY, smaller))
    recurrent = MambaForCausalLM(
        MambaConfig(
            vocab_size=target.config.vocab_size, hidden_size=16, num_hidden_layers=1, state_size=4
        )
    )
    with pytest.raises(GenerationError, match="taken back"):
        _generate(target, SpeculativeWatermark(preset("default"), KEY, recurrent))


def test_bad_settings_are_refused(target: LlamaForCausalLM, draft: LlamaForCausalLM) -> None:
    with pytest.raises(ConfigError, match="dual-gumbel"):
        SpeculativeWatermark(preset("gumbel"), KEY, draft)
    with pytest.raises(ConfigError, match="n_drafts"):
        _generate(target, SpeculativeWatermark(preset("default"), KEY, draft, n_drafts=0))
    unknown = ReasoningChannel((target.config.vocab_size,), (1,))
    config = replace(preset("default"), reasoning=unknown)
    with pytest.raises(ConfigError, match="would never be found"):
        _generate(target, SpeculativeWatermark(config, KEY, draft))
    endless: dict[str, Any] = {
        "marker": None,
        "processors": LogitsProcessorList([TemperatureLogitsWarper(0.7)]),
        "stops": StoppingCriteriaList(),
    }
    with pytest.raises(GenerationError, match="MaxLengthCriteria"):
        speculate(target, draft, torch.tensor([PROMPT]), **endless)
    with pytest.raises(GenerationError, match="one prompt"):
        speculate(
            target, draft, torch.empty((1, 0), dtype=torch.int64), **{**endless, "stops": _until(9)}
        )


def test_bad_logits_are_refused(target: LlamaForCausalLM) -> None:
    broken = _llama(0, target.config.vocab_size)
    torch.nn.init.constant_(broken.lm_head.weight, float("nan"))
    watermark = SpeculativeWatermark(preset("default"), KEY, broken)
    with pytest.raises(GenerationError, match="NaN"):
        _generate(target, watermark, n_tokens=4, min_new_tokens=None)


def test_what_is_printed_holds_no_secret(draft: LlamaForCausalLM) -> None:
    shown = repr(SpeculativeWatermark(preset("default"), KEY, draft))
    assert KEY.key_id in shown
    assert "n_drafts=4" in shown
    assert not any(str(part) in shown for part in Prf.from_key(KEY).sip_key.tolist())
