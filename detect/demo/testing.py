"""The demo's tests: single answers, a mixed corpus, and suspects by text and by weights."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from detect.corpus import CorpusResult, scan_corpus
from detect.demo.folder import N_DECOYS, Run, read_rows
from detect.documents import Document
from detect.results import format_p
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_text
from detect.suspect.distributions import WEIGHTS_EFFECT, assess_reading
from detect.suspect.exchanges import ReadingText, SuspectAnswer
from detect.suspect.inheritance import TEXT_EFFECT, Outcome, assess_answers
from detect.suspect.open_weights import TransformersSuspect
from detect.suspect.probe import Control, ProbeResult, conclude
from detect.tails.nulls import log_tails
from watermark.cli import progress
from watermark.contexts import group_rows

__all__ = ["mixed_corpus", "probe_by_text", "probe_by_weights", "single_answers"]

Rows = list[dict[str, Any]]


def single_answers(run: Run, marked: Rows, plain: Rows) -> None:
    """Test the teacher's answers one by one and pooled: the marked and, as a control, the plain."""
    for name, rows in (("marked", marked), ("unmarked", plain)):
        started = time.monotonic()
        result = _scan(run, rows, n_decoys=N_DECOYS)
        each = np.array([d.log10_p for d in result.documents])
        payload = _without_documents(result)
        payload["median_log10_p"] = median(each.tolist())
        payload["uniformity_p_value"] = _uniformity(run, rows)
        run.found(f"{name} answers of the teacher", time.monotonic() - started, payload)
        run.say(f"    single answers: median p = {format_p(payload['median_log10_p'])}")


def _uniformity(run: Run, rows: Rows) -> float:
    """Kolmogorov-Smirnov test of uniform p-values of single answers (scipy), two-sided.

    A pair that several answers share counts in the first only: otherwise their p-values depend on
    each other, and the test, which takes them for independent, would cry wolf.
    """
    from scipy.stats import kstest

    scorer = choose_scorer(None, run.config.scheme, "direct")
    selections = [
        select_text(run.tokenizer.encode(row["text"]), run.config, run.tokenizer.special_ids)
        for row in rows
    ]
    prf = run.config.source.under(run.key)
    scores = [score_pairs(selection, run.config, prf, scorer) for selection in selections]
    pairs = [np.column_stack([selection.contexts, selection.tokens]) for selection in selections]
    answer = np.repeat(np.arange(len(rows)), [len(s) for s in scores])
    first, _ = group_rows(np.concatenate(pairs))
    n = np.bincount(answer[first], minlength=len(rows)).astype(np.int64)
    sums = np.bincount(answer[first], np.concatenate(scores)[first], len(rows)).astype(np.float64)
    p_values = np.exp(log_tails(scorer.law, sums, n))
    return float(kstest(p_values[n > 0], "uniform").pvalue)


def mixed_corpus(run: Run, marked: Rows, plain: Rows) -> None:
    """Scan a corpus in which a few answers are marked."""
    started = time.monotonic()
    rows = [*plain[run.size.n_marked :], *marked[: run.size.n_marked]]
    result = _scan(run, rows, n_decoys=N_DECOYS)
    payload = {**_without_documents(result), "n_marked": run.size.n_marked}
    run.found("mixed corpus", time.monotonic() - started, payload)
    run.say(f"    {payload['n_significant']} documents found; {run.size.n_marked} are marked")


def _scan(run: Run, rows: Rows, n_decoys: int) -> CorpusResult:
    documents = [Document(str(i), f"answer {i}", row["text"]) for i, row in enumerate(rows)]
    return scan_corpus(
        documents, tokenizer=run.tokenizer, config=run.config, key=run.key, n_decoys=n_decoys
    )


def _without_documents(result: CorpusResult) -> dict[str, Any]:
    payload = result.to_dict()
    payload.pop("documents")
    return payload


def probe_by_text(run: Run, asked: dict[str, Path]) -> None:
    """Test what student, twin and base answered."""
    tested: dict[str, Outcome] = {}
    seconds = {}
    plan = run.plan(TEXT_EFFECT, choose_scorer(None, run.config.scheme, "inherited"))
    for name, path in asked.items():
        started = time.monotonic()
        answers = [SuspectAnswer(row["full_prompt"], row["text"]) for row in read_rows(path)]
        tested[name] = assess_answers(plan, run.tokenizer, answers)
        seconds[name] = time.monotonic() - started + run.seconds(f"{name}-answers")
    _conclude(run, "text", tested, {}, seconds)


def probe_by_weights(run: Run, models: dict[str, Path], reading: Path) -> None:
    """Read the base's own unmarked answers; the base is read without a reference."""
    reference = TransformersSuspect(run.model, "base")
    texts = [
        ReadingText(
            reference.chat_ids(row["prompt"]), tuple(run.tokenizer.encode(row["text"]).tolist())
        )
        for row in read_rows(reading)[: run.size.n_reading]
    ]
    tested: dict[str, Outcome] = {}
    seconds = {}
    for name, path in models.items():
        started = time.monotonic()
        is_reference = name == "base"
        suspect = reference if is_reference else TransformersSuspect(path, name)
        with progress(sum(len(t.token_ids) for t in texts), f"reading with {name}", "tok") as bar:
            tested[name] = assess_reading(
                run.plan(WEIGHTS_EFFECT),
                run.tokenizer,
                suspect,
                None if is_reference else reference,
                texts,
                bar.update,
            )
        seconds[name] = time.monotonic() - started
    _conclude(
        run, "weights", tested, {"base": "read without a reference: it is the reference"}, seconds
    )


def _conclude(
    run: Run,
    access: Any,
    tested: dict[str, Outcome],
    notes: dict[str, str],
    seconds: dict[str, float],
) -> None:
    controls = [
        Control("twin", "clean twin", tested["twin"], notes.get("twin", "")),
        Control("base", "untouched base", tested["base"], notes.get("base", "")),
    ]
    n = run.size.n_probe if access == "text" else run.size.n_reading
    results: list[ProbeResult] = [
        conclude("student", access, tested["student"], controls, n),
        conclude("twin", access, tested["twin"], [controls[1]], n),
        conclude("base", access, tested["base"], [controls[0]], n),
    ]
    for result in results:
        run.found(f"{result.suspect} by {access}", seconds[result.suspect], result.to_dict())
