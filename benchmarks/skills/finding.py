"""Is the mark found in pieces of 100 and 400 tokens?

A piece is what consecutive answers of one round give together: short answers are the rule in code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.skills.answering import Said
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import score_pairs, select_pairs
from detect.tails.nulls import log_tails
from watermark.config import WatermarkConfig
from watermark.contexts import first_occurrences
from watermark.tokens import TextTokenizer

__all__ = ["LENGTHS", "find_in_pieces"]

LENGTHS: Final = (100, 400)
LOG10_ALPHA: Final = -6.0


def find_in_pieces(
    config: WatermarkConfig, tokenizer: TextTokenizer, rounds: Sequence[Sequence[Said]]
) -> dict[str, Any]:
    """Test pieces of each length under the key of their round.

    H0 of each: its tokens are independent of the key. Exact tails.

    Args:
        config: the deployment.
        tokenizer: the provider's.
        rounds: answers, round by round.

    Returns:
        For each length: pieces, share found at 1e-6, median log10 p and scored pairs.
    """
    return {str(length): _found(config, tokenizer, rounds, length) for length in LENGTHS}


def _found(
    config: WatermarkConfig, tokenizer: TextTokenizer, rounds: Sequence[Sequence[Said]], length: int
) -> dict[str, Any]:
    scorer = choose_scorer(None, config.scheme, "direct")
    sums, counts = [], []
    for said in rounds:
        for piece in _pieces(said, length):
            scores = _scores(config, tokenizer, piece)
            sums.append(float(scores.sum()))
            counts.append(len(scores))
    if not sums:
        return {"n_pieces": 0}
    n = np.array(counts, np.int64)
    logs = np.zeros(len(n))
    logs[n > 0] = log_tails(scorer.law, np.array(sums)[n > 0], n[n > 0]) / math.log(10)
    return {
        "n_pieces": len(n),
        "found_at_1e-6": float(np.mean(logs <= LOG10_ALPHA)),
        "median_log10_p": float(np.median(logs)),
        "median_scored": float(np.median(n)),
    }


def _pieces(said: Sequence[Said], length: int) -> Iterator[list[Said]]:
    """Cut a round's answers, one after another, into pieces of so many tokens."""
    piece: list[Said] = []
    missing = length
    for answer in said:
        ids = answer.token_ids
        while len(ids) >= missing:
            yield [*piece, _part(answer, ids[:missing])]
            ids, piece, missing = ids[missing:], [], length
        if len(ids):
            piece.append(_part(answer, ids))
            missing -= len(ids)


def _part(answer: Said, ids: NDArray[np.int64]) -> Said:
    return Said(answer.prompt_ids, ids, "", answer.key)


def _scores(
    config: WatermarkConfig, tokenizer: TextTokenizer, piece: Sequence[Said]
) -> NDArray[np.float64]:
    """Score the distinct pairs of a piece."""
    chosen = [
        select_pairs(
            part.token_ids,
            config.context_width,
            prompt_ids=part.prompt_ids,
            special_ids=tokenizer.special_ids,
            drop_repeated_contexts=True,
        )
        for part in piece
    ]
    words = config.source.under(piece[0].key)
    scorer = choose_scorer(None, config.scheme, "direct")
    scores = np.concatenate([score_pairs(s, config, words, scorer) for s in chosen])
    pairs = np.concatenate([np.column_stack([s.contexts, s.tokens]) for s in chosen])
    return scores[first_occurrences(pairs)]
