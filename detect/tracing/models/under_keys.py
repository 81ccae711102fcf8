"""One model's pairs under several keys: they are read once, and scored under each key.

H0 of key k: the model is independent of it. Pairs, weights and scorer come from the model and from
texts alone, so that each key's test is the one that `heirmark probe` makes (`detect.suspect`).
Under independent keys the scores under all of them together are independent too, which makes the
tests of several keys pooled exact as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from detect.decoys import (
    AUTOMATIC,
    DecoyResult,
    affordable_decoys,
    decoy_keys,
    decoy_statistics,
    ranked,
)
from detect.finding import Finding, Plan, Sums, null_tail, settle
from detect.finding import conclude as concluded
from detect.key_floor import with_key_floor
from detect.results import Tail
from detect.scoring.score_tables import Scorer
from detect.scoring.scores import Selection, score_pairs
from detect.suspect.answer_pairs import AnswerPairs
from detect.suspect.distributions import effect_on, spread_of
from detect.suspect.inheritance import Outcome
from detect.suspect.reading import PairWeights
from detect.suspect.weighing import weigh
from detect.tails.convolution import Part
from detect.tails.mixed_sums import MixedLaw
from detect.tails.nulls import tail
from detect.tails.weighted import weighted_tail
from detect.tracing.models.pair_laws import PairLaws, pair_laws
from detect.unlike_keys import refuse_like_keys
from watermark.config import WatermarkConfig
from watermark.keys import Key

__all__ = ["Heard", "Scored", "Sum", "heard_of_answers", "heard_of_pairs", "refuse_like"]


def refuse_like(keys: Sequence[Key], config: WatermarkConfig, names: Sequence[str]) -> None:
    """Refuse keys that another engine's hash merges: one's students would be the other's.

    Args:
        keys: the keys.
        config: the deployment.
        names: what an error calls them.

    Raises:
        ConfigError: names two keys of the same words, or nearly.
    """
    refuse_like_keys(
        np.stack([config.source.key_of(key) for key in keys]),
        config.source,
        n_streams=config.scheme.n_streams,
        context_width=config.context_width,
        name=lambda row: f"the key {names[row]}",
    )


@final
@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard of one model: pairs, and what scores them under any key.

    Attributes:
        plan: what was fixed beforehand; its key is not used.
        scorer: of the words of all pairs, in their order.
        contexts: int64, shape (n, h), distinct with `tokens`.
        tokens: int64, shape (n,).
        weights: float64, shape (n,), or None where the scores hold them.
        n_telling: units that count towards a negative verdict.
        n_tokens: tokens looked at.
        reasons: unscored ones, by reason.
        reading: by weights and logprobs, what the pairs come from; None by text.
    """

    plan: Plan
    scorer: Scorer
    contexts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    weights: NDArray[np.float64] | None
    n_telling: int
    n_tokens: int
    reasons: dict[str, int]
    reading: dict[str, float] | None = None

    @property
    def is_independent(self) -> bool:
        """True if words of distinct pairs are independent, so that sums have exact laws."""
        return self.plan.config.source.null == "independent"

    def under(self, keys: Sequence[Key]) -> Scored:
        """Score the pairs under each key, and under decoys that all keys share.

        Raises:
            ConfigError: two keys of the same words, or nearly.
        """
        config = self.plan.config
        refuse_like(keys, config, [key.key_id for key in keys])
        selection = Selection(
            np.empty(0, np.int64), np.empty(0, np.int8), self.contexts, self.tokens
        )
        rows = [
            score_pairs(selection, config, config.source.under(key), self.scorer) for key in keys
        ]
        return Scored(self, tuple(keys), np.array(rows).reshape(len(keys), -1), self._decoys())

    def _decoys(self) -> NDArray[np.float64]:
        source, n = self.plan.config.source, self.plan.n_decoys
        if not n and source.null == "decoys":
            n = AUTOMATIC
        if not len(self.tokens):
            n = 0
        if n == AUTOMATIC:
            n = affordable_decoys(len(self.tokens), self.scorer.n_streams, source.word_cost)
        keys = decoy_keys(n, self.plan.seed, source)
        return decoy_statistics(
            self.scorer, keys, self.contexts, self.tokens, self.weights, source=source
        )


class Sum(NamedTuple):
    """A sum of scores over all pairs and some keys, less its mean.

    Attributes:
        tail: upper tail under H0: independent of all of these keys.
        z: in null standard deviations.
    """

    tail: Tail
    z: float


