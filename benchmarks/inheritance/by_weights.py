"""Tests by open weights, on the same reading texts: the published one, and ours.

Published (Sander et al., NeurIPS 2024): reading mode, each distinct pair of a context and the
suspect's likeliest token once; here with an exact tail, on unmarked and on marked texts. Ours reads
unmarked texts and scores the whole next-token distribution, less that of a clean base where there
is one, added up over the texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
import torch

from benchmarks.inheritance.by_text import ALPHA, z_of
from benchmarks.inheritance.lessons import Lesson
from detect.decoys import decoy_keys, decoy_statistics
from detect.finding import Plan, assess_scores
from detect.results import Tail
from detect.scoring.scores import Selection, score_pairs
from detect.suspect.distributions import WEIGHTS_EFFECT, assess_pairs
from detect.suspect.exchanges import Positions, ReadingText
from detect.suspect.foreign_reading import ForeignReader, foreign_pairs
from detect.suspect.marked_reading import assess_marked_reading
from detect.suspect.reading import PairWeights, Reader, read_pairs
from detect.suspect.weighing import weigh
from detect.tails.convolution import convolution_log_tails
from detect.tails.mixed_sums import MixedLaw
from detect.tails.nulls import log_tails
from watermark.prf import Prf
from watermark.schemes import Scheme
from watermark.tokens import TextTokenizer

__all__ = [
    "Likeliest",
    "fresh_key_p_values",
    "read_argmax",
    "read_by",
    "read_by_foreigner",
    "test_marked",
    "test_weights",
]

_PUBLISHED: Final = "published (argmax)"


@final
@dataclass(frozen=True)
class Likeliest:
    """A reader that says its likeliest token and nothing else: the published reading mode."""

    reader: Reader

    def read(self, texts: Sequence[ReadingText]) -> Iterator[Positions]:
        """Yield distributions that lie on the likeliest token."""
        for positions in self.reader.read(texts):
            best = torch.zeros_like(positions.probabilities)
            best.scatter_(1, positions.probabilities.argmax(dim=1, keepdim=True), 1.0)
            yield Positions(positions.index, best)


def read_by(
    lesson: Lesson,
    tokenizer: TextTokenizer,
    suspect: Reader,
    base: Reader | None,
    texts: Sequence[ReadingText],
) -> dict[str, PairWeights]:
    """Collect the pairs and weights of each method that these readers allow."""
    known = _known(lesson, tokenizer)
    found = read_argmax(lesson, tokenizer, suspect, texts)
    found["ours, no reference"] = read_pairs(suspect, None, texts, **known)
    if base is not None:
        found["ours, clean base"] = read_pairs(suspect, base, texts, **known)
    return found


def read_by_foreigner(
    lesson: Lesson,
    tokenizer: TextTokenizer,
    suspect: ForeignReader,
    base: Reader | None,
    exchanges: Sequence[tuple[str, str]],
) -> dict[str, PairWeights]:
    """Collect what `read_by` does, of a suspect with a tokenizer of its own.

    The published method reads the likeliest of the teacher's tokens, which the student has not.
    """
    assert lesson.config is not None
    found = {"ours, no reference": None, "ours, clean base": base}
    return {
        name: foreign_pairs(
            tokenizer, suspect, clean, exchanges, context_width=lesson.config.context_width
        )
        for name, clean in found.items()
        if clean is not None or name == "ours, no reference"
    }


def read_argmax(
    lesson: Lesson, tokenizer: TextTokenizer, suspect: Reader, texts: Sequence[ReadingText]
) -> dict[str, PairWeights]:
    """Collect the pairs of the published method alone."""
    pairs = read_pairs(Likeliest(suspect), None, texts, **_known(lesson, tokenizer))
    # Once each, however often it was met.
    return {_PUBLISHED: replace(pairs, weights=np.ones(len(pairs.weights)))}


def _known(lesson: Lesson, tokenizer: TextTokenizer) -> dict[str, Any]:
    assert lesson.config is not None
    return {
        "context_width": lesson.config.context_width,
        "special_ids": tokenizer.special_ids,
    }


def test_weights(lesson: Lesson, read: dict[str, PairWeights]) -> dict[str, Any]:
    """Test what was read under the lesson's key, method by method."""
    assert lesson.config is not None
    plan = Plan(lesson.config, lesson.key, ALPHA, WEIGHTS_EFFECT, 0, 0)
    found = {}
    for name, pairs in read.items():
        tail = (
            _published_tail(plan, pairs) if name == _PUBLISHED else assess_pairs(plan, pairs).tail
        )
        found[name] = {
            "n_positions": pairs.n_positions,
            "n_pairs": len(pairs.tokens),
            "log10_p": tail.log10_p,
            "log10_p_ceiling": tail.log10_p_ceiling,
            "z": z_of(tail.log10_p),
        }
    return found


def test_marked(
    lesson: Lesson,
    tokenizer: TextTokenizer,
    suspect: Reader,
    base: Reader,
    texts: Sequence[ReadingText],
) -> dict[str, Any]:
    """Test what a suspect thinks of texts under the lesson's key: an e-process, so a bound."""
    assert lesson.config is not None
    plan = Plan(lesson.config, lesson.key, ALPHA, WEIGHTS_EFFECT, 0, 0)
    outcome = assess_marked_reading(plan, tokenizer, suspect, base, texts)
    log10_p = outcome.finding.tail.log10_p
    return {"ours, clean base": {"log10_p": log10_p, "z": z_of(log10_p)}}


def _published_tail(plan: Plan, pairs: PairWeights) -> Tail:
    """The scheme's own score of each distinct pair, with its exact tail."""
    nothing = np.empty(0, np.int64)
    selection = Selection(nothing, nothing.astype(np.int8), pairs.contexts, pairs.tokens)
    scores = score_pairs(selection, plan.config, Prf.from_key(plan.key))
    return assess_scores(plan, pairs.contexts, pairs.tokens, scores).tail


def fresh_key_p_values(
    lesson: Lesson, read: dict[str, PairWeights], n_keys: int, seed: int
) -> dict[str, list[float]]:
    """Test what was read under keys that were never used; p-values by method."""
    assert lesson.config is not None
    scheme, keys = lesson.config.scheme, decoy_keys(n_keys, seed)
    return {
        name: np.exp(_fresh_logs(scheme, keys, pairs, published=name == _PUBLISHED)).tolist()
        for name, pairs in read.items()
    }


def _fresh_logs(
    scheme: Scheme, keys: np.ndarray, pairs: PairWeights, *, published: bool
) -> np.ndarray:
    if published:
        n = np.full(len(keys), len(pairs.tokens))
        sums = decoy_statistics(scheme, keys, pairs.contexts, pairs.tokens)
        return log_tails(scheme.law, sums + n * scheme.law.mean, n)
    w = weigh(scheme, pairs)
    sums = decoy_statistics(w.scorer, keys, w.contexts, w.tokens, w.weights)
    if isinstance(law := w.scorer.law, MixedLaw):
        units = np.rint((sums + law.n * law.mean) / law.parts[0].law.step)
        return convolution_log_tails(law.parts, units.astype(np.int64))
    tails = [w.tail(s).log10_p for s in sums.tolist()]
    return np.array(tails) / math.log10(math.e)
