"""Reported log-probabilities: what an endpoint says of its own answers, as weights of pairs.

An endpoint that reports the likeliest tokens at each position tells far more than one drawn token.
The suspect's tokens may be other ones than the provider's. The answer is cut by the provider's
tokenizer; where a provider's token begins at the same byte as a reported one, each reported token
whose bytes are those of a provider's token gives that pair a weight, the root of its probability,
less that of a public model where one reads along. What does not match costs power alone.

H0: the suspect is independent of the key; its answers, its reports and hence all weights then are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detect.suspect.exchanges import ReadingText, ReportedPosition, SuspectAnswer
from detect.suspect.reading import PairWeights, Reader, readable_positions, sum_pairs
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
    ids_of = _ids_by_bytes(tokenizer)
    rows, weights, counts, n_positions = [], [], Counter[str](), 0
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
            for token, root in _roots(aligned[t], ids_of):
                rows.append(np.append(contexts[t - context_width], token))
                weights.append(root - (0.0 if clean is None else float(clean[t, token].sqrt())))
    pairs = np.array(rows, np.int64).reshape(-1, context_width + 1)
    found = {name: n for name, n in counts.items() if n}
    return sum_pairs([pairs], [np.array(weights)], context_width, n_positions, found)


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


def _roots(position: ReportedPosition, ids_of: dict[bytes, int]) -> Iterator[tuple[int, float]]:
    """Name the reported tokens that the provider has too, each once, and roots of probabilities."""
    shown = dict(zip(position.tokens, position.log_probs, strict=True))
    for token, log_prob in shown.items():
        if token in ids_of:
            yield ids_of[token], math.exp(log_prob / 2)


def _aligned(
    pieces: Sequence[str], reported: Sequence[ReportedPosition]
) -> dict[int, ReportedPosition]:
    """Find the provider's tokens that begin where a reported token does."""
    sizes = [len(piece.encode()) for piece in pieces]
    starts = np.cumsum([0, *sizes])[:-1].tolist()
    by_start = {position.start: position for position in reported}
    return {
        t: by_start[start]
        for t, start in enumerate(starts)
        # Tokens that share a character stand as an empty piece before a full one: where the
        # second begins cannot be told.
        if start in by_start and sizes[t] and (t == 0 or sizes[t - 1])
    }


def _ids_by_bytes(tokenizer: TextTokenizer) -> dict[bytes, int]:
    """List the provider's tokens by what they add to a text; parts of characters are left out."""
    anchor = tokenizer.encode("a").tolist()
    before = tokenizer.decode(anchor)
    found: dict[bytes, int] = {}
    for token in range(tokenizer.vocab_size):
        # Behind an anchor: some decoders drop a space at the very start.
        text = tokenizer.decode([*anchor, token])
        if token not in tokenizer.special_ids and text.startswith(before) and "\ufffd" not in text:
            found.setdefault(text[len(before) :].encode(), token)
    found.pop(b"", None)
    return found
