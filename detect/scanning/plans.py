"""What a scan does to every text, without the secret: it is sent to worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.finding import Plan
from detect.scoring.score_tables import Scorer
from detect.scoring.scorers import choose_scorer
from detect.scoring.units import FINE_STEP, score_step, score_units
from detect.text import DIRECT_EFFECT
from watermark.config import WatermarkConfig
from watermark.keys import Key
from watermark.prf import NativePrf

__all__ = ["ScanPlan", "make_plans", "sample_size"]

# Pairs that decoy keys are tried on: 999 keys take seconds. Where words depend on each other the
# test rests on them, so that there are more.
_SAMPLED: Final = 1 << 16
_SAMPLED_OF_DEPENDENT: Final = 1 << 20


@final
@dataclass(frozen=True)
class ScanPlan:
    """Deployment, integers of the key, score: all that scoring a text needs.

    Attributes:
        config: the deployment.
        key_integers: uint64, shape (n_key_integers,), from `WordSource.key_of`. Secret: they reach
            every worker, the master secret does not.
        score: name of the score; None is the default.
        seed: of what is drawn for a null of layers.
        n_sampled: pairs of the sample for decoy keys; 0 for none.
    """

    config: WatermarkConfig
    key_integers: NDArray[np.uint64]
    score: str | None = None
    seed: int = 0
    n_sampled: int = 0

    def __repr__(self) -> str:
        return f"ScanPlan({self.config.source.name}, key hidden)"

    @cached_property
    def scorer(self) -> Scorer:
        """What scores words."""
        return choose_scorer(self.score, self.config.scheme, "direct")

    @cached_property
    def step(self) -> float:
        """A score is so many steps: `score_step`."""
        return score_step(self.scorer)

    @property
    def is_native(self) -> bool:
        """True if words are our own PRF's."""
        return isinstance(self.config.source, NativePrf)

    @property
    def drops_contexts(self) -> bool:
        """True if a context counts once in a text, not only a pair."""
        return self.config.context_width > 0 and not self.config.source.marks_repeats

    @property
    def keeps_pairs(self) -> bool:
        """True if every pair is evidence of itself, so that nothing has to be renamed."""
        return self.config.source.tells_pairs_apart

    def units(self, words: NDArray[np.uint32]) -> NDArray[np.signedinteger]:
        """Score words in steps, rounded down.

        Args:
            words: uint32, shape (n_streams, n).

        Returns:
            int32 where the score is on a lattice, else int64; shape (n,).
        """
        return score_units(self.scorer, words)

    @property
    def units_dtype(self) -> np.dtype[np.signedinteger]:
        """Of `units`."""
        return np.dtype(np.int64 if self.step == FINE_STEP else np.int32)


def sample_size(config: WatermarkConfig, n_decoys: int) -> int:
    """Choose how many pairs are kept by themselves, for decoy keys and nulls of dependent words.

    Args:
        config: the deployment.
        n_decoys: decoy keys; 0 for none.

    Returns:
        The number; 0 if nobody needs them.
    """
    if config.source.null != "independent":
        return _SAMPLED_OF_DEPENDENT
    return _SAMPLED if n_decoys else 0


def make_plans(
    config: WatermarkConfig,
    key: Key,
    *,
    alpha: float,
    n_decoys: int,
    seed: int,
    score: str | None,
    sample: int | None,
) -> tuple[Plan, ScanPlan]:
    """Fix a test of a corpus, and what its workers need of it.

    Args:
        config: the deployment.
        key: the key under test.
        alpha: level of a positive verdict.
        n_decoys: decoy keys.
        seed: of the decoy keys.
        score: name of the score; None is the default.
        sample: pairs of the sample; None is `sample_size`.

    Returns:
        The plan with the key, and the one without the secret.

    Raises:
        ConfigError: the scheme has no such score, or the key is none of the config's.
    """
    n_sampled = sample_size(config, n_decoys)
    n_sampled = (sample or n_sampled) if n_sampled else 0
    scan = ScanPlan(config, config.source.key_of(key), score, seed, n_sampled)
    return Plan(config, key, alpha, DIRECT_EFFECT, n_decoys, seed, scan.scorer), scan
