"""The entropy gate: rows with little choice are left as they are, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LogitsProcessorList

from watermark.config import PRESETS, WatermarkConfig, preset
from watermark.errors import ConfigError, GenerationError
from watermark.kernels.torch_entropy import has_entropy, row_entropies
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.processor import WatermarkProcessor

KEY = SecretKey(bytes(range(32)))


def _rows(vocabulary: int = 60) -> torch.Tensor:
    """Rows of any entropy: flat, steep, truncated, with one token left."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, vocabulary, generator=generator)
    logits *= torch.linspace(0.1, 12, 40)[:, None]
    logits[30:38, 5:] = -torch.inf
    logits[38:, 1:] = -torch.inf
    return logits + 100


def test_entropies_are_those_of_scipy() -> None:
    logits = _rows()
    found = row_entropies(logits)
    expected = entropy(logits.double().softmax(dim=1).numpy(), axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    least = logits.topk(3, dim=1).values[:, -1]
    cut = logits.masked_fill(logits < least[:, None], -torch.inf)
    np.testing.assert_allclose(
        row_entropies(logits, least),
        entropy(cut.double().softmax(dim=1).numpy(), axis=1),
        atol=2e-5,
    )


def test_rows_that_are_no_numbers_are_not_hidden_by_the_gate() -> None:
    logits = torch.zeros(3, 8)
    logits[0] = -torch.inf
    logits[1, 2] = torch.nan
    logits[2, 3] = torch.inf
    assert has_entropy(logits, 5.0).all()


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_is_gated_exactly_when_it_has_less_entropy(name: str) -> None:
    logits, config = _rows(), preset(name)
    response = torch.arange(5).expand(len(logits), -1)
    entropies = row_entropies(logits)
    threshold = float(entropies.median()) + 1e-3
    every = Marker(config, KEY)(response, logits, torch.Generator().manual_seed(1))
    gated = Marker(replace(config, min_entropy=threshold), KEY)(
        response, logits, torch.Generator().manual_seed(1)
    )
    is_kept = entropies >= threshold
    assert 0 < int(is_kept.sum()) < len(logits)
    # Where it marks, it marks as without a gate: coins do not move.
    torch.testing.assert_close(gated[is_kept], every[is_kept])
    assert torch.equal(gated[~is_kept], logits[~is_kept])


def test_the_gate_sees_candidates_alone() -> None:
    """Top-k leaves three tokens of a flat row: their entropy counts, not the vocabulary's."""
    logits = torch.zeros(1, 200)
    config = replace(preset("red-green"), min_entropy=2.0)
    response = torch.tensor([[1, 2, 3]])
    assert not torch.equal(Marker(config, KEY)(response, logits), logits)
    few = torch.tensor([[4, 9, 11]])
    assert torch.equal(Marker(config, KEY)(response, logits[:, :3], token_ids=few), logits[:, :3])
    cut = logits.index_fill(1, torch.arange(3, 200), -torch.inf)
    assert torch.equal(Marker(config, KEY)(response, cut), cut)


@pytest.mark.parametrize("bad", [-0.1, 5.1, float("nan"), float("inf"), "1", None, True])
def test_a_gate_that_makes_no_sense_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError, match="min_entropy"):
        replace(preset("default"), min_entropy=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="min_entropy"):
        WatermarkConfig.from_dict({**preset("default").to_dict(), "min_entropy": bad})


def test_generate_may_not_truncate_behind_the_gate() -> None:
    """In the list path warpers run after the mark: the gate would see what they have not cut."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1,
        )
    )  # fmt: skip
    prompt = torch.tensor([[5, 6, 7]])

    def run(min_entropy: float, **sampling: object) -> None:
        config = replace(preset("red-green"), min_entropy=min_entropy)
        processor = WatermarkProcessor(config, KEY, prompt_length=3)
        generation = GenerationConfig(max_new_tokens=4, pad_token_id=0, **sampling)
        model.generate(
            prompt, generation_config=generation, logits_processor=LogitsProcessorList([processor])
        )

    run(0.0, do_sample=True, top_k=5)
    run(0.5, do_sample=True, top_k=0)
    run(0.5, do_sample=False)
    with pytest.raises(GenerationError, match=r"top_k after red-green .*entropy gate"):
        run(0.5, do_sample=True, top_k=5)
