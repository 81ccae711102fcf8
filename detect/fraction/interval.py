"""The share of marked tokens in a corpus: estimate and confidence interval, from sums alone.

The mean score of marked text over that of unmarked text is the strength of the mark. The
provider's own held-out answers measure it; a corpus whose mean lies a fifth of the way up is,
at that strength, marked to one fifth. The share times the strength is all that can be known:
a corpus marked throughout at half the strength looks the same as one marked by half.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from watermark.errors import DocumentError

__all__ = ["FractionInterval", "Strength", "Units", "estimate_fraction", "measure_strength"]


@final
@dataclass(frozen=True)
class Units:
    """Documents as an estimator sees them: the scored tokens of each, summed up.

    Attributes:
        n_scored: int64, shape (d,), scored tokens of each document, all at least 1.
        sums: float64, shape (d,), sums of (score - null mean).
        squares: float64, shape (d,), sums of (score - null mean)^2.
    """

    n_scored: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.n_scored) == len(self.sums) == len(self.squares):
            raise ValueError("n_scored, sums and squares must have the same length")
        if (self.n_scored < 1).any():
            raise ValueError("a document without scored tokens is no unit; leave it out")


@final
@dataclass(frozen=True, slots=True)
class Strength:
    """What marked text scores, from the reference.

    Attributes:
        mean: mean of (score - null mean) over scored tokens.
        token_variance: of a token's score inside its document.
        document_variance: of a document's own mean score between documents.
        error_variance: of `mean`.
        n_documents: reference documents with scored tokens.
    """

    mean: float
    token_variance: float
    document_variance: float
    error_variance: float
    n_documents: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "strength": self.mean,
            "strength_standard_error": math.sqrt(self.error_variance),
            "token_variance": self.token_variance,
            "document_variance": self.document_variance,
            "n_documents": self.n_documents,
        }


class FractionInterval(NamedTuple):
    """An estimate with its confidence interval, neither clipped to [0, 1]."""

    estimate: float
    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "level": self.level,
        }


def measure_strength(reference: Units) -> Strength:
    """Measure the mark's strength and how it varies, from marked documents.

    Model: a document's scores have a mean of their own, which varies between documents with
    variance tau^2 (entropy differs), and vary around it with variance s^2 a token. s^2 is the
    pooled variance inside documents; tau^2 makes the expected sum of squared residuals
    Y_j - r n_j equal to the observed one (moments), and is at least 0.

    Args:
        reference: marked documents, at least 2.

    Returns:
        The strength.

    Raises:
        DocumentError: fewer than 2 documents, or only one scored token in each.
    """
    n, total = reference.n_scored.astype(np.float64), int(reference.n_scored.sum())
    if len(n) < 2 or total == len(n):
        raise DocumentError(
            f"expected at least 2 reference documents with some scored tokens each, got {len(n)}; "
            "give more of the provider's own marked answers"
        )
    mean = float(reference.sums.sum() / total)
    inside = (reference.squares - reference.sums**2 / n).sum() / (total - len(n))
    share = n / total
    # E[residual_j^2] = v_j (1 - 2 w_j) + w_j^2 sum v, with v_j = s^2 n_j + tau^2 n_j^2.
    loss = 1 - 2 * share + (share**2).sum()
    residuals = ((reference.sums - mean * n) ** 2).sum()
    between = max(float((residuals - inside * (n @ loss)) / (n**2 @ loss)), 0.0)
    error = (inside * total + between * float(n @ n)) / total**2
    return Strength(mean, float(inside), between, float(error), len(n))


def estimate_fraction(
    corpus: Units, strength: Strength, *, null_variance: float, level: float
) -> FractionInterval:
    """Estimate the share of a corpus's scored tokens that are marked.

    Estimand: theta, the share of this very corpus's scored tokens (each context in one document)
    that stand in marked documents of the reference's strength. It is a number of the corpus in
    hand, not of a source it was drawn from.

    The interval is Fieller's with the variance that each theta implies: all theta with
    (mean - theta m)^2 <= t^2 V(theta),
    V = [(1 - theta) sigma^2 + theta (s^2 + tau^2 L)] / N + theta^2 Var(m), where sigma^2 is the
    exact null variance, m, s^2, tau^2 are the reference's, N are the corpus's scored tokens and
    L = sum n_i^2 / N. No variance is estimated from the corpus, where a few marked
    documents among many would make it a gamble. t has the degrees of freedom of the reference's
    part in V (Welch & Satterthwaite): many for small theta, where V is known.

    Assumptions: unmarked documents are independent of the key; marked ones are like the
    reference's in strength (same deployment, temperature, domain), whichever documents they are and
    however long; documents are independent. Documents that are marked in part count with that part,
    and make the interval somewhat too wide.
    Approximate, not exact: coverage is measured in benchmarks/fraction.py. It decides nothing; an
    interval above 0 is no verdict.

    Args:
        corpus: its documents with scored tokens, at least one.
        strength: the reference's.
        null_variance: exact variance of a null score.
        level: confidence level in (0, 1).

    Returns:
        Estimate and interval, not clipped to [0, 1].

    Raises:
        DocumentError: a reference so weak or small that no finite interval exists.
        ValueError: a level outside (0, 1), or an empty corpus.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    if not len(corpus.n_scored):
        raise ValueError("an empty corpus has no marked fraction")
    t = float(stdtrit(strength.n_documents - 1, (1 + level) / 2))
    if strength.mean <= t * math.sqrt(strength.error_variance):
        raise DocumentError(
            f"the reference's strength, {strength.mean:.3g} with standard error "
            f"{math.sqrt(strength.error_variance):.2g} from {strength.n_documents} documents, is "
            "not clearly above 0; check that it was marked under this key and config, or give more"
        )
    return _invert(corpus, strength, null_variance, level)


def _invert(
    corpus: Units, strength: Strength, null_variance: float, level: float
) -> FractionInterval:
    # Here, since it takes as long to import as a text takes to test.
    from scipy.optimize import brentq

    n = corpus.n_scored.astype(np.float64)
    total = float(n.sum())
    mean = float(corpus.sums.sum()) / total
    marked = strength.token_variance + strength.document_variance * float(n @ n) / total

    def excess(theta: float) -> float:
        # Beyond [0, 1], where no share lies, the mixture stays what it is at the end.
        share = min(max(theta, 0.0), 1.0)
        measured = share * marked / total + theta**2 * strength.error_variance
        variance = (1 - share) * null_variance / total + measured
        freedom = (strength.n_documents - 1) * (variance / max(measured, 1e-9 * variance)) ** 2
        t = float(stdtrit(freedom, (1 + level) / 2))
        return (mean - theta * strength.mean) ** 2 - t * t * variance

    estimate = mean / strength.mean
    low, high = (
        brentq(excess, estimate, _beyond(excess, estimate, step), xtol=1e-12) for step in (-1, 1)
    )
    return FractionInterval(estimate, low, high, level)


def _beyond(excess: Callable[[float], float], start: float, step: float) -> float:
    """Walk outwards until the excess is positive; far out it grows like a parabola."""
    while excess(start + step) <= 0:
        step *= 2
    return start + step
