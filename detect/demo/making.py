"""The demo's makings: the teacher's answers, the students, and what suspects answer."""

from __future__ import annotations

import json
from pathlib import Path

from detect.demo.folder import TEMPERATURE, TOP_K, Run, read_rows, write
from detect.demo.prompts import held_out_prompts, training_prompts
from detect.suspect.open_weights import TransformersSuspect
from watermark.cli import progress
from watermark.generation.answering import answer_prompts

__all__ = ["ask", "teach", "train"]


def teach(run: Run, path: Path, *, marked: bool) -> None:
    """Write the teacher's answers to the training prompts, under the key or without one."""
    prompts = training_prompts(run.size.n_training)
    with progress(len(prompts) * run.size.max_new_tokens, "teacher", "tok") as bar:
        answered = answer_prompts(
            run.model,
            prompts,
            config=run.config if marked else None,
            key=run.key if marked else None,
            on_tokens=bar.update,
            max_new_tokens=run.size.max_new_tokens,
            temperature=TEMPERATURE,
            top_k=TOP_K,
        )
    write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answered.rows))


def train(run: Run, answers: Path, out: Path) -> None:
    """Fine-tune a copy of the teacher on answers."""
    from detect.demo.student import Example, Recipe, fine_tune

    suspect = TransformersSuspect(run.model)
    rows = read_rows(answers)
    examples = [Example(suspect.chat_ids(row["prompt"]), row["token_ids"]) for row in rows]
    end_id = suspect.end_ids[0]
    del suspect
    recipe = Recipe(learning_rate=run.size.learning_rate, trained_layers=run.size.trained_layers)
    total = sum(len(e.answer_ids) + 1 for e in examples)
    with progress(total, out.name, "tok") as bar:
        fine_tune(
            run.model, examples, out, recipe, end_id=end_id, on_tokens=lambda n, loss: bar.update(n)
        )


def ask(run: Run, model: Path, out: Path) -> None:
    """Write a model's own answers to held-out prompts."""
    from watermark.generation.loop import Sampling

    prompts = held_out_prompts(run.size.n_probe)
    sampling = Sampling(run.size.max_new_tokens, TEMPERATURE, TOP_K, seed=1)
    with progress(len(prompts) * run.size.max_new_tokens, out.stem, "tok") as bar:
        answers = TransformersSuspect(model).answers(prompts, sampling, bar.update)
    lines = [
        json.dumps({"prompt": p, "full_prompt": a.prompt, "text": a.text}, ensure_ascii=False)
        + "\n"
        for p, a in zip(prompts, answers, strict=True)
    ]
    write(out, "".join(lines))
