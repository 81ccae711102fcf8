"""Tests by what an endpoint reports of its own answers: the likeliest tokens at each position.

The students of this benchmark stand behind no endpoint. What one would report is computed: the
student reads its own answers with teacher forcing, and of each position its likeliest tokens are
kept, as bytes, with their log-probabilities at temperature 1. The answers are kept as text, so that
where they would be cut otherwise than they were drawn, what is read is the tokens of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.inheritance.by_text import ALPHA, z_of
from benchmarks.inheritance.lessons import Lesson
from detect.finding import Plan
from detect.suspect.alignment import ids_by_bytes
from detect.suspect.distributions import WEIGHTS_EFFECT, assess_reports
from detect.suspect.exchanges import Positions, ReadingText, ReportedPosition, SuspectAnswer
from detect.suspect.reading import PairWeights, Reader
from detect.suspect.reported import reported_pairs
from watermark.tokens import TextTokenizer

__all__ = ["N_CANDIDATES", "pairs_of", "reported_answers", "test_reports"]

# As many as the most generous endpoints report.
N_CANDIDATES: Final = 20


def reported_answers(
    tokenizer: TextTokenizer,
    suspect: Reader,
    answers: Sequence[SuspectAnswer],
    reading: Sequence[ReadingText],
) -> list[SuspectAnswer]:
    """Add to answers what an endpoint would have reported of them.

    Args:
        tokenizer: the suspect's, here the provider's as well.
        suspect: what gave the answers.
        answers: its answers.
        reading: the same answers as texts to be read, in the suspect's tokens.

    Returns:
        The answers with their reported positions; one without tokens has none.
    """
    names = {token: name for name, token in ids_by_bytes(tokenizer).items()}
    found = list(answers)
    full = [index for index, text in enumerate(reading) if text.token_ids]
    for positions in suspect.read([reading[index] for index in full]):
        index = full[positions.index]
        told = SuspectAnswer(
            answers[index].prompt,
            answers[index].text,
            _reported(tokenizer.pieces(answers[index].text), positions, names),
        )
        found[index] = told
    return found


def _reported(
    pieces: Sequence[str], positions: Positions, names: dict[int, bytes]
) -> tuple[ReportedPosition, ...]:
    """Name each position's likeliest tokens; special ones and parts of characters have no name."""
    likeliest = positions.probabilities.topk(N_CANDIDATES, dim=1)
    logs = likeliest.values.double().log().tolist()
    starts = np.cumsum([0, *(len(piece.encode()) for piece in pieces)])[:-1].tolist()
    reported = []
    for start, ids, row in zip(starts, likeliest.indices.tolist(), logs, strict=True):
        shown = [(names[i], log) for i, log in zip(ids, row, strict=True) if i in names]
        tokens, log_probs = zip(*shown, strict=True) if shown else ((), ())
        reported.append(ReportedPosition(start, tokens, log_probs))
    return tuple(reported)


def pairs_of(
    lesson: Lesson,
    tokenizer: TextTokenizer,
    answers: Sequence[SuspectAnswer],
    base: Reader | None,
    reading: Sequence[ReadingText],
) -> dict[str, PairWeights]:
    """Collect the pairs and weights of each method that is possible.

    Args:
        lesson: under whose key it is tested.
        tokenizer: the provider's.
        answers: with what was reported of them.
        base: the public base; None where it is the suspect itself.
        reading: the answers as texts for the base to read.

    Returns:
        The pairs, by method.
    """
    assert lesson.config is not None
    h = lesson.config.context_width
    found = {"ours, no reference": reported_pairs(tokenizer, answers, h)}
    if base is not None:
        found["ours, public base"] = reported_pairs(
            tokenizer, answers, h, reference=base, reading=reading
        )
    return found


def test_reports(lesson: Lesson, pairs: dict[str, PairWeights], n_tokens: int) -> dict[str, Any]:
    """Test reported candidates under the lesson's key, method by method."""
    assert lesson.config is not None
    plan = Plan(lesson.config, lesson.key, ALPHA, WEIGHTS_EFFECT, 0, 0)
    found: dict[str, Any] = {"n_tokens": n_tokens, "n_candidates": N_CANDIDATES}
    for name, of_method in pairs.items():
        outcome = assess_reports(plan, of_method, n_tokens)
        tail = outcome.finding.tail
        found[name] = {
            "n_positions": of_method.n_positions,
            "n_scored": outcome.finding.n_scored,
            "log10_p": tail.log10_p,
            "log10_p_ceiling": tail.log10_p_ceiling,
            "z": z_of(tail.log10_p),
        }
    return found
