"""Bets on pairs: the score of open weights, a likelihood ratio made for each pair.

A model that was taught token v after a context c gives v more probability there than it had. How
much more says how sure one may be that it was taught v, and if it was, the word of (c, v) decided
that: with p the probability that the token had, the word's likelihood ratio is
r = (1/p) u^(1/p - 1). The stake a is the presumed chance that v was taught, beyond p: positive
where the probability rose, negative where it fell. The pair's score is ln(1 + a (r - 1)).

H0: the words are independent and uniform, whatever p and a are: these come from models and texts
alone. The sum of the scores, each rounded to a lattice, has an exactly known law
(`detect.tails.convolution`). Wrong p or a cost power, never validity. Factors 1 + a (r - 1) that
are not rounded have mean 1, so that their products are e-processes (`log_factors`). Sources: the
ratio, Li et al. (Annals of Statistics 2025); bets as tests, Shafer (J. R. Stat. Soc. A 184, 2021).
docs/decisions/0011 says what was chosen and on which student.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.scoring.alternatives import chosen_with
from detect.scoring.cells import N_CELLS, cell_of
from detect.scoring.score_tables import cell_ratios, tabulate
from detect.tails.convolution import Part
from detect.tails.mixed_sums import MixedLaw
from watermark.schemes import Scheme
from watermark.schemes.laws import Tabulated

__all__ = [
    "MULTIPLES",
    "TELLING",
    "BetScorer",
    "Bets",
    "bet_law",
    "largest_stakes",
    "log_factors",
    "moving",
    "place_bets",
]

# Stake for each unit of probability that a pair gained, over all positions; more where nothing
# gained much, so that the largest stake reaches _LEAST_PEAK: a faint student is no innocent.
_STAKE: Final = 0.2
_LEAST_PEAK: Final = 0.3
# Stakes are +-_LARGEST / 2^(k/2); smaller ones than the last are not placed. A negative one stops
# short of -p, where one word could lose everything.
_LARGEST: Final = 0.9
_N_STAKES: Final = 20
# A context in which no stake reaches this tells next to nothing, and clears nobody.
TELLING: Final = 0.01
# p is 1/2, 1/4 .. 1/256: a likelier token says little, a rarer one must not rule the sum.
_N_LEVELS: Final = 8
_STEP: Final = 1 / 128  # nats


# Multiples of the stake that are played side by side where evidence is an e-process: nobody knows
# beforehand how much a suspect learned.
MULTIPLES: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0)


@final
@dataclass(frozen=True)
class Bets:
    """A level of p and a stake for each pair.

    Attributes:
        levels: int64, shape (n,): p = 2^-(level + 1).
        stakes: int64, shape (n,): 0 is no bet; +-k is +-_LARGEST / 2^((k - 1) / 2).
    """

    levels: NDArray[np.int64]
    stakes: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Absolute stakes, float64, shape (n,)."""
        return np.abs(_stake(self.stakes))

    def only(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Bets:
        """Keep some pairs, by a mask or by their places."""
        return Bets(self.levels[kept], self.stakes[kept])


def place_bets(gained: NDArray[np.float64], likely: NDArray[np.float64]) -> Bets:
    """Choose p and stake of each pair.

    Args:
        gained: float64, shape (n,), probability that the suspect gives the pair's token beyond the
            reference's, added up over positions.
        likely: float64, shape (n,), mean probability under the reference; in [0, 1].

    Returns:
        The bets.

    Raises:
        ValueError: values that are not finite.
    """
    if not (np.isfinite(gained).all() and np.isfinite(likely).all()):
        raise ValueError("gained and likely must be finite")
    levels = _levels(likely)
    limit = _limits(gained, levels)
    sizes = _STAKE * np.abs(gained)
    peak = float(sizes.max(initial=0.0))
    if 0 < peak < _LEAST_PEAK:
        sizes *= _LEAST_PEAK / peak
    size = np.minimum(sizes, limit)
    with np.errstate(divide="ignore"):
        steps = -2 * np.log2(size / _LARGEST)
    # Never above the limit, which a falling probability may have reached.
    steps = np.where(size < limit, np.rint(steps), np.ceil(steps - 1e-9))
    placed = steps < _N_STAKES
    index = np.where(placed, steps, -1).astype(np.int64) + 1
    return Bets(levels, np.where(gained > 0, index, -index))


def log_factors(
    scheme: Scheme,
    words: NDArray[np.uint32],
    gained: NDArray[np.float64],
    likely: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Compute ln of the product of each row's factors 1 + a (r - 1), for an e-process.

    H0: given everything before it, a row's words are independent and uniform. Each factor then has
    mean 1, and so has a row's product: exact, on the grid of words.

    Args:
        scheme: Gumbel-max with one or two keys.
        words: uint32, shape (n_streams, n, k).
        gained: float64, shape (n, k), as of `place_bets`, known before the words.
        likely: the same.

    Returns:
        float64, shape (n, len(MULTIPLES)), one column for each multiple of the stake.
    """
    levels = _levels(likely)
    limit = _limits(gained, levels)
    flat = _flat_cells(words)
    excess = np.empty(gained.shape)
    for level in np.unique(levels).tolist():
        members = levels == level
        excess[members] = _ratios(scheme, level)[0].reshape(-1)[flat[members]] - 1
    stakes = _STAKE * gained
    columns = [np.clip(multiple * stakes, -limit, limit) * excess for multiple in MULTIPLES]
    return np.stack([np.log1p(column).sum(axis=1) for column in columns], axis=1)


def largest_stakes(gained: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tell the largest stake that `log_factors` plays in each row, limits apart.

    Args:
        gained: float64, shape (n, k).

    Returns:
        float64, shape (n,).
    """
    largest: NDArray[np.float64] = _STAKE * max(MULTIPLES) * np.abs(gained).max(axis=1, initial=0.0)
    return largest


def _levels(likely: NDArray[np.float64]) -> NDArray[np.int64]:
    depth = -np.log2(np.clip(likely, 2.0**-_N_LEVELS, 0.5))
    levels: NDArray[np.int64] = np.rint(depth).astype(np.int64) - 1
    return levels


def _limits(gained: NDArray[np.float64], levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Tell how large a stake may be."""
    return np.where(gained > 0, _LARGEST, _LARGEST * 0.5 ** (levels + 1))


def _flat_cells(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Index tables of one or two streams, flattened."""
    cells = cell_of(words)
    flat: NDArray[np.int64] = cells[0] if len(cells) == 1 else cells[0] * N_CELLS + cells[1]
    return flat


@final
@dataclass(frozen=True, eq=False)
class BetScorer:
    """Scores the words of pairs, in their order, under any number of keys.

    Attributes:
        scheme: Gumbel-max with one or two keys.
        bets: one a pair, none without a stake.
    """

    scheme: Scheme
    bets: Bets

    @property
    def score_name(self) -> str:
        """How results call the score."""
        return "bets"

    @property
    def n_streams(self) -> int:
        """Word streams that the score reads."""
        return self.scheme.n_streams

    @cached_property
    def law(self) -> MixedLaw:
        """The null law of the sum of all pairs' scores."""
        kinds, counts = np.unique(
            np.stack([self.bets.levels, self.bets.stakes]), axis=1, return_counts=True
        )
        return MixedLaw(
            tuple(
                Part(bet_law(self.scheme, level, stake), n)
                for level, stake, n in zip(*kinds.tolist(), counts.tolist(), strict=True)
            )
        )

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words of the pairs under one key, or under several in a row.

        Args:
            words: uint32, shape (n_streams, keys * n).

        Returns:
            float64, shape (keys * n,), multiples of the lattice's step.
        """
        flat = _flat_cells(words)
        n_keys, rest = divmod(words.shape[1], max(len(self.bets.levels), 1))
        if rest:
            raise ValueError(
                f"expected words of {len(self.bets.levels)} pairs, got {words.shape[1]} words"
            )
        scores = np.empty(words.shape[1])
        at = np.tile(self.bets.levels, n_keys)
        stakes = np.tile(_stake(self.bets.stakes), n_keys)
        for level in np.unique(self.bets.levels).tolist():
            members = np.flatnonzero(at == level)
            ratios = _ratios(self.scheme, level)[0].reshape(-1)[flat[members]]
            scores[members] = _units(ratios, stakes[members])
        return scores * _STEP


def moving(scheme: Scheme, bets: Bets) -> NDArray[np.bool_]:
    """Tell which bets any word could win or lose by more than half a step.

    Args:
        scheme: Gumbel-max with one or two keys.
        bets: any; those without a stake do not move.

    Returns:
        bool, shape (n,).
    """
    kinds = np.stack([bets.levels, bets.stakes])
    found, group = np.unique(kinds, axis=1, return_inverse=True)
    moves = [
        stake != 0 and len(bet_law(scheme, level, stake).values) > 1
        for level, stake in found.T.tolist()
    ]
    return np.array(moves, bool)[group.reshape(-1)]


def _units(ratios: NDArray[np.float64], stakes: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Score ratios, in steps of the lattice."""
    return np.rint(np.log1p(stakes * (ratios - 1)) / _STEP)


def _stake(index: NDArray[np.int64]) -> NDArray[np.float64]:
    stakes: NDArray[np.float64] = np.sign(index) * _LARGEST * 2.0 ** (-(np.abs(index) - 1) / 2)
    return stakes


@cache
def _ratios(scheme: Scheme, level: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return cell_ratios(scheme, chosen_with(2.0 ** -(level + 1)))


@cache
def bet_law(scheme: Scheme, level: int, stake: int) -> Tabulated:
    """Compute the null law of a bet's score; level and stake as in `Bets`."""
    ratios, probabilities = _ratios(scheme, level)
    units = _units(ratios, float(_stake(np.array(stake)))).astype(np.int64)
    return tabulate(units, probabilities, _STEP)
