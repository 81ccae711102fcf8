"""Decoy keys: the same statistic under keys that were never used.

H0: what is tested is independent of the key. Then the true key is exchangeable with M fresh random
ones, and p = (1 + #{S_m >= S}) / (M + 1) is exact in finite samples, whatever the text, tokenizer,
language or repetition. Valid only for material that does not depend on the key under H0 (not for
marked reading texts). Resolution 1 / (M + 1). By the same exchangeability
E = (M + 1) e^(l S_0) / sum_{m = 0 .. M} e^(l S_m) has mean exactly 1 for any l: an e-value, which
can be averaged and multiplied with others; at most M + 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from detect.scoring.score_tables import Scorer
from watermark.contexts import group_rows
from watermark.prf import NATIVE
from watermark.word_sources import WordSource

__all__ = [
    "AUTOMATIC",
    "DEFAULT_DECOYS",
    "LEAST_DECOYS",
    "DecoyResult",
    "affordable_decoys",
    "decoy_keys",
    "decoy_log_e",
    "decoy_statistics",
    "ranked",
    "run_decoys",
]

# In place of a number of decoys: as many as `affordable_decoys` says.
AUTOMATIC: Final = -1
# Enough for p = 1e-4.
DEFAULT_DECOYS: Final = 9_999
# The best rank among so many is `detect.results.CONTROL_FIRES_AT`: with fewer, a control's decoys
# could never stop a claim.
LEAST_DECOYS: Final = 999
# Words of our own PRF spent by default: about five seconds on one core.
_BUDGET_WORDS: Final = 100_000_000
# The l of the e-value, per null standard deviation of the statistic; fixed, equally weighted.
_RATES = np.array([0.5, 1.0, 2.0, 4.0])

# Words of one chunk of keys: keeps memory near 110 MB (one key's words at the least).
_CHUNK_WORDS = 1 << 22
_CONTRADICTION = 1e-3


@final
@dataclass(frozen=True)
class DecoyResult:
    """Where the true key ranks among decoys.

    Attributes:
        n_decoys: M.
        n_at_least: decoys whose statistic reaches the true one; ties count against us.
        seed: of the decoy keys, so that anyone can draw them again.
        mean: mean of the decoys' statistics.
        deviation: their standard deviation.
        log10_e: log10 of the decoy e-value; 0 if there were no decoys.
        n_at_most: decoys whose statistic the true one reaches; ties count against us here too.
    """

    n_decoys: int
    n_at_least: int
    seed: int
    mean: float
    deviation: float
    log10_e: float = 0.0
    n_at_most: int | None = None

    @property
    def lower_p_value(self) -> float:
        """(1 + n_at_most) / (M + 1), of a statistic as low; 1 where it was not counted."""
        if self.n_at_most is None:
            return 1.0
        return (1 + self.n_at_most) / (self.n_decoys + 1)

    @property
    def p_value(self) -> float:
        """(1 + n_at_least) / (M + 1)."""
        return (1 + self.n_at_least) / (self.n_decoys + 1)

    @property
    def is_best(self) -> bool:
        """True if no decoy reached the true key's statistic."""
        return self.n_at_least == 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "n_decoys": self.n_decoys,
            "n_at_least": self.n_at_least,
            "p_value": self.p_value,
            "lower_p_value": self.lower_p_value,
            "log10_e": self.log10_e,
            "seed": self.seed,
        }

    def contradicts(self, log10_p: float) -> bool:
        """Tell whether a parametric p-value is too small for this rank.

        If p were right, so many decoys at or above would have a probability below 1e-3
        (Chernoff bound of the binomial). Holding a verdict back costs less than a wrong one, so
        that the threshold is far from alpha.
        """
        expected = self.n_decoys * min(10**log10_p, 1.0)
        k = self.n_at_least
        if k == 0 or k <= expected:
            return False
        # ln P(Poisson(m) >= k) <= k - m - k ln(k / m); expected may underflow to nothing.
        excess = k - expected - k * (math.log(k) - math.log(max(expected, 1e-300)))
        return excess < math.log(_CONTRADICTION)


def affordable_decoys(n_pairs: int, n_streams: int, word_cost: float = 1.0) -> int:
    """Choose the default number of decoy keys by what they cost, which no key decides.

    Args:
        n_pairs: scored pairs.
        n_streams: words of each pair.
        word_cost: `WordSource.word_cost`.

    Returns:
        `DEFAULT_DECOYS` where that takes no longer than 1e8 words of our own PRF (pairs x streams
        x keys x cost), else as many as do, but never fewer than `LEAST_DECOYS`.
    """
    affordable = int(_BUDGET_WORDS / max(n_pairs * n_streams * word_cost, 1))
    return min(max(affordable, LEAST_DECOYS), DEFAULT_DECOYS)


