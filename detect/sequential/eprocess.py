"""E-processes: look after every token or answer, and stop whenever the case is strong.

H0: the words of the scored pairs are independent and uniform, whatever the text. Alternative: the
writer preferred tokens whose words the mark prefers. With a calibrator's bets
(`detect.sequential.calibrators`) E_n, the mixture of their products, is a non-negative
supermartingale that starts at 1, so that by Ville's inequality

    P(E_n >= 1 / alpha for any n, ever) <= alpha.

Exact in finite samples. Assumptions: each (context, token) pair is scored once over the whole
stream; which pair comes next, its weight, and when to stop depend on anything but words that have
not been scored. 1 / max E is a p-value at every moment (a p-process). Sources: Ville 1939; Ramdas,
Grunwald, Vovk and Shafer, Statist. Sci. 38 (2023); for pivots of marks, 2602.14286.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from detect.results import Verdict
from detect.sequential.calibrators import Calibrator, Known
from detect.sequential.evalues import EValue, sequential_verdict
from watermark.errors import ResultError

__all__ = ["EProcess", "expected_stop", "log_e_path", "n_powered"]

_LN10 = math.log(10)
# Words summarised at once: bounds memory whatever the shard.
_ROWS = 1 << 12
_POWER = 0.9
# What a default mixture loses against its best member: ln of about 25 members.
_REGRET = 3.2


@final
@dataclass(frozen=True, slots=True)
class EProcess:
    """Where an e-process stands. Immutable: `updated` gives the next one.

    Attributes:
        calibrator: the bets.
        totals: running totals of its summaries; () before the first word.
        n_scored: words so far.
        log_e: ln E now.
        log_peak: ln of the largest E at any word so far, at least 0 (E starts at 1).
    """

    calibrator: Calibrator
    totals: tuple[float, ...] = ()
    n_scored: int = 0
    log_e: float = 0.0
    log_peak: float = 0.0

    @property
    def log10_e(self) -> float:
        """log10 E now."""
        return self.log_e / _LN10

    @property
    def log10_p(self) -> float:
        """log10 of the p-process 1 / max E, at most 0."""
        return -self.log_peak / _LN10 if self.log_peak > 0 else 0.0

    def updated(self, words: NDArray[np.uint32], known: Known = Known()) -> EProcess:  # noqa: B008
        """Take in the words of new pairs, one or many, in the order in which they came.

        Args:
            words: uint32, shape (n_streams, n), of pairs that were not scored before.
            known: weights and the like, fixed before these words.

        Returns:
            The e-process after them; its peak counts the looks after every single word.

        Raises:
            ValueError: weights outside [0, 1], or not one for each word.
        """
        _check(words, known)
        state: EProcess = self
        for start in range(0, words.shape[1], _ROWS):
            rows = slice(start, start + _ROWS)
            state = state._with(words[:, rows], _cut(known, rows))
        return state

    def _with(self, words: NDArray[np.uint32], known: Known) -> EProcess:
        totals, log_e = _advance(self, words, known)
        return EProcess(
            self.calibrator,
            tuple(totals[-1].tolist()),
            self.n_scored + words.shape[1],
            float(log_e[-1]),
            max(self.log_peak, float(log_e.max())),
        )

    def value(self) -> EValue:
        """E now, as an e-value that can be averaged or multiplied.

        The peak is no e-value: only E at a stopping time is.
        """
        return EValue(self.log10_e, self.n_scored)

    def verdict(self, alpha: float, effect: float) -> Verdict:
        """SIGNAL once E has reached 1 / alpha, whatever came after.

        Args:
            alpha: level.
            effect: mean shift of a score worth finding, in null standard deviations; it only
                decides when too little was scored for a negative verdict.
        """
        return sequential_verdict(
            -self.log10_p, self.n_scored, alpha=alpha, n_powered=n_powered(effect, alpha)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `restored` goes on."""
        return {
            "totals": list(self.totals),
            "n_scored": self.n_scored,
            "log_e": self.log_e,
            "log_peak": self.log_peak,
        }

    @classmethod
    def restored(cls, calibrator: Calibrator, payload: Any) -> Self:
        """Read a state back.

        Args:
            calibrator: the bets that it was made with.
            payload: what `to_dict` gave.

        Returns:
            The e-process.

        Raises:
            ResultError: not such a state, or one of other bets.
        """
        try:
            totals = tuple(float(t) for t in payload["totals"])
            n_scored = int(payload["n_scored"])
            log_e, log_peak = float(payload["log_e"]), float(payload["log_peak"])
        except (KeyError, TypeError, ValueError):
            raise ResultError("the state of the e-process is damaged; start a new one") from None
        state = cls(calibrator, totals, n_scored, log_e, log_peak)
        if not state._is_consistent():
            raise ResultError("the state belongs to other bets, or is damaged; start a new one")
        return state

    def _is_consistent(self) -> bool:
        numbers = (*self.totals, self.log_e, self.log_peak)
        if not all(map(math.isfinite, numbers)) or self.log_peak < max(self.log_e, 0.0):
            return False
        if not self.n_scored:
            return not self.totals and self.log_e == 0.0 == self.log_peak
        if self.n_scored < 0 or len(self.totals) != self.calibrator.n_totals:
            return False
        again = self.calibrator.log_e(np.array([self.totals]), np.array([self.n_scored]))
        return math.isclose(float(again[0]), self.log_e, rel_tol=1e-9, abs_tol=1e-9)


