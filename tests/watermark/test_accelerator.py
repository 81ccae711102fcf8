"""On an accelerator: the same words, the same marks; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detect.demo.student import Example, Recipe, fine_tune
from detect.suspect.exchanges import ReadingText
from detect.suspect.open_weights import TransformersSuspect
from watermark.config import PRESETS, preset
from watermark.generation.loop import Sampling, sample_answers
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA accelerator on this machine"
)
KEY = SecretKey(bytes(range(32)))


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_same_logits_are_marked_alike(name: str) -> None:
    rng = torch.Generator().manual_seed(1)
    response = torch.randint(0, 500, (6, 9), generator=rng)
    logits = torch.randn(6, 500, generator=rng) * 3
    here, there = (
        Marker(preset(name), KEY)(
            response.to(device), logits.to(device), torch.Generator().manual_seed(2)
        ).cpu()
        for device in ("cpu", "cuda")
    )
    assert torch.equal(torch.isfinite(here), torch.isfinite(there))
    finite = torch.isfinite(here)
    assert torch.allclose(here[finite], there[finite], atol=1e-3)


def test_a_model_answers_learns_and_is_read_there(model_folder: Path, tmp_path: Path) -> None:
    model = load_model(model_folder)
    assert model.device.type == "cuda"
    prompts = [[5, 6, 7], [8]] * 8
    keys = [SecretKey(bytes([i]) * 32) for i in range(16)]
    marker = Marker(preset("default"), keys)
    answers = sample_answers(model, prompts, Sampling(40), end_ids=[2], marker=marker)
    examples = [Example(p, a.token_ids) for p, a in zip(prompts, answers, strict=True)]
    student = fine_tune(model_folder, examples, tmp_path / "student", Recipe(), end_id=2)
    texts = [ReadingText(tuple(p), a.token_ids) for p, a in zip(prompts, answers, strict=True)]
    texts = [t for t in texts if t.token_ids]
    for positions in TransformersSuspect(student).read(texts):
        assert positions.probabilities.device.type == "cpu"
        assert np.allclose(positions.probabilities.sum(dim=1), 1, atol=1e-3)