@final
@dataclass(frozen=True, eq=False)
class Scored:
    """Pairs under several keys.

    Attributes:
        heard: the pairs.
        keys: the keys.
        scores: float64, shape (keys, n), without weights.
        decoys: float64, shape (M,), centred statistics under decoy keys.
    """

    heard: Heard
    keys: tuple[Key, ...]
    scores: NDArray[np.float64]
    decoys: NDArray[np.float64]

    @property
    def centred(self) -> NDArray[np.float64]:
        """Statistics less their mean, float64, shape (keys,)."""
        centred = self.scores - self.heard.scorer.law.mean
        weights = self.heard.weights
        sums: NDArray[np.float64] = centred.sum(axis=1) if weights is None else centred @ weights
        return sums

    @property
    def deviation(self) -> float:
        """Null standard deviation of one key's statistic; 1 where nothing was scored."""
        weights, n = self.heard.weights, self.scores.shape[1]
        size = float(n) if weights is None else float(weights @ weights)
        return math.sqrt(self.heard.scorer.law.variance * size) if n else 1.0

    @property
    def laws(self) -> PairLaws:
        """Of the scores times their weights."""
        laws = pair_laws(self.heard.scorer, self.scores.shape[1])
        return laws.times(self.heard.weights)

    @property
    def weighted(self) -> NDArray[np.float64]:
        """Scores times their weights, float64, shape (keys, n)."""
        weights = self.heard.weights
        return self.scores if weights is None else self.scores * weights

    def outcome(self, index: int, level: float) -> Outcome:
        """Test one key, as a probe does.

        Args:
            index: row of `keys`.
            level: of all keys together; this one has its part.

        Returns:
            The test.
        """
        heard = self.heard
        plan = replace(
            heard.plan,
            key=self.keys[index],
            scorer=heard.scorer,
            alpha=level / len(self.keys),
        )
        finding = self._by_text(plan, index) if heard.reading is None else self._read(plan, index)
        return Outcome(finding, heard.n_tokens, heard.reasons, heard.reading)

    def _by_text(self, plan: Plan, index: int) -> Finding:
        statistic = float(self.scores[index].sum())
        null = null_tail(plan, self.heard.contexts, self.heard.tokens, statistic)
        sums = Sums(self.scores.shape[1], statistic, null)
        return concluded(plan, sums, self._rank(index), None)

    def _read(self, plan: Plan, index: int) -> Finding:
        heard, centred = self.heard, float(self.centred[index])
        null, decoys = self.pooled([index]).tail, self._rank(index)
        verdict, warnings = settle(plan, null, decoys, heard.n_telling)
        shown = float(self.scores[index].sum()) if heard.weights is None else centred
        n = self.scores.shape[1]
        if not n:
            warnings = (
                *warnings,
                "No pair has any weight: the suspect equals its reference, or nothing was read.",
            )
        return Finding(plan, shown, n, null, decoys, verdict, None, warnings)

    def _rank(self, index: int) -> DecoyResult | None:
        if not len(self.decoys):
            return None
        return ranked(
            float(self.centred[index]), self.decoys, self.deviation or 1.0, self.heard.plan.seed
        )

    def pooled(self, which: Sequence[int]) -> Sum:
        """Test some keys together by the sum of their scores.

        H0: the model is independent of all of them. Exact, or as exact as one key's test; where
        words depend on each other, by the rank among sums of as many decoys.

        Args:
            which: rows of `keys`, at least one.

        Returns:
            The tail of the sum.
        """
        total = float(self.centred[list(which)].sum())
        z = total / (self.deviation * math.sqrt(len(which)) or 1.0)
        null = self._tail(list(which), total)
        return Sum(with_key_floor(null, self.heard.plan.config.source, len(which)), z)

    def _tail(self, which: list[int], total: float) -> Tail:
        law, weights, m = self.heard.scorer.law, self.heard.weights, len(which)
        n = self.scores.shape[1]
        if not n:
            return Tail(0.0, 0.0, "none")
        if not self.heard.is_independent:
            return self._ranked_tail(m, total)
        if weights is not None:
            return weighted_tail(law, np.tile(weights, m), total)
        if isinstance(law, MixedLaw):
            law = MixedLaw(tuple(Part(part.law, m * part.n) for part in law.parts))
        return tail(law, total + n * m * law.mean, n * m)

    def _ranked_tail(self, m: int, total: float) -> Tail:
        """Rank a sum over m keys among sums over m decoys each."""
        groups = self.decoys[: len(self.decoys) // m * m].reshape(-1, m).sum(axis=1)
        found = ranked(total, groups, 1.0, self.heard.plan.seed)
        log10_p = math.log10(found.p_value)
        return Tail(log10_p, log10_p, "decoys")


def heard_of_answers(plan: Plan, pairs: AnswerPairs, scorer: Scorer) -> Heard:
    """Take the distinct pairs of answers, and what scores them (`inheritance.pool_scorer`)."""
    n = len(pairs.tokens)
    return Heard(plan, scorer, pairs.contexts, pairs.tokens, None, n, pairs.n_tokens, pairs.reasons)


def heard_of_pairs(plan: Plan, pairs: PairWeights, n_tokens: int) -> Heard:
    """Take pairs with weights, of reading texts or of what an endpoint reports."""
    config = plan.config
    weighed = weigh(config.scheme, pairs.without_contexts_of(config.source.unkeyed_ids))
    return Heard(
        replace(plan, effect=effect_on(plan, pairs)),
        weighed.scorer,
        weighed.contexts,
        weighed.tokens,
        weighed.weights,
        int(weighed.n_telling * pairs.coverage),
        n_tokens,
        pairs.reasons,
        spread_of(pairs, weighed.scorer.law),
    )