def log_e_path(
    calibrator: Calibrator,
    words: NDArray[np.uint32],
    known: Known = Known(),  # noqa: B008
) -> NDArray[np.float64]:
    """Compute ln E after each word.

    Args:
        calibrator: the bets.
        words: uint32, shape (n_streams, n).
        known: what was known of each pair before.

    Returns:
        float64, shape (n,).
    """
    _check(words, known)
    return _advance(EProcess(calibrator), words, known)[1]


def expected_stop(effect: float, alpha: float) -> float:
    """First-order number of pairs until E reaches 1 / alpha: 2 ln(1/alpha) / effect^2.

    The best bet on a small shift grows by effect^2 / 2 nats a pair; what the mixture loses comes
    on top (reference statistics.md B5).

    Args:
        effect: mean shift of a score, in null standard deviations.
        alpha: level.

    Returns:
        The number of pairs.
    """
    return 2 * math.log(1 / alpha) / effect**2


def n_powered(effect: float, alpha: float) -> int:
    """Count the pairs by which E has reached 1 / alpha with 90 % power.

    ln E is about normal with mean n effect^2 / 2 - regret and variance n effect^2 (first order);
    solved for n.

    Args:
        effect: mean shift of a score, in null standard deviations.
        alpha: level.

    Returns:
        The number of pairs; it decides nothing but when a negative verdict may be given.
    """
    z = NormalDist().inv_cdf(_POWER)
    return math.ceil(((z + math.sqrt(z * z + 2 * (math.log(1 / alpha) + _REGRET))) / effect) ** 2)


def _advance(
    state: EProcess, words: NDArray[np.uint32], known: Known
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Totals and ln E after each of at least one word."""
    steps = state.calibrator.summaries(words, known)
    if state.totals:
        steps[0] += state.totals
    totals = np.cumsum(steps, axis=0)
    n_scored = state.n_scored + np.arange(1, len(totals) + 1)
    return totals, state.calibrator.log_e(totals, n_scored)


def _cut(known: Known, rows: slice) -> Known:
    return Known(*(k[rows] if k is not None else None for k in known))


def _check(words: NDArray[np.uint32], known: Known) -> None:
    if any(k is not None and k.shape != words.shape[1:] for k in known):
        raise ValueError("expected one weight, and one log-probability, for each word")
    weights = known.weights
    if weights is not None and not ((weights >= 0) & (weights <= 1)).all():
        raise ValueError("weights of bets must lie in [0, 1]; scale them beforehand")
    if known.log_probs is not None and np.isnan(known.log_probs).any():
        raise ValueError("log-probabilities must be numbers")
