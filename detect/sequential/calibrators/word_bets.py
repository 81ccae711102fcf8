"""Bets on the words themselves: what marked text does to them, scheme by scheme."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from detect.sequential.calibrators.base import Calibrator, Known, log_mean
from watermark.schemes.gumbel import upper_tail

__all__ = ["Layers", "Likelihood", "Spectra"]

# Shares of tilted words. None is 1, so that no single word can ruin a bet for good.
SHARES: Final = tuple(0.95 * 2.0**-k for k in range(8))
# A spread over entropies of 0.3 to 4.6 nats: within 1 % of the best growth that any density gives
# on real text of the default preset (benchmarks.stopping_time).
TOPS: Final = (0.01, 0.05, 0.2, 0.5, 0.9)
# Half the weight for direct text, where every word counts; it costs weak signals half a nat.
_DIRECT: Final = 0.5
# Whatever positive power it is raised to, u = 0 stays 0.
_LOG_NOTHING = -1e200
# Of a reference model: any p is valid, one below e^-60 only risks overflow.
_LEAST_LOG_P = -60.0


@final
@dataclass(frozen=True, slots=True)
class Spectra(Calibrator):
    """Bets on the u of Gumbel-type words: factors 1 + share (f(u) - 1).

    f is the density of u in marked text, sum_v u^(1/p_v - 1), averaged over `tops`: for a largest
    probability P it is exp(h_Delta), Delta = 1 - P, of Li et al. (2404.01245), whose null mean is
    exactly 1. `share` is the part of the words that is tilted: all of direct text, little of
    inherited text. Two streams give (1 - alpha) f(u_A) + alpha f(u_B), each stream being taken
    with its probability. A weight a turns the share into a share.

    Attributes:
        alpha: probability of stream B; 0 for one stream.
        tops: largest next-token probabilities, each equally weighted within a factor.
        shares: in (0, 1); the first product has half the weight, the others share the rest.
    """

    alpha: float
    tops: tuple[float, ...] = TOPS
    shares: tuple[float, ...] = SHARES

    @property
    def n_totals(self) -> int:
        """One log-product for each share."""
        return len(self.shares)

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Log factors; see `Calibrator.summaries`."""
        density = (1 - self.alpha) * self._density(words[0])
        if self.alpha:
            density += self.alpha * self._density(words[1])
        return _log_blend(density, self.shares, known.weights)

    def _density(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        log_u = _log_u(words)
        total = np.zeros(len(words))
        for top in self.tops:
            n_atoms = math.floor(1 / top)
            rest = 1 - n_atoms * top
            total += n_atoms * np.exp((1 / top - 1) * log_u)
            # Without a rest the last atom has no mass; left out, the mean can only fall.
            if rest > 1e-9:
                total += np.exp((1 / rest - 1) * log_u)
        return total / len(self.tops)

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Mix the products; see `Calibrator.log_e`."""
        return _direct_mean(totals)


@final
@dataclass(frozen=True, slots=True)
class Likelihood(Calibrator):
    """The same with a reference model: f = (1/p) u^(1/p - 1), p the token's own probability.

    The null mean is 1 for any p that does not depend on the word, so that a wrong reference model
    costs power only.

    Attributes:
        alpha: probability of stream B; 0 for one stream.
        shares: in (0, 1); the first product has half the weight, the others share the rest.
    """

    alpha: float
    shares: tuple[float, ...] = SHARES

    @property
    def n_totals(self) -> int:
        """One log-product for each share."""
        return len(self.shares)

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Log factors; see `Calibrator.summaries`."""
        if known.log_probs is None:
            raise ValueError("Likelihood needs the log-probabilities of a reference model")
        # A p above 1, by rounding, would make a density that falls in u.
        odds = np.expm1(-np.clip(known.log_probs, _LEAST_LOG_P, 0.0))
        streams = ((1 - self.alpha, words[0]), *(((self.alpha, words[1]),) if self.alpha else ()))
        density = sum(part * (odds + 1) * np.exp(odds * _log_u(w)) for part, w in streams)
        return _log_blend(np.asarray(density), self.shares, known.weights)

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Mix the products; see `Calibrator.log_e`."""
        return _direct_mean(totals)


@final
@dataclass(frozen=True, slots=True)
class Layers(Calibrator):
    """Bets on the bits of tournament words: prod_l 2 psi_l^g (1 - psi_l)^(1 - g).

    psi_l = (1 + strength decay^l) / 2: an early layer meets the full entropy, so that evidence
    falls with depth. One psi of its own for each layer would cost (1/2) ln n nats a layer.
    A weight a turns the strength into a strength. Exact: the mean is 1.

    Attributes:
        n_layers: m.
        strengths: in (0, 1), equally weighted products.
        decay: in (0, 1].
    """

    n_layers: int
    strengths: tuple[float, ...] = tuple(0.35 * 2.0**-k for k in range(7))
    decay: float = 0.95

    @property
    def n_totals(self) -> int:
        """One log-product for each strength."""
        return len(self.strengths)

    def summaries(self, words: NDArray[np.uint32], known: Known) -> NDArray[np.float64]:
        """Log factors; see `Calibrator.summaries`."""
        depth = np.arange(self.n_layers)
        bits = (words[0][:, None] >> (31 - depth).astype(np.uint32)) & np.uint32(1)
        bets = np.outer(self.decay**depth, self.strengths)
        if known.weights is None:
            lost, won = np.log1p(-bets), np.log1p(bets)
            factors: NDArray[np.float64] = bits.astype(np.float64) @ (won - lost) + lost.sum(axis=0)
            return factors
        total = np.zeros((len(bits), len(self.strengths)))
        for green, bet in zip(bits.T.astype(np.bool_), bets, strict=True):
            placed = known.weights[:, None] * bet
            total += np.log1p(np.where(green[:, None], placed, -placed))
        return total

    def log_e(
        self, totals: NDArray[np.float64], n_scored: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Mix the products; see `Calibrator.log_e`."""
        return log_mean(totals)


def _log_u(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Ln u at the lower end of the word's cell; at word 0 a finite number in place of -inf."""
    log_u: NDArray[np.float64] = np.log1p(-np.minimum(upper_tail(words), 1 - 2.0**-53))
    return np.where(words == 0, _LOG_NOTHING, log_u)


def _log_blend(
    density: NDArray[np.float64], shares: tuple[float, ...], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Ln(1 + a share (f - 1)) for each share."""
    part = np.array(shares) if weights is None else weights[:, None] * np.array(shares)
    blended: NDArray[np.float64] = np.log1p(part * (density[:, None] - 1))
    return blended


def _direct_mean(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln of the weighted mean that gives half the weight to the first."""
    first: NDArray[np.float64] = logs[..., 0]
    if logs.shape[-1] == 1:
        return first
    others = math.log1p(-_DIRECT) + log_mean(logs[..., 1:])
    mean: NDArray[np.float64] = np.logaddexp(math.log(_DIRECT) + first, others)
    return mean