def decoy_keys(n_decoys: int, seed: int, source: WordSource = NATIVE) -> NDArray[np.uint64]:
    """Draw fresh PRF keys.

    Args:
        n_decoys: M.
        seed: of numpy's PCG64; recorded in the result.
        source: what makes the words.

    Returns:
        uint64, shape (M, n_key_integers).
    """
    return source.fresh_keys(n_decoys, seed)


def decoy_statistics(
    scheme: Scorer,
    keys: NDArray[np.uint64],
    contexts: NDArray[np.int64],
    tokens: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
    *,
    source: WordSource = NATIVE,
) -> NDArray[np.float64]:
    """Compute sum_i w_i (score_i - mean) under each decoy key.

    Args:
        scheme: what scores words: a scheme or a table.
        keys: uint64, shape (M, n_key_integers).
        contexts: int64, shape (n, h).
        tokens: int64, shape (n,).
        weights: float64, shape (n,); None is all ones.
        source: what makes the words.

    Returns:
        float64, shape (M,).
    """
    first, group = group_rows(contexts)
    distinct = np.ascontiguousarray(contexts[first])
    size = max(_CHUNK_WORDS // max(len(tokens) * scheme.n_streams, 1), 1)
    parts = []
    for start in range(0, len(keys), size):
        words = source.words_for_keys(
            keys[start : start + size], distinct, group, tokens, scheme.n_streams
        )
        rows = words.transpose(1, 0, 2).reshape(scheme.n_streams, -1)
        centred = scheme.score(rows).reshape(len(words), -1) - scheme.law.mean
        parts.append(centred.sum(axis=1) if weights is None else centred @ weights)
    return np.concatenate(parts) if parts else np.empty(0)


def decoy_log_e(statistic: float, decoys: NDArray[np.float64], deviation: float) -> float:
    """Compute ln of the decoy e-value, averaged over rates l that are fixed beforehand.

    H0: statistic and decoys are exchangeable. Exact: the M + 1 e-values that each of them would
    give in the statistic's place sum to M + 1.

    Args:
        statistic: S_0, under the true key.
        decoys: float64, shape (M,), S_1 .. S_M.
        deviation: scale of l, > 0; a function of the pairs and weights, not of the key.

    Returns:
        The natural logarithm, at most ln(M + 1).
    """
    values = np.append(decoys, statistic)
    tilted = _RATES[:, None] * (values / deviation)
    each = tilted[:, -1] - logsumexp(tilted, axis=1)
    return float(logsumexp(each) + math.log(len(values) / len(_RATES)))


def run_decoys(
    scheme: Scorer,
    contexts: NDArray[np.int64],
    tokens: NDArray[np.int64],
    centred_statistic: float,
    *,
    n_decoys: int,
    seed: int,
    weights: NDArray[np.float64] | None = None,
    source: WordSource = NATIVE,
) -> DecoyResult:
    """Rank a statistic among decoys.

    Args:
        scheme: what scores words: a scheme or a table.
        contexts: int64, shape (n, h), of the scored pairs.
        tokens: int64, shape (n,).
        centred_statistic: sum_i w_i (score_i - mean) under the true key.
        n_decoys: M, or `AUTOMATIC`.
        seed: of the decoy keys.
        weights: float64, shape (n,); None is all ones.
        source: what makes the words.

    Returns:
        The result.
    """
    if n_decoys == AUTOMATIC:
        n_decoys = affordable_decoys(len(tokens), scheme.n_streams, source.word_cost)
    keys = decoy_keys(n_decoys, seed, source)
    values = decoy_statistics(scheme, keys, contexts, tokens, weights, source=source)
    size = float(len(tokens)) if weights is None else float(weights @ weights)
    deviation = math.sqrt(scheme.law.variance * size) or 1.0
    return ranked(centred_statistic, values, deviation, seed)


def ranked(
    statistic: float, decoys: NDArray[np.float64], deviation: float, seed: int
) -> DecoyResult:
    """Rank a statistic among those of decoy keys.

    Args:
        statistic: under the true key.
        decoys: float64, shape (M,), under the decoys.
        deviation: see `decoy_log_e`.
        seed: of the decoy keys.

    Returns:
        The result.
    """
    # Sums in another order differ by rounding; a tie must count against us.
    slack = 1e-9 * (1 + abs(statistic))
    return DecoyResult(
        n_decoys=len(decoys),
        n_at_least=int((decoys >= statistic - slack).sum()),
        seed=seed,
        mean=float(decoys.mean()) if len(decoys) else 0.0,
        deviation=float(decoys.std()) if len(decoys) else 0.0,
        log10_e=decoy_log_e(statistic, decoys, deviation) / math.log(10),
        n_at_most=int((decoys <= statistic + slack).sum()),
    )
