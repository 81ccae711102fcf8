"""What a search for the writer fixes before it looks: keys, score, level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

from detect.key_floor import key_floor
from detect.mark_strength import mark_strength
from detect.results import ALPHA, n_needed
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.scores import refuse_dependent_words
from detect.scoring.units import score_step
from detect.text import DIRECT_EFFECT
from detect.tracing.texts.families import KeyFamily
from detect.tracing.texts.passages import PassageTable, passage_table
from detect.unlike_keys import refuse_like_keys
from watermark.config import WatermarkConfig

__all__ = ["TracePlan"]

# Of a document's level: the rest is its sum's.
_PASSAGE_SHARE: Final = 1 / 4


@final
@dataclass(frozen=True)
class TracePlan:
    """What was fixed before looking.

    Attributes:
        config: the deployment.
        family: the keys that could be named.
        alpha: family-wise level: the chance that anybody is named wrongly.
        score: name of the score; None is the default for marked text.
        n_decoys: families of fresh keys; 0 for none, `detect.decoys.AUTOMATIC` for what the cost
            allows.
        seed: of fresh keys, and of the order of documents for shares.
        piece_tokens: documents are cut into pieces of so many tokens, each of which then counts as
            a document; None leaves them whole.
        with_passages: whether documents are also searched for passages, where the scheme has a
            likelihood (`detect.tracing.texts.passages`); fixed beforehand, as all else is.

    Raises:
        ConfigError: words that depend on each other; two keys of the same words, or nearly: no
            search is planned among them.
    """

    config: WatermarkConfig
    family: KeyFamily
    alpha: float = ALPHA
    score: str | None = None
    n_decoys: int = 0
    seed: int = 0
    piece_tokens: int | None = None
    with_passages: bool = True

    def __post_init__(self) -> None:
        if self.piece_tokens is not None and self.piece_tokens < 1:
            raise ValueError(f"pieces need at least one token, got {self.piece_tokens}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")
        refuse_dependent_words(self.config.source)
        refuse_like_keys(
            self.family.integers,
            self.config.source,
            n_streams=self.scorer.n_streams,
            context_width=self.config.context_width,
            name=lambda row: f"the key of {self.family.accounts[row].name!r}",
        )

    @property
    def floor(self) -> float:
        """Log10 of what no adjusted p-value of the family falls below: `key_floor`."""
        return key_floor(self.config.source, len(self.family))

    @cached_property
    def scorer(self) -> Scorer:
        """What scores words."""
        return choose_scorer(self.score, self.config.scheme, "direct")

    @cached_property
    def step(self) -> float:
        """A score is so many units: `detect.scoring.units.score_step`."""
        return score_step(self.scorer)

    @cached_property
    def passages(self) -> PassageTable | None:
        """What finds passages in documents; None where only sums are looked at."""
        return passage_table(self.config.scheme) if self.with_passages else None

    @property
    def sum_cost(self) -> float:
        """Log10 of what a document's sum pays for its passages being looked at as well."""
        return -math.log10(1 - _PASSAGE_SHARE) if self.passages else 0.0

    @property
    def passage_cost(self) -> float:
        """Log10 of what its passages pay."""
        return -math.log10(_PASSAGE_SHARE)

    def n_powered(self, n_tests: float) -> int:
        """Count the scored pairs below which finding nothing among so many tests means nothing."""
        return n_needed(DIRECT_EFFECT * mark_strength(self.config), self.alpha / n_tests)
