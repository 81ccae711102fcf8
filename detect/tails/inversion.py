"""Tails of weighted sums of exponential scores by inversion of the moment generating function.

S = sum_i w_i (E_i - 1), weights of either sign, E_i independent and exponential with mean 1 (H0:
words are independent and uniform). With K(z) = -sum_i [ln(1 - w_i z) + w_i z],

    P(S >= s) = 1 / (2 pi i)  integral of exp(K(z) - z s) / z dz

along any path from -i infinity to i infinity that crosses the real axis once, between 0 and the
first pole 1 / max w. The path here is a hyperbola through the saddlepoint c of the integrand, bent
to the side where exp(K(z) - z s) vanishes fast. On it the trapezoidal rule converges exponentially
(Trefethen and Weideman, SIAM Review 56, 2014, sections 5 and 15): some 100 nodes suffice.

All is relative to the integrand exp(f(z)) at c, so that depth costs no accuracy. Seen from c, the
pole at 0 is a weight like the others: with a_i = w_i / (1 - w_i c), a_0 = -1 / c and d = z - c,
f(z) = f(c) + f'(c) d - sum_i [ln(1 - a_i d) + a_i d].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Inverted", "exponential_log_tail"]

_EPSILON = float(np.finfo(np.float64).eps)
# First step along the path; halved until two sums agree to this. The error of the finer one is
# about the square of their difference.
_STEP = 0.25
_AGREED = 1e-11
_MAX_HALVINGS = 7
# The path ends where terms are smaller than this, relative to the first.
_NEGLIGIBLE = 1e-18
_MAX_NODES = 480
# Many poles with |a d| below this enter through their power sums; 30 terms are exact to rounding.
_MANY = 500
_SMALL = 0.25
_POWERS = 30
# The saddlepoint is looked for on a logarithmic scale between exp of minus and plus this.
_SEARCH = 600.0
# Flattest path, in radians: far out it must turn to where exp(-z s) falls.
_LEAST_ANGLE = 0.1


class Inverted(NamedTuple):
    """A tail and how far it may be off.

    Attributes:
        log_p: natural logarithm of P(S >= s); NaN where no path was found.
        error: estimated absolute error of it (the relative error of p): the change at the last
            halving of the step, and rounding. An estimate, not a bound; infinite with NaN.
    """

    log_p: float
    error: float


_NOT_FOUND = Inverted(math.nan, math.inf)


def exponential_log_tail(weights: NDArray[np.float64], statistic: float) -> Inverted:
    """Compute ln P(S >= statistic) for a weighted sum of centred exponential scores.

    Args:
        weights: float64, shape (n,), finite, not zero, n at least 1.
        statistic: observed sum_i w_i (score_i - 1), finite.

    Returns:
        The tail and its estimated error. Not found where the sum can never or always reach the
        statistic, or where weights differ by more than a double can hold.
    """
    if statistic >= 0:
        return _upper(weights, statistic)
    # Below its mean a sum has the larger tail above: the density is log-concave (Gruenbaum).
    lower = _upper(-weights, -statistic)
    q = math.exp(lower.log_p)
    return Inverted(math.log1p(-q), lower.error * q / (1 - q)) if q < 1 else _NOT_FOUND


def _upper(weights: NDArray[np.float64], s: float) -> Inverted:
    """The tail at or above the mean."""
    highest, lowest = float(weights.max()), float(weights.min())
    largest = highest if highest > 0 else -lowest
    with np.errstate(all="ignore"):
        w, counts = np.unique(weights / largest, return_counts=True)
        saddle = _saddlepoint(w, counts.astype(np.float64), s / largest)
        return _NOT_FOUND if saddle is None else _integrate(_contour(saddle), saddle)


class _Saddle(NamedTuple):
    """The integrand around its saddlepoint c.

    Attributes:
        log_value: f(c).
        rounding: estimated absolute error of log_value.
        a: float64, shape (m,), one over the signed distance to each pole, nearest pole first.
        counts: float64, shape (m,), orders of the poles.
        slope: f'(c), zero up to rounding.
        side: 1 if exp(-z s + ...) falls to the right far out, -1 if to the left.
    """

    log_value: float
    rounding: float
    a: NDArray[np.float64]
    counts: NDArray[np.float64]
    slope: float
    side: float

    @property
    def nodes_at_once(self) -> int:
        """Few if poles are many: near the saddlepoint most of them are far away."""
        return 4 if len(self.a) > _MANY else 32


class _Place(NamedTuple):
    """A place between 0 and the first positive pole, which stands at 1, or at infinity.

    Attributes:
        c: the place.
        rest: 1 - c without cancellation; 1 / (1 + c) where there is no positive pole.
    """

    c: float
    rest: float

    def factors(self, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 - w c, accurate however near the pole."""
        return np.where(w > 0, (1 - w) + w * self.rest, 1 - w * self.c)


def _place(x: float, *, bounded: bool) -> _Place:
    return _Place(1 / (1 + math.exp(-x)) if bounded else math.exp(x), 1 / (1 + math.exp(x)))


