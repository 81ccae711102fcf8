"""Fine-tune a copy of a model on (prompt, answer) pairs: what a distilling thief does.

Weights are fp32, the forward pass is bf16 by autocast where the processor computes in it: pure bf16
would round small updates away.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from watermark.errors import MissingExtraError
from watermark.models import load_model, native_dtype

__all__ = ["Example", "Recipe", "fine_tune"]

_IGNORED = -100


class Example(NamedTuple):
    """One exchange: the loss is taken on the answer only."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]


@final
@dataclass(frozen=True)
class Recipe:
    """How the student learns.

    Attributes:
        epochs: passes over the examples.
        learning_rate: peak of AdamW's rate; linear warm-up over a tenth, then linear decay.
        batch_tokens: tokens a step, padding included.
        trained_layers: how many of the last layers learn; None is all, embedding included.
        seed: of the order of examples.
        lora_rank: adapters of this rank in every linear layer learn, and are merged at the end;
            None for the weights themselves. Needs the package peft.
    """

    epochs: int = 1
    learning_rate: float = 2e-4
    batch_tokens: int = 2048
    trained_layers: int | None = None
    seed: int = 0
    lora_rank: int | None = None


def fine_tune(
    model_folder: Path,
    examples: Sequence[Example],
    out_folder: Path,
    recipe: Recipe,
    *,
    end_id: int,
    on_tokens: Callable[[int, float], object] = lambda n, loss: None,
) -> Path:
    """Fine-tune and save.

    Args:
        model_folder: where the student starts.
        examples: what it learns.
        out_folder: where it is saved, whole or not at all; must not exist.
        recipe: how.
        end_id: end token, appended to each answer.
        on_tokens: called after each step with the tokens trained on and the loss in nats.

    Returns:
        `out_folder`, a safetensors folder with the teacher's tokenizer.
    """
    model = load_model(model_folder, torch.float32, "sdpa").train()
    adapted = _with_adapters(model, recipe.lora_rank) if recipe.lora_rank else None
    parameters = _trainable(model, recipe.trained_layers)
    batches = list(_batches(examples, recipe, end_id))
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear(len(batches)))
    device, computes = model.device, native_dtype()
    for ids, labels in batches:
        with torch.autocast(device.type, computes, enabled=computes == torch.bfloat16):
            loss = _loss(model, ids.to(device), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        on_tokens(int((labels != _IGNORED).sum()), float(loss.detach()))
    if adapted is not None:
        model = adapted.merge_and_unload()
    return _save(model, model_folder, out_folder)


def _loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of the answer tokens; the vocabulary is met at those positions only."""
    hidden = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    wanted = labels[:, 1:] != _IGNORED
    logits = model.lm_head(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])


def _with_adapters(model: Any, rank: int) -> Any:
    """Put low-rank adapters into the model's linear layers; its own weights are frozen."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingExtraError("peft", "bench") from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    return get_peft_model(model, config)


def _trainable(model: Any, trained_layers: int | None) -> list[Any]:
    if trained_layers is not None:
        model.requires_grad_(False)
        for layer in [*model.model.layers[-trained_layers:], model.model.norm]:
            layer.requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


def _linear(n_steps: int) -> Callable[[int], float]:
    warm = max(n_steps // 10, 1)
    return lambda step: min((step + 1) / warm, (n_steps - step) / max(n_steps - warm, 1))


def _batches(
    examples: Sequence[Example], recipe: Recipe, end_id: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (ids, labels) of examples of like length, batches in random order."""
    rng = np.random.default_rng(recipe.seed)
    rows = [_row(example, end_id) for example in examples]
    for _ in range(recipe.epochs):
        jitter = rng.uniform(0, 8, len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + jitter[i])
        width = max(len(ids) for ids, _ in rows)
        size = max(recipe.batch_tokens // width, 1)
        chunks = [order[i : i + size] for i in range(0, len(order), size)]
        for chunk in rng.permutation(len(chunks)):
            yield _padded([rows[i] for i in chunks[chunk]], end_id)


def _row(example: Example, end_id: int) -> tuple[list[int], list[int]]:
    answer = [*example.answer_ids, end_id]
    return [*example.prompt_ids, *answer], [_IGNORED] * len(example.prompt_ids) + answer


def _padded(rows: list[tuple[list[int], list[int]]], end_id: int) -> tuple[Tensor, Tensor]:
    # Padding stands at the end, where a causal model's earlier positions never see it.
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([i + [end_id] * (width - len(i)) for i, _ in rows])
    labels = torch.tensor([lab + [_IGNORED] * (width - len(lab)) for _, lab in rows])
    return ids, labels


def _save(model: Any, model_folder: Path, out_folder: Path) -> Path:
    out_folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=out_folder.parent))
    try:
        model.to(torch.bfloat16).save_pretrained(temporary)
        for extra in model_folder.iterdir():
            if not (temporary / extra.name).exists() and extra.suffix != ".safetensors":
                shutil.copy(extra, temporary / extra.name)
        temporary.rename(out_folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out_folder
