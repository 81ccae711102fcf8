"""Rules of validity, broken on purpose: innocent suspects that then look guilty.

Each trap is a way to fool oneself that DESIGN's rules of validity forbid. Every row tests innocent
material twice, with the rule broken and with the rule kept.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from benchmarks.inheritance.by_text import ALPHA
from benchmarks.inheritance.lessons import LESSONS
from benchmarks.inheritance.measuring import Bench
from benchmarks.inheritance.students import lesson
from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import select_pairs
from detect.suspect.answer_pairs import AnswerPairs, pool_answers
from detect.suspect.exchanges import SuspectAnswer
from detect.suspect.inheritance import TEXT_EFFECT, assess_pool
from detect.tails.nulls import log_tails
from watermark.contexts import group_rows

__all__ = ["TRAP_LESSONS", "measure_traps"]

_LOGS: Final = "dual h=2"
_REWRITTEN: Final = "dual h=2, rewritten"
TRAP_LESSONS: Final = (_LOGS, _REWRITTEN)
_N_KEYS = 10_000


def measure_traps(bench: Bench) -> dict[str, Any]:
    """Set the traps; log10 p of innocent suspects with each rule broken and kept."""
    return bench.stages.kept(
        "measured-traps.json",
        lambda: {
            "pairs filtered by the marked logs": _filtered_by_logs(bench),
            "contexts copied from a prompt that is withheld": _copied(bench),
            "repeated pairs counted again": _repeated(bench),
        },
    )


def _plan() -> Plan:
    tested = LESSONS[_LOGS]
    assert tested.config is not None
    scorer = choose_scorer(None, tested.config.scheme, "inherited")
    return Plan(tested.config, tested.key, ALPHA, TEXT_EFFECT, 0, 0, scorer)


def _innocent(bench: Bench) -> list[SuspectAnswer]:
    """Take the untouched base's answers."""
    return bench.base_answers()


def _filtered_by_logs(bench: Bench) -> dict[str, float]:
    """Which token followed a context in the logs depends on the key: no filter may look at it."""
    plan = _plan()
    pairs = pool_answers(bench.tokenizer, _innocent(bench), plan.config.context_width)
    logs = [SuspectAnswer("", row["text"]) for row in lesson(bench.stages, _LOGS)]
    logged = pool_answers(bench.tokenizer, logs, plan.config.context_width)
    rows, known = (np.column_stack([p.contexts, p.tokens]) for p in (pairs, logged))
    group = group_rows(np.concatenate([known, rows]))[1]
    kept = np.isin(group[len(known) :], group[: len(known)])
    filtered = AnswerPairs(
        pairs.contexts[kept], pairs.tokens[kept], pairs.places[kept], pairs.n_tokens, {}
    )
    return {
        "broken": assess_pool(plan, filtered).tail.log10_p,
        "kept": assess_pool(plan, pairs).tail.log10_p,
    }


def _copied(bench: Bench) -> dict[str, float]:
    """The untouched base rewrites marked stories: what it copies is the prompt's mark."""
    plan = _plan()
    sources = lesson(bench.stages, _LOGS)
    written = lesson(bench.stages, _REWRITTEN)
    shown = [
        SuspectAnswer(source["text"], row["text"])
        for source, row in zip(sources, written, strict=False)
    ]
    withheld = [SuspectAnswer("", answer.text) for answer in shown]
    broken, kept = (
        assess_pool(plan, pool_answers(bench.tokenizer, answers, plan.config.context_width))
        for answers in (withheld, shown)
    )
    return {"broken": broken.tail.log10_p, "kept": kept.tail.log10_p}


def _repeated(bench: Bench) -> dict[str, Any]:
    """Count every pair as often as it occurs: over fresh keys, how often is p at most 0.001?"""
    plan = _plan()
    h, scorer = plan.config.context_width, plan.scoring
    answers = bench.tokenizer.encode_many([a.text for a in _innocent(bench)])
    rows = [
        np.column_stack([s.contexts, s.tokens])
        for s in (select_pairs(ids, h, drop_repeated_contexts=False) for ids in answers)
    ]
    pairs = np.concatenate(rows)
    first, group = group_rows(pairs)
    times = np.bincount(group).astype(np.float64)
    contexts, tokens = pairs[first, :-1], pairs[first, -1]
    keys = decoy_keys(_N_KEYS, 1)
    found = {}
    for rule, weights in (("broken", times), ("kept", np.ones(len(times)))):
        centred = decoy_statistics(scorer, keys, contexts, tokens, weights)
        n = int(weights.sum())
        logs = log_tails(scorer.law, centred + n * scorer.law.mean, np.full(_N_KEYS, n))
        found[rule] = float((logs <= np.log(1e-3)).mean())
    return {**found, "n_keys": _N_KEYS, "level": 1e-3}