def _saddlepoint(w: NDArray[np.float64], counts: NDArray[np.float64], s: float) -> _Saddle | None:
    """Find the minimum of f on the real axis; None if there is none."""
    # Here, since it takes as long to import as a text takes to test.
    from scipy.optimize import brentq

    bounded, squares = bool(w[-1] > 0), counts * w * w
    least = s + float(counts @ w)
    if not bounded and least >= 0:
        return None

    def slope(at: _Place) -> float:
        return float(np.sum(squares / at.factors(w))) * at.c - s - 1 / at.c

    def bounded_slope(x: float) -> float:
        at = _place(x, bounded=bounded)
        return slope(at) * at.c * at.rest

    if not bounded_slope(-_SEARCH) < 0 < bounded_slope(_SEARCH):
        return None
    at = _place(float(brentq(bounded_slope, -_SEARCH, _SEARCH, xtol=1e-9)), bounded=bounded)
    factors, shares = at.factors(w), w * at.c
    logs = np.where(shares < 0.5, np.log1p(-np.minimum(shares, 0.5)), np.log(factors))
    k = -float(counts @ (logs + shares))
    a, orders = np.append(w / factors, -1 / at.c), np.append(counts, 1.0)
    nearest_first = np.argsort(-np.abs(a))
    return _Saddle(
        k - at.c * s - math.log(at.c),
        8 * _EPSILON * (1 + k + at.c * s + abs(math.log(at.c))),
        a[nearest_first],
        orders[nearest_first],
        slope(at),
        math.copysign(1.0, least),
    )


class _Contour(NamedTuple):
    """The hyperbola d(v) = scale (sin(angle + i v) - sin(angle)), v real."""

    scale: float
    angle: float

    def offsets(self, v: NDArray[np.float64]) -> NDArray[np.complex128]:
        """The points d(v)."""
        across, along = math.sin(self.angle), math.cos(self.angle)
        # cosh v - 1 without cancellation.
        return self.scale * (across * 2 * np.sinh(v / 2) ** 2 + 1j * along * np.sinh(v))

    def speeds(self, v: NDArray[np.float64]) -> NDArray[np.complex128]:
        """The derivatives d'(v), divided by i."""
        speeds: NDArray[np.complex128] = self.scale * np.cos(self.angle + 1j * v)
        return speeds


def _contour(saddle: _Saddle) -> _Contour:
    """The hyperbola with the width and the bend of the path of steepest descent."""
    second = float(saddle.counts @ saddle.a**2)
    third = 2 * float(saddle.counts @ saddle.a**3)
    bend = math.atan(third / (3 * second**1.5))
    angle = saddle.side * max(saddle.side * bend, _LEAST_ANGLE)
    return _Contour(1 / (math.sqrt(second) * math.cos(angle)), angle)


def _integrate(contour: _Contour, saddle: _Saddle) -> Inverted:
    """Sum along the contour with ever smaller steps until two of them agree."""
    terms = _to_the_end(contour, saddle)
    if terms is None:
        return _NOT_FOUND
    n, step = len(terms), _STEP
    total, size = float(terms.real.sum() - terms[0].real / 2), float(np.abs(terms).sum())
    for _ in range(_MAX_HALVINGS):
        terms = _terms(contour, saddle, np.arange(0.5, n, dtype=np.float64) * np.float64(step))
        coarser, total = 2 * total, total + float(terms.real.sum())
        n, step, size = 2 * n, step / 2, size + float(np.abs(terms).sum())
        change = abs(total - coarser)
        if change < _AGREED * total:
            error = change / total + saddle.rounding + 8 * _EPSILON * size / total
            return Inverted(saddle.log_value + math.log(total * step / math.pi), error)
    return _NOT_FOUND


def _to_the_end(contour: _Contour, saddle: _Saddle) -> NDArray[np.complex128] | None:
    """Terms at steps of `_STEP` until they vanish; None if they do not."""
    terms = np.zeros(0, np.complex128)
    for start in range(0, _MAX_NODES, saddle.nodes_at_once):
        nodes = np.arange(start, start + saddle.nodes_at_once, dtype=np.float64)
        terms = np.append(terms, _terms(contour, saddle, nodes * np.float64(_STEP)))
        negligible = np.abs(terms) < _NEGLIGIBLE * np.abs(terms[0])
        if negligible.any():
            return terms[: int(negligible.argmax()) + 1]
    return None


def _terms(
    contour: _Contour, saddle: _Saddle, nodes: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Integrand times speed, relative to the integrand at the saddlepoint."""
    batches = np.array_split(nodes, math.ceil(len(nodes) / saddle.nodes_at_once))
    return np.concatenate(
        [np.exp(_exponent(saddle, contour.offsets(v))) * contour.speeds(v) for v in batches]
    )


def _exponent(saddle: _Saddle, d: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """f'(c) d - sum_i [ln(1 - a_i d) + a_i d]."""
    reach, m = float(np.abs(d).max()), len(saddle.a)
    n_near = int(np.searchsorted(-np.abs(saddle.a) * reach, -_SMALL)) if m > _MANY else m
    products = np.multiply.outer(d, saddle.a[:n_near])
    near: NDArray[np.complex128] = (np.log(1 - products) + products) @ saddle.counts[:n_near]
    if n_near == m:
        return saddle.slope * d - near
    powers = _power_sums(saddle.a[n_near:] * reach, saddle.counts[n_near:])
    return saddle.slope * d - near + np.polynomial.polynomial.polyval(d / reach, powers)


def _power_sums(x: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of -sum_i [ln(1 - x_i t) + x_i t] as a series in t."""
    power, sums = x * counts, np.zeros(_POWERS)
    for k in range(2, _POWERS):
        power *= x
        sums[k] = power.sum() / k
    return sums
