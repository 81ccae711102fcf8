"""Fine-tuning: it learns, it learns only where it may, and it leaves a whole folder or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from detect.demo.student import Example, Recipe, fine_tune
from tests.conftest import PARAGRAPH
from watermark.tokens import TextTokenizer


@pytest.fixture
def examples(tokenizer: TextTokenizer) -> list[Example]:
    ids = tokenizer.encode(PARAGRAPH).tolist()
    return [Example(ids[:i], ids[i : i + 20]) for i in range(1, 40)]


def test_the_loss_falls_and_only_the_last_layers_change(
    examples: list[Example], model_folder: Path, tmp_path: Path
) -> None:
    losses: list[float] = []
    out = fine_tune(
        model_folder,
        examples,
        tmp_path / "student",
        Recipe(epochs=6, learning_rate=3e-3, batch_tokens=256, trained_layers=1),
        end_id=0,
        on_tokens=lambda n, loss: losses.append(loss),
    )
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    before = LlamaForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16).state_dict()
    after = LlamaForCausalLM.from_pretrained(out, dtype=torch.bfloat16).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("model.layers.1.", "model.norm")) for name in changed)
    assert (out / "tokenizer.json").exists()


def test_the_loss_is_that_of_the_answer_alone(model_folder: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    fine_tune(
        model_folder,
        [Example([5, 6, 7], [8, 9])],
        tmp_path / "student",
        Recipe(learning_rate=0.0),
        end_id=0,
        on_tokens=lambda n, loss: losses.append(loss),
    )
    model = LlamaForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.tensor([[5, 6, 7, 8, 9, 0]])).logits[0].float()
    wanted = torch.nn.functional.cross_entropy(logits[2:5], torch.tensor([8, 9, 0]))
    assert losses == [pytest.approx(float(wanted), rel=0.02)]


def test_a_stopped_training_leaves_nothing(
    examples: list[Example], model_folder: Path, tmp_path: Path
) -> None:
    def stop(n: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(model_folder, examples, tmp_path / "student", Recipe(), end_id=0, on_tokens=stop)
    assert not list(tmp_path.iterdir())
