"""Students in the making: what they start from, what they learn, and what a thief does then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.inheritance.grid import ROWS, Family, Row
from benchmarks.inheritance.lessons import lesson_file, read_lesson, teach
from benchmarks.inheritance.stages import Stages
from detect.demo.student import Example, Recipe, fine_tune
from detect.suspect.open_weights import TransformersSuspect
from watermark.cli import progress
from watermark.models import resolve_model
from watermark.tokens import load_tokenizer

__all__ = ["file_name", "learned", "lesson", "start_of", "student"]

_SMALL_VOCABULARY: Final = 4096
_SMALL_RECIPE: Final = Recipe(epochs=8, learning_rate=2e-3)
_TEMPLATE: Final = (
    "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
_EDITED_SHARE: Final = 0.2
_QUANTISED: Final = "Q4_0"


def lesson(stages: Stages, name: str) -> list[dict[str, Any]]:
    """Return the answers of a lesson, drawn now unless they were before."""
    model = resolve_model("smollm2")
    stages.made(lesson_file(name), lambda path: teach(name, model, stages.folder, path))
    return read_lesson(stages.folder, name)


def start_of(stages: Stages, family: Family) -> Path:
    """Return the model that students of a family start from: the clean reference."""
    if family == "real":
        return resolve_model("smollm2")
    return stages.made("small-start", lambda path: _small_start(stages, path))


def student(stages: Stages, name: str) -> Path:
    """Return the folder of a row's student, trained now unless it was before."""
    row = ROWS[name]
    if row.of_the_same_weights:
        return student(stages, row.of or "")
    return stages.made(f"student-{file_name(name)}", lambda path: _make(stages, row, path))


def file_name(name: str) -> str:
    """Turn a row's name into one for files."""
    return name.replace(", ", "-").replace(" %", "").replace(" ", "-").replace("=", "")


def _make(stages: Stages, row: Row, path: Path) -> None:
    match row.treatment:
        case "quantised":
            _rewrite(student(stages, row.of or ""), path, _quantised)
        case "merged":
            _merge(student(stages, row.of or ""), start_of(stages, row.family), path)
        case "clean fine-tune":
            _train(stages, row, student(stages, row.of or ""), path)
        case _:
            _train(stages, row, start_of(stages, row.family), path)


def learned(stages: Stages, row: Row) -> list[dict[str, Any]]:
    """Return the answers that a row's student learns from, before any treatment."""
    return [r for p in row.learned for r in lesson(stages, p.lesson)[p.first : p.last]]


def _train(stages: Stages, row: Row, start: Path, path: Path) -> None:
    rows = learned(stages, row)
    if row.treatment == "edited data":
        rows = _edited(rows)
    _learn(start, rows, path, row.recipe)


def _learn(start: Path, rows: Sequence[dict[str, Any]], path: Path, recipe: Recipe) -> None:
    model = TransformersSuspect(start)
    # The student's own tokenizer reads the text; for a real student it gives the teacher's ids.
    examples = [
        Example(model.chat_ids(row["prompt"]), model.tokenizer.encode(row["text"]).tolist())
        for row in rows
    ]
    end_id = model.end_ids[0]
    del model
    total = recipe.epochs * sum(len(e.answer_ids) + 1 for e in examples)
    with progress(total, path.name, "tok") as bar:
        fine_tune(start, examples, path, recipe, end_id=end_id,
                  on_tokens=lambda n, loss: bar.update(n))  # fmt: skip


def _edited(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Replace, drop or double a fifth of the words, blindly: an untargeted attack on the data."""
    rng = np.random.default_rng(0)
    pool = [word for row in rows for word in row["text"].split(" ")]
    edited = []
    for row in rows:
        words: list[str] = []
        for word in row["text"].split(" "):
            kind = rng.integers(3) if rng.random() < _EDITED_SHARE else 3
            other = pool[int(rng.integers(len(pool)))]
            words += {0: [other], 1: [], 2: [word, other], 3: [word]}[int(kind)]
        edited.append({**row, "text": " ".join(words)})
    return edited


def _small_start(stages: Stages, path: Path) -> None:
    """Train a small model with a tokenizer of its own on unmarked answers, from nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    rows = [*lesson(stages, "unmarked"), *lesson(stages, "unmarked, again")]
    empty = path.with_name("small-empty")
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    _small_tokenizer([r["prompt"] for r in rows] + [r["text"] for r in rows], empty)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=load_tokenizer(empty).vocab_size,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(empty)
    _learn(empty, rows, path, _SMALL_RECIPE)
    shutil.rmtree(empty)


def _small_tokenizer(texts: Sequence[str], folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SMALL_VOCABULARY,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "chat_template": _TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _rewrite(source: Path, path: Path, change: Any) -> None:
    """Copy a model with its weight matrices changed."""
    from safetensors.numpy import save_file

    shutil.copytree(source, path)
    for file in path.glob("*.safetensors"):
        tensors = {k: v.float().numpy() for k, v in _tensors(file).items()}
        save_file({k: change(k, v) for k, v in tensors.items()}, file, {"format": "pt"})


def _tensors(file: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(file))


def _quantised(name: str, weight: np.ndarray) -> np.ndarray:
    """Round to four bits and back, as a GGUF file would hold it."""
    from gguf import GGMLQuantizationType, dequantize, quantize

    if weight.ndim != 2 or weight.shape[1] % 32:
        return weight
    kind = GGMLQuantizationType[_QUANTISED]
    return np.asarray(dequantize(quantize(weight, kind), kind), np.float32)


def _merge(one: Path, other: Path, path: Path) -> None:
    """Average the weights of two models."""
    theirs = {k: v for file in other.glob("*.safetensors") for k, v in _tensors(file).items()}
    _rewrite(one, path, lambda name, w: (w + theirs[name].float().numpy()) / 2)
