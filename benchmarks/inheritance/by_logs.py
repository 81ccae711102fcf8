"""Tests by the provider's logs: does a suspect know its lesson from what might have been said?

A seeded sample of the answers that the tested student learned from stands for the logs. Two kinds
of counterfactuals (`detect.suspect.logs`): fresh coins under the same key, where each answer is a
unit; and copies of the logs under keys that were never issued, where the key is the unit: of 20
keys the logs' own can stand first with p = 0.05 at best.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.inheritance.by_text import ALPHA
from benchmarks.inheritance.lessons import (
    LESSONS,
    MAX_NEW_TOKENS,
    TEMPERATURE,
    TOP_K,
    VERSION,
)
from benchmarks.inheritance.stages import Stages
from benchmarks.inheritance.students import lesson
from detect.suspect.counterfactual_test import Sources, assess_logs, exchanges
from detect.suspect.likelihoods import Exchange, Scores, SuspectReader, less, mean_log_probs
from detect.suspect.logs import (
    Candidates,
    Kind,
    LoggedAnswer,
    draw_counterfactuals,
    read_candidates,
)
from watermark.cli import progress
from watermark.generation.answering import answer_prompts
from watermark.keys import SecretKey
from watermark.models import resolve_model
from watermark.tokens import load_tokenizer

__all__ = ["candidates", "candidates_file", "scores_of", "test_logs"]

_Rows = list[dict[str, Any]]
_Count = Callable[[int], object]

_LEARNED: Final = "dual h=2"
_N_LEARNED: Final = 360  # of its answers
# Logged answers, and counterfactuals for each.
_SIZES: Final = {Kind.SAME_KEY: (60, 3), Kind.NEVER_ISSUED: (10, 19)}
# None of a lesson: the coins would be the same.
_SEED: Final = 100
_LAW: Final = {"max_new_tokens": MAX_NEW_TOKENS, "temperature": TEMPERATURE, "top_k": TOP_K}
_BATCH: Final = 128
_BASE: Final = "base"


def candidates_file(kind: Kind) -> str:
    """Tell the file name of logged answers with their counterfactuals."""
    return f"counterfactuals-{kind.value}.json"


def candidates(stages: Stages, kind: Kind) -> Candidates:
    """Return logged answers with their counterfactuals, drawn now unless they were before."""
    n, n_others = _SIZES[kind]
    draw = _same_key if kind is Kind.SAME_KEY else _never_issued

    def write(path: Path) -> None:
        sample = _sample(stages, n)
        with progress(n * n_others * MAX_NEW_TOKENS, f"{kind.value} answers", "tok") as bar:
            drawn = draw(sample, n_others, bar.update)
        path.write_text(json.dumps(drawn.to_dict()), "utf-8")

    return read_candidates(stages.made(candidates_file(kind), write))


def _sample(stages: Stages, n: int) -> _Rows:
    """Draw n of the learned answers; a smaller sample is part of a larger one, and read once."""
    logs = lesson(stages, _LEARNED)
    chosen = np.random.default_rng(_SEED).permutation(_N_LEARNED)[:n]
    return [logs[i] for i in sorted(chosen.tolist())]


def _same_key(sample: _Rows, n_others: int, on_tokens: _Count) -> Candidates:
    source = LESSONS[_LEARNED]
    assert source.config is not None
    return draw_counterfactuals(
        resolve_model("smollm2"),
        _logged(sample),
        config=source.config,
        key=source.key,
        kind=Kind.SAME_KEY,
        n=n_others,
        batch_size=_BATCH,
        seed=_SEED,
        on_tokens=on_tokens,
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=TEMPERATURE,
        top_k=TOP_K,
    )


def _never_issued(sample: _Rows, n_others: int, on_tokens: _Count) -> Candidates:
    """Draw as `draw_counterfactuals` does, under keys that a second run has as well."""
    source, model = LESSONS[_LEARNED], resolve_model("smollm2")
    assert source.config is not None
    config = source.config.bound_to(load_tokenizer(model).fingerprint)
    prompts = [row["prompt"] for row in sample]
    worlds = [
        answer_prompts(
            model,
            prompts,
            config=config,
            key=SecretKey(f"{VERSION} never issued {world}".encode().rjust(32, b".")),
            on_tokens=on_tokens,
            batch_size=_BATCH,
            seed=_SEED + 1 + world,
            **_LAW,
        ).rows
        for world in range(n_others)
    ]
    others = tuple(tuple(row["text"] for row in rows) for rows in zip(*worlds, strict=True))
    settings = {"model": model.name, **_LAW, "seed": _SEED}
    logged = tuple(_logged(sample))
    return Candidates(Kind.NEVER_ISSUED, source.key.key_id, config, settings, logged, others, 0)


def _logged(sample: _Rows) -> list[LoggedAnswer]:
    return [
        LoggedAnswer(
            row["prompt"],
            row["text"],
            None,
            tuple(row["token_ids"]),
            row["key_id"],
            row["config_fingerprint"],
            dict(_LAW),
        )
        for row in sample
    ]


def scores_of(
    stages: Stages, file: str, model: Callable[[], SuspectReader]
) -> dict[Exchange, float]:
    """Return a model's scores of all candidates' texts, read now unless they were before.

    Args:
        stages: the run.
        file: the model's name in files.
        model: opens it, where it is needed.

    Returns:
        Mean natural log-probability of each text's tokens.
    """
    wanted = exchanges([candidates(stages, kind) for kind in Kind])

    def read() -> dict[str, Any]:
        with progress(None, f"scores of {file}", "tok") as bar:
            scores = mean_log_probs(model(), wanted, bar.update)
        return {"scores": [[*exchange, scores[exchange]] for exchange in wanted]}

    found = stages.kept(f"scores-{file}.json", read)["scores"]
    return {(prompt, text): score for prompt, text, score in found}


def test_logs(stages: Stages, scores: Mapping[str, Scores], suspect: str) -> dict[str, Any]:
    """Rank the logged answers among their counterfactuals, as `heirmark counterfactuals test` does.

    Args:
        stages: the run.
        scores: of the suspect, of the public base ("base"), and of innocent students, by name.
        suspect: which of them is tested; all others are controls.

    Returns:
        What was found, by kind of counterfactuals and by method.
    """
    others = {name: found for name, found in scores.items() if name != suspect}
    methods = {"ours, no reference": Sources(scores[suspect], others)}
    if suspect != _BASE:
        # The base cannot be read against itself: as a control it stands alone.
        clean = {name: less(s, scores[_BASE]) for name, s in scores.items() if name != _BASE}
        own = clean.pop(suspect)
        methods["ours, public base"] = Sources(own, {**clean, _BASE: scores[_BASE]})
    found = {}
    for kind in Kind:
        logs, (n, n_others) = candidates(stages, kind), _SIZES[kind]
        ranked = {name: _ranked(logs, sources) for name, sources in methods.items()}
        found[kind.value] = {"n_answers": n, "n_others": n_others, **ranked}
    return found


def _ranked(logs: Candidates, sources: Sources) -> dict[str, Any]:
    result = assess_logs([logs], sources, ALPHA).to_dict()
    kept = ("log10_p", "lowest_log10_p", "n_scored", "unit", "verdict", "warnings")
    return {
        **{name: result[name] for name in kept},
        "e_process_log10_p": result["e_process"]["log10_p"],
        "controls": {c["name"]: c["log10_p"] for c in result["controls"]},
    }
