"""Reported log-probabilities: what an endpoint says of its own answers, as weights of pairs.

An endpoint that reports the likeliest tokens at each position tells far more than one drawn token.
The suspect's tokens may be other ones than the provider's. The answer is cut by the provider's
tokenizer; where a provider's token begins at the same byte as a reported one, each reported token
whose bytes are those of a provider's token moves that pair: by its probability, less that of a
public model where one reads along. What does not match costs power alone.

H0: the suspect is independent of the key; its answers, its reports and all that is made of them
then are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detect.suspect.alignment import ids_by_bytes, known_starts
from detect.suspect.exchanges import ReadingText, ReportedPosition, SuspectAnswer
from detect.suspect.reading import Moves, PairSums, PairWeights, Reader, readable_positions
from watermark.contexts import windows
from watermark.errors import ModelError
from watermark.tokens import TextTokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["reported_pairs"]


def reported_pairs(
    tokenizer: TextTokenizer,
    answers: Sequence[SuspectAnswer],
    context_width: int,
    *,
    reference: Reader | None = None,
    reading: Sequence[ReadingText] = (),
) -> PairWeights:
    """Collect the weights of all pairs that a suspect reported on.

    Args:
        tokenizer: the provider's.
        answers: the suspect's, with what it reported of them.
        context_width: h.
        reference: a public model in the provider's tokens, or None.
        reading: with a reference, what it reads: one text an answer, in the provider's tokens.

    Returns:
        The pairs.

    Raises:
        ModelError: no answer came with log-probabilities.
    """
    if not any(answer.reported for answer in answers):
        raise ModelError(
            "no answer came with log-probabilities that fit its text: the endpoint offers none, or "
            "was asked for none (--top-logprobs). Probe with --access text"
        )
    ids_of = ids_by_bytes(tokenizer)
    sums, counts, n_positions = PairSums(context_width), Counter[str](), 0
    for index, clean in _readings(len(answers), reference, reading):
        answer = answers[index]
        ids = tokenizer.encode(answer.text)
        prompt = tuple(tokenizer.encode(answer.prompt).tolist())
        text = ReadingText(prompt, tuple(ids.tolist()))
        kept, reasons = readable_positions(text, context_width, tokenizer.special_ids)
        aligned = _aligned(tokenizer.pieces(answer.text), answer.reported)
        # A reference reads no further than it can.
        end = len(ids) if clean is None else len(clean)
        usable = [t for t in kept.tolist() if t in aligned and t < end]
        counts.update(reasons, not_reported=len(kept) - len(usable))
        n_positions += len(usable)
        contexts = windows(ids, context_width)
        for t in usable:
            move = _move(aligned[t], ids_of, None if clean is None else clean[t])
            sums.add(contexts[t - context_width][None], move)
    return sums.result(n_positions, dict(counts))


def _readings(
    n: int, reference: Reader | None, reading: Sequence[ReadingText]
) -> Iterator[tuple[int, Tensor | None]]:
    """Yield each answer's index with what the reference thinks of it, one at a time."""
    if reference is None:
        yield from ((index, None) for index in range(n))
        return
    full = [index for index, text in enumerate(reading) if text.token_ids]
    for positions in reference.read([reading[index] for index in full]):
        yield full[positions.index], positions.probabilities


def _move(position: ReportedPosition, ids_of: dict[bytes, int], clean: Tensor | None) -> Moves:
    """Name the reported tokens that the provider has too, each once, and their probabilities."""
    shown = dict(zip(position.tokens, position.log_probs, strict=True))
    ours = {ids_of[token]: math.exp(p) for token, p in shown.items() if token in ids_of}
    if clean is not None:
        ours = {token: p for token, p in ours.items() if token < len(clean)}
    tokens = np.array([list(ours)], np.int64)
    reference = None if clean is None else clean[tokens[0]].double().numpy()[None]
    return Moves(tokens, np.array([list(ours.values())], np.float64), reference)


def _aligned(
    pieces: Sequence[str], reported: Sequence[ReportedPosition]
) -> dict[int, ReportedPosition]:
    """Find the provider's tokens that begin where a reported token does."""
    starts = known_starts(pieces)
    return {starts[r.start]: r for r in reported if r.start in starts}
