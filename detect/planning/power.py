"""How much text is needed: the exact null threshold against the law of the alternative.

Reject where S >= c, c the least value with P(S >= c | H0) <= alpha, by the exact tail. The power
is P(S >= c) under the alternative: scores of one text are independent with a common law, tilted
to the text's own mean, since texts differ. Its sum is evaluated by the saddlepoint approximation
of Lugannani and Rice (Adv. Appl. Prob. 12, 1980), with Daniels' correction on a lattice: near a
power of one half it is good to a few 1e-4, which decides nothing but a plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from detect.planning.tilting import Alternative, AnswerLaw, tilt_to
from detect.tails.nulls import log_tails
from watermark.schemes.laws import Bernoulli, LayeredBits, ScoreLaw, Tabulated

__all__ = [
    "MOST_PAIRS",
    "answers_needed",
    "critical_value",
    "expected_stopping",
    "first_order",
    "lattice_step",
    "pairs_needed",
    "power_of_answers",
    "power_of_text",
]

# Nobody has more tokens; beyond, the answer is "never".
MOST_PAIRS: Final = 10**9
# What a mixture over tilts a factor 1.5 apart costs a sequential test (ln 12 nats).
_REGRET: Final = math.log(12)
_NEVER: Final = 1e9
_NEAR_MEAN = 0.05
_CONVOLVED_UP_TO = 20_000
_MOST_TILTS = 64


def lattice_step(law: ScoreLaw) -> float:
    """Return the spacing of the values that a null score can have; 0 for continuous laws."""
    match law:
        case Bernoulli():
            return 1.0
        case LayeredBits(weights):
            return float(math.gcd(*weights))
        case Tabulated(step=step):
            return step
        case _:
            return 0.0


@lru_cache(maxsize=4096)
def critical_value(null: ScoreLaw, n: int, alpha: float) -> float:
    """Find the least sum whose p-value is at most alpha, by the exact tail.

    Tables are the exception above 20,000 scores: by the saddlepoint, good to 1e-4 of p there.

    Args:
        null: law of one score.
        n: scores, >= 1.
        alpha: level.

    Returns:
        The sum: on the lattice where there is one, else to 1e-9 standard deviations. Beyond the
        largest possible sum where n scores cannot reach alpha.
    """
    if isinstance(null, Tabulated) and n > _CONVOLVED_UP_TO:
        return _saddlepoint_threshold(null, n, alpha)
    deviation = math.sqrt(n * null.variance)
    low, width = n * null.mean, 2 * math.sqrt(-2 * math.log(alpha)) * deviation
    while _log_tail(null, low + width, n) > math.log(alpha):
        low, width = low + width, 2 * width
    step = lattice_step(null)
    # Sections, not halves: tails of one length cost little more than one tail.
    while width > max(1e-9 * deviation, step / 2):
        at = np.linspace(low, low + width, 33)
        logs = log_tails(null, at, np.full(33, n))
        i = max(int(np.argmax(logs <= math.log(alpha))), 1)
        low, width = float(at[i - 1]), float(at[i] - at[i - 1])
    return math.ceil((low + width) / step - 1e-9) * step if step else low + width


def _saddlepoint_threshold(null: Tabulated, n: int, alpha: float) -> float:
    """The same for many scores of a table, where a plan need not wait for a convolution."""
    # Here, since it takes as long to import as a text takes to test.
    from scipy.optimize import brentq

    def excess(z: float) -> float:
        s = n * null.mean + z * math.sqrt(n * null.variance)
        tails = _upper_tails(null, np.zeros(1), np.zeros(1), null.step, n, s)
        return math.log(max(float(tails[0]), 1e-300)) - math.log(alpha)

    z = brentq(excess, 0.1, 2 * math.sqrt(-2 * math.log(alpha)) + 2)
    return math.ceil((n * null.mean + z * math.sqrt(n * null.variance)) / null.step) * null.step


def _log_tail(null: ScoreLaw, s: float, n: int) -> float:
    return float(log_tails(null, np.array([s]), np.array([n]))[0])


def _upper_tails(
    law: ScoreLaw, tilts: NDArray[np.float64], base: NDArray[np.float64], step: float, n: int,
    s: float,
) -> NDArray[np.float64]:  # fmt: skip
    """P(S >= s) for n scores under each tilt of a law: one saddlepoint serves all tilts."""
    saddle = tilt_to(law, s / n)
    if math.isinf(saddle):
        return np.full(len(tilts), float(saddle < 0))
    h = 1e-3 / math.sqrt(law.variance)
    k = law.cumulants(np.array([saddle - h, saddle, saddle + h]))
    t = saddle - tilts
    r = np.sign(t) * np.sqrt(2 * np.maximum(t * s - n * (k.value[1] - base), 0))
    deviation = math.sqrt(n * k.second[1])
    u = (-np.expm1(-t * step) / step if step else t) * deviation
    # At the mean the formula is a difference of poles; this is its limit.
    third = (k.second[2] - k.second[0]) / (2 * h)
    limit = step / (2 * deviation) - n * third / (6 * deviation**3)
    near = np.abs(r) < _NEAR_MEAN
    poles = 1 / np.where(near, 1, u) - 1 / np.where(near, 1, r)
    density = np.exp(-r * r / 2) / math.sqrt(2 * math.pi)
    tails: NDArray[np.float64] = np.clip(ndtr(-r) + density * np.where(near, limit, poles), 0, 1)
    return tails


def power_of_text(null: ScoreLaw, alternative: Alternative, n: int, alpha: float) -> float:
    """Compute the share of texts with n scored pairs that are found at level alpha.

    Args:
        null: law of one score under H0.
        alternative: scores where the mark is.
        n: scored pairs of one text, >= 1.
        alpha: level.

    Returns:
        The power.
    """
    c, a = critical_value(null, n, alpha), alternative
    tails = _upper_tails(a.law, a.tilts, a.at_tilts.value, lattice_step(null), n, c)
    return float(tails.mean())


def power_of_answers(
    null: ScoreLaw, alternative: Alternative, n_pairs: int, n: int, alpha: float
) -> float:
    """Compute the power of one test on n answers pooled.

    Args:
        null: law of one score under H0.
        alternative: scores where the mark is; each answer is a text of its own.
        n_pairs: scored pairs of one answer, none of them shared.
        n: answers.
        alpha: level.

    Returns:
        The power.
    """
    law = _answer_law(alternative, n_pairs)
    c = critical_value(null, n * n_pairs, alpha)
    none = np.zeros(1)
    return float(_upper_tails(law, none, none, lattice_step(null), n, c)[0])


@lru_cache(maxsize=256)
def _answer_law(alternative: Alternative, n_pairs: int) -> AnswerLaw:
    if len(alternative.tilts) > _MOST_TILTS:
        # Like texts go together: the mixture keeps its mean and nearly all of its spread.
        groups = np.array_split(np.sort(alternative.tilts), _MOST_TILTS)
        tilts = np.array([group.mean() for group in groups])
        alternative = Alternative(alternative.law, tilts)
    return AnswerLaw(alternative, n_pairs)


def pairs_needed(
    null: ScoreLaw, alternative: Callable[[int], Alternative], *, alpha: float, power: float
) -> int | None:
    """Find how many scored pairs one text needs.

    Args:
        null: law of one score under H0.
        alternative: scores of the first n pairs of texts, where the mark is.
        alpha: level.
        power: share of texts to be found.

    Returns:
        The number of pairs, or None above `MOST_PAIRS`: also where more than 1 - power of the
        texts carry no signal.
    """
    return _least(
        lambda n: power_of_text(null, alternative(n), n, alpha) >= power,
        start=4,
        most=MOST_PAIRS,
    )


def answers_needed(
    null: ScoreLaw, alternative: Alternative, *, n_pairs: int, alpha: float, power: float
) -> int | None:
    """Find how many answers, pooled into one test, are needed; see `power_of_answers`.

    Args:
        null: law of one score under H0.
        alternative: scores where the mark is.
        n_pairs: scored pairs of one answer.
        alpha: level.
        power: of the test.

    Returns:
        The number of answers, or None above `MOST_PAIRS` pairs.
    """
    return _least(
        lambda n: power_of_answers(null, alternative, n_pairs, n, alpha) >= power,
        start=1,
        most=max(MOST_PAIRS // n_pairs, 1),
    )


def _least(reached: Callable[[int], bool], *, start: int, most: int) -> int | None:
    """Least number that suffices: by doubling, then by halves. Lattice teeth are overlooked."""
    low, high = 0, start
    while not reached(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def first_order(effect: float, *, alpha: float, power: float) -> float:
    """Count pairs by the normal formula ((z_alpha + z_power) / effect)^2 (statistics.md B5)."""
    return float(((ndtri(alpha) + ndtri(1 - power)) / effect) ** 2)


def expected_stopping(
    null: ScoreLaw, mean_of: Callable[[float], float], alpha: float
) -> float | None:
    """Expect where a sequential test stops: ln(1/alpha) plus regret, over its growth rate.

    The test is the e-process that mixes exp(l S_n - n K(l)) over twelve tilts l. Its log grows by
    I = max_l (l * mean - K(l)) a pair (eps^2 / 2 for weak effects); by Wald's identity it reaches
    ln(1/alpha) after (ln(1/alpha) + ln 12) / I pairs, overshoot and grid apart. Where the mean
    depends on the number of pairs it is the least n with n I(n) at that height.

    Args:
        null: law of one score under H0.
        mean_of: mean score of the first n pairs where the mark is; n I(n) must not fall.
        alpha: level.

    Returns:
        Expected scored pairs, or None where they are not finite or above 1e9.
    """
    goal = math.log(1 / alpha) + _REGRET

    def reached(log_n: float) -> bool:
        n = math.exp(log_n)
        return n * _growth_rate(null, mean_of(n)) >= goal

    low, high = 0.0, math.log(_NEVER)
    if not reached(high):
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return math.exp(high)


def _growth_rate(null: ScoreLaw, mean: float) -> float:
    tilt = tilt_to(null, mean) if mean > null.mean else 0.0
    if not 0 < tilt < math.inf:
        return 0.0
    return tilt * mean - float(null.cumulants(np.array([tilt])).value[0])
