"""Pilots: what was measured on some texts, so that the need of more can be planned from it.

A pilot is a sum of scores and a count for each text, and the law of a score. It comes from texts
scored under their key, from a saved result, or from `entropies`, which makes texts up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri_exp

from detect.documents import Document
from detect.planning.power import lattice_step
from detect.planning.tilting import Alternative, Diluted, tilt_to
from detect.scanning.in_order import ids_of
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import SCORES
from detect.scoring.scores import Reason, score_pairs, select_text
from watermark.config import WatermarkConfig
from watermark.errors import ResultError
from watermark.keys import Key
from watermark.schemes.laws import ScoreLaw, Tabulated
from watermark.tokens import TextTokenizer

__all__ = ["EffectPilot", "TextPilot", "pilot_of_result", "pilot_of_scores", "score_documents"]

_STEPS_PER_DEVIATION: Final = 32
_TILT_TABLE: Final = 256
_LENGTHS: Final = 24
_LEAST_SCORES: Final = 20


@final
@dataclass(frozen=True, eq=False)
class TextPilot:
    """Scores of pilot texts.

    Attributes:
        sums: float64, shape (J,), summed scores of each text.
        counts: int64, shape (J,), scored pairs of each.
        coverage: ascending lengths of a text, from 0, and scored pairs in its first tokens.
        law: of a score, all texts together; the null law tilted where only sums are known.
        source: what the pilot is, in words.
        null: law of such a score under H0.
        score_name: how results call the score.
        scores: float64 arrays in text order, where they are known.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]
    coverage: tuple[tuple[float, float], ...]
    law: ScoreLaw
    source: str
    null: ScoreLaw
    score_name: str
    scores: tuple[NDArray[np.float64], ...] | None = None

    @property
    def mean(self) -> float:
        """Mean of a score over all pairs."""
        return float(self.sums.sum() / self.counts.sum())

    def alternative(self, share: float, seed: int | None = None) -> Alternative:
        """Make the alternative that the pilot speaks for.

        The texts' means scatter more than the texts do, by the noise within each: they are drawn
        together until their spread is what analysis of variance leaves.

        Args:
            share: of the pairs that are marked, against the pilot's; the rest follow the null.
            seed: None for the pilot itself; else of another pilot that might have been: texts
                drawn with replacement, or a single text's mean shifted by its standard error.

        Returns:
            The alternative.
        """
        rng = np.random.default_rng(seed) if seed is not None else None
        n_texts = len(self.sums)
        rows = rng.integers(0, n_texts, n_texts) if rng else np.arange(n_texts)
        means, counts = self.sums[rows] / self.counts[rows], self.counts[rows]
        noise = self.law.cumulants(np.array([tilt_to(self.law, self.mean)])).second[0] / counts
        if n_texts == 1 and rng:
            means = means + rng.normal() * np.sqrt(noise)
        center = float((means * counts).sum() / counts.sum())
        spread = float(means.var())
        kept = math.sqrt(max(1 - float(noise.mean()) / spread, 0.0)) if spread > 0 else 0.0
        means = center + kept * (means - center)
        law: ScoreLaw = self.law
        if share < 1:
            law = Diluted(law, self.null, share)
            means = self.null.mean + share * (means - self.null.mean)
        return Alternative(law, _tilts_to(law, means))

    def first(self, n_pairs: int) -> TextPilot:
        """Cut every text after its first pairs: how texts begin is not how they go on.

        Args:
            n_pairs: to keep, >= 1; at least 20 over all texts, else more are kept.

        Returns:
            The pilot of the beginnings; itself where scores are not known one by one.
        """
        if self.scores is None or n_pairs >= self.counts.max():
            return self
        return _beginnings(self, max(n_pairs, -(-_LEAST_SCORES // len(self.scores))))


@final
@dataclass(frozen=True, slots=True)
class EffectPilot:
    """A pilot of which only an effect is known: a weighted test of a suspect.

    Attributes:
        effect: of a token read, in null standard deviations.
        standard_error: of the effect.
        source: what the pilot is, in words.
    """

    effect: float
    standard_error: float
    source: str


def pilot_of_scores(
    scorer: Scorer,
    scores: Sequence[NDArray[np.float64]],
    scored: Sequence[NDArray[np.bool_]],
    source: str,
) -> TextPilot:
    """Make a pilot of scored texts.

    Args:
        scorer: what scored them.
        scores: float64 arrays, the scores of each text.
        scored: bool arrays, for each token of each text whether it is scored.
        source: what the pilot is, in words.

    Returns:
        The pilot; texts without any score are left out.

    Raises:
        ResultError: fewer than 20 scores.
    """
    filled = tuple(s for s in scores if len(s))
    n_scores = sum(map(len, filled))
    if n_scores < _LEAST_SCORES:
        raise ResultError(
            f"a pilot needs at least {_LEAST_SCORES} scored tokens, got {n_scores}; give more "
            "marked text"
        )
    sums, counts, law = _moments(scorer.law, filled)
    return TextPilot(
        sums, counts, _coverage(scored), law, source, scorer.law, scorer.score_name, filled
    )


def _moments(
    null: ScoreLaw, scores: tuple[NDArray[np.float64], ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64], Tabulated]:
    """Sums and counts of texts, and the law of all their scores on a lattice."""
    together = np.concatenate(scores)
    step = lattice_step(null) or math.sqrt(null.variance) / _STEPS_PER_DEVIATION
    values, hits = np.unique(np.rint(together / step).astype(np.int64), return_counts=True)
    law = Tabulated(step, values, hits / len(together))
    counts = np.array([len(s) for s in scores], np.int64)
    return np.array([s.sum() for s in scores]), counts, law


@lru_cache(maxsize=256)
def _beginnings(pilot: TextPilot, n_pairs: int) -> TextPilot:
    assert pilot.scores is not None
    cut = tuple(scores[:n_pairs] for scores in pilot.scores)
    sums, counts, law = _moments(pilot.null, cut)
    return replace(pilot, sums=sums, counts=counts, law=law, scores=cut)


def _coverage(scored: Sequence[NDArray[np.bool_]]) -> tuple[tuple[float, float], ...]:
    """Scored pairs in the first tokens, on average over texts of at least median length."""
    length = int(np.median([len(mask) for mask in scored]))
    long = np.array([mask[:length] for mask in scored if len(mask) >= length])
    at = np.unique(np.geomspace(1, length, _LENGTHS).round().astype(np.int64))
    pairs = np.cumsum(long, axis=1)[:, at - 1].mean(axis=0)
    return ((0.0, 0.0), *zip(at.astype(float).tolist(), pairs.tolist(), strict=True))


def score_documents(
    documents: Iterable[Document],
    tokenizer: TextTokenizer,
    config: WatermarkConfig,
    key: Key,
    scorer: Scorer,
) -> TextPilot:
    """Score marked documents under their key.

    Args:
        documents: marked text; the choice of pairs is that of `detect.text`.
        tokenizer: the provider's tokenizer.
        config: the deployment.
        key: the key.
        scorer: what scores words.

    Returns:
        The pilot.

    Raises:
        DocumentError: an id that the tokenizer does not have.
        ResultError: fewer than 20 scored tokens.
    """
    prf = config.source.under(key)
    scores, scored = [], []
    for document in documents:
        selection = select_text(ids_of(document, tokenizer), config, tokenizer.special_ids)
        scored.append(selection.reasons == Reason.SCORED)
        scores.append(score_pairs(selection, config, prf, scorer))
    return pilot_of_scores(scorer, scores, scored, f"{len(scores)} marked texts")


def pilot_of_result(payload: Any, config: WatermarkConfig) -> TextPilot | EffectPilot:
    """Read a pilot from a saved result of `heirmark detect`, `scan` or `probe`.

    Args:
        payload: the JSON value.
        config: the deployment, which must be the result's.

    Returns:
        The pilot: with the law of scores where tokens are listed, else the null law tilted; by
        weights only an effect.

    Raises:
        ResultError: no such result, or one of another scheme, or nothing scored.
    """
    if not isinstance(payload, dict) or payload.get("kind") not in ("text", "corpus", "probe"):
        raise ResultError(
            "a pilot is a JSON result of heirmark detect, scan or probe, or a JSONL corpus of "
            "marked text with --key"
        )
    try:
        _check_deployment(payload, config)
        return _read_result(payload, _scorer_of(payload, config))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ResultError):
            raise
        raise ResultError(f"the pilot is not an intact result: {error!r}") from None


def _check_deployment(payload: dict[str, Any], config: WatermarkConfig) -> None:
    found = (payload["scheme"], payload["context_width"])
    if found != (config.scheme.name, config.context_width):
        raise ResultError(
            f"the pilot is of {found[0]} with h = {found[1]}, the plan for {config.scheme.name} "
            f"with h = {config.context_width}; give the pilot's --config"
        )


def _scorer_of(payload: dict[str, Any], config: WatermarkConfig) -> Scorer:
    name = payload.get("score", "own")
    if name != config.scheme.score_name and name not in SCORES:
        raise ResultError(
            f"the pilot was scored by {name!r}, whose law is not one for all tokens; repeat it "
            f"with --score {', '.join(SCORES)}"
        )
    return SCORES[name](config.scheme) if name in SCORES else config.scheme


def _read_result(payload: dict[str, Any], scorer: Scorer) -> TextPilot | EffectPilot:
    kind, n_tokens = payload["kind"], int(payload["n_tokens"])
    if kind == "text" and (rows := payload.get("tokens")):
        scored = np.array([r["score"] is not None for r in rows])
        scores = np.array([r["score"] for r in rows if r["score"] is not None], np.float64)
        return pilot_of_scores(scorer, [scores], [scored], "one text, token by token")
    if kind == "probe" and payload.get("access") == "weights":
        return _weighted_pilot(payload, n_tokens)
    rows = [r for r in payload["documents"] if r["n_scored"]] if kind == "corpus" else [payload]
    counts = np.array([int(r["n_scored"]) for r in rows], np.int64)
    if not counts.sum():
        raise ResultError("the pilot has no scored tokens; give more marked text")
    sums = np.array([float(r["statistic"]) for r in rows])
    source = f"{len(rows)} documents" if kind == "corpus" else f"one {kind} result"
    coverage = ((0.0, 0.0), (n_tokens / len(rows), counts.sum() / len(rows)))
    return TextPilot(sums, counts, coverage, scorer.law, source, scorer.law, scorer.score_name)


def _weighted_pilot(payload: dict[str, Any], n_tokens: int) -> EffectPilot:
    """A weighted sum tells its strength by its tail: z / sqrt(tokens read), error 1 / sqrt."""
    z = -float(ndtri_exp(float(payload["log10_p"]) * math.log(10)))
    root = math.sqrt(n_tokens)
    return EffectPilot(z / root, 1 / root, f"a probe by weights, {n_tokens} tokens read")


def _tilts_to(law: ScoreLaw, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tilts of many means, by a table of K' between the extremes."""
    low, high = tilt_to(law, float(means.min())), tilt_to(law, float(means.max()))
    if not math.isfinite(low) or not math.isfinite(high):
        raise ResultError("the pilot's scores are impossible under the scheme; check the config")
    table = np.linspace(low, high, _TILT_TABLE)
    tilts: NDArray[np.float64] = np.interp(means, law.cumulants(table).first, table)
    return tilts
