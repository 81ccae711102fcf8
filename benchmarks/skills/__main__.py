"""Skill with and without the mark: HumanEval, GSM8K, and how surely the mark is found.

    python -m benchmarks.skills --data FOLDER

H0 for an unbiased scheme: the chance of a right answer is that of the unmarked model. Estimated
problem by problem (the same problems under every arm); the interval of the mean difference is
that of independent problems, normal, 95 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from benchmarks.record import write_result
from benchmarks.skills.answering import Said, answer_problems
from benchmarks.skills.finding import find_in_pieces
from benchmarks.skills.tasks import Kind, Problem, load_problems
from watermark.cli import progress
from watermark.config import WatermarkConfig, preset
from watermark.generation.loop import Sampling
from watermark.models import load_model, resolve_model
from watermark.tokens import load_tokenizer

ARMS: Final = ("unmarked", "default", "red-green", "gumbel", "tournament")
# Answers are as long as their kind needs.
_LONGEST: Final[dict[Kind, int]] = {"code": 128, "reasoning": 224, "prose": 400}


def _right(problems: Sequence[Problem], rounds: Sequence[Sequence[Said]]) -> NDArray[np.float64]:
    """Share of right answers to each problem."""
    jobs = [(p, a) for said in rounds for p, a in zip(problems, said, strict=True)]
    with ThreadPoolExecutor() as pool:
        right = list(pool.map(lambda job: job[0].judge(job[1].text), jobs))
    return np.array(right, np.float64).reshape(len(rounds), len(problems)).mean(axis=0)


def _interval(values: NDArray[np.float64]) -> dict[str, float]:
    mean, error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    return {"mean": mean, "low_95": mean - 1.96 * error, "high_95": mean + 1.96 * error}


class _Run:
    """The model, and what it has answered unmarked."""

    def __init__(self, model: str, data: Path, sampling: dict[str, Any]) -> None:
        folder = resolve_model(model)
        self.model, self.tokenizer = load_model(folder), load_tokenizer(folder)
        self.chat = AutoTokenizer.from_pretrained(folder)
        self.data, self.sampling = data, sampling

    def measured(
        self, kind: Kind, n_problems: int, n_rounds: int, arms: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield what is known after each arm: what was measured is kept if the rest is not."""
        problems = load_problems(kind, self.data, n_problems)
        sampling = Sampling(max_new_tokens=_LONGEST[kind], **self.sampling)
        found: dict[str, Any] = {
            "n_problems": len(problems),
            "answers_to_each": n_rounds,
            **self.sampling,
            "max_new_tokens": sampling.max_new_tokens,
        }
        unmarked: NDArray[np.float64] | None = None
        for arm in arms:
            config = None if arm == "unmarked" else preset(arm)
            total = len(problems) * n_rounds * sampling.max_new_tokens
            with progress(total, f"{kind}: {arm}", "tok") as bar:
                rounds = answer_problems(
                    self.model, self.chat, self.tokenizer, problems, sampling,
                    n_rounds=n_rounds, config=config, on_tokens=bar.update,
                )  # fmt: skip
            found[arm] = self._of_arm(config, rounds)
            if problems[0].judge is not None:
                right = _right(problems, rounds)
                unmarked = right if config is None else unmarked
                found[arm]["right"] = _interval(right)
                if config is not None and unmarked is not None:
                    found[arm]["right_less_unmarked"] = _interval(right - unmarked)
            click.echo(f"{kind}, {arm}: {found[arm]}")
            yield found

    def _of_arm(self, config: WatermarkConfig | None, rounds: list[list[Said]]) -> dict[str, Any]:
        tokens = [len(said.token_ids) for answers in rounds for said in answers]
        return {
            "mean_tokens": float(np.mean(tokens)),
            # Without a mark: under keys that were never used.
            "pieces": find_in_pieces(config or preset("default"), self.tokenizer, rounds),
        }


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              required=True, help="Folder of HumanEval, GSM8K, Self-Instruct.")  # fmt: skip
@click.option("--model", default="smollm2", show_default=True)
@click.option("--problems", default=10_000, help="At most so many of each kind.")
@click.option("--rounds", default=(10, 2, 2), type=(int, int, int), show_default=True,
              help="Answers to each problem of code, reasoning, prose.")  # fmt: skip
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(_LONGEST)),
              default=tuple(_LONGEST))  # fmt: skip
@click.option("--arm", "arms", multiple=True, type=click.Choice(ARMS), default=ARMS)
@click.option("--temperature", default=0.7, show_default=True)
@click.option("--top-k", default=50, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    data: Path, model: str, problems: int, rounds: tuple[int, int, int], kinds: tuple[Kind, ...],
    arms: tuple[str, ...], temperature: float, top_k: int, batch: int, seed: int,
) -> None:  # fmt: skip
    """Ask, judge, compare, find."""
    sampling = {"temperature": temperature, "top_k": top_k, "batch_size": batch, "seed": seed}
    run = _Run(model, data, sampling)
    for kind, n_rounds in zip(_LONGEST, rounds, strict=True):
        if kind not in kinds:
            continue
        for measured in run.measured(kind, problems, n_rounds, arms):
            path = write_result("skills", seed=seed, measured=measured, case=kind)
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
