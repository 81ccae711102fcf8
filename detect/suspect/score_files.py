"""Scores of given texts that were computed elsewhere, for example by an interface to log-probs."""

from __future__ import annotations

import json
from pathlib import Path

from detect.suspect.likelihoods import Exchange
from watermark.errors import DocumentError
from watermark.storage.files import read_text_file

__all__ = ["read_scores"]


def read_scores(path: str | Path) -> dict[Exchange, float]:
    """Read one score for each prompt and text.

    Args:
        path: JSONL with "prompt", "text" and "score", a number that depends on these two alone
            (best: the mean log-probability of the text's tokens). "-" is standard input.

    Returns:
        The scores.

    Raises:
        DocumentError: a line that is no such object, or two scores for one exchange; names it.
    """
    scores: dict[Exchange, float] = {}
    for number, line in enumerate(read_text_file(path).split("\n"), 1):
        if not line.strip():
            continue
        exchange, score = _scored(f"{path}, line {number}", line)
        if scores.setdefault(exchange, score) != score:
            raise DocumentError(f"{path}, line {number}: another score for the same exchange")
    return scores


def _scored(place: str, line: str) -> tuple[Exchange, float]:
    try:
        row = json.loads(line)
        prompt, text, score = row["prompt"], row["text"], row["score"]
    except (ValueError, KeyError, TypeError, RecursionError):
        prompt = text = score = None
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not (isinstance(prompt, str) and isinstance(text, str) and is_number and score == score):
        raise DocumentError(
            f'{place}: expected a JSON object with texts "prompt" and "text" and a number "score"'
        )
    return (prompt, text), float(score)
