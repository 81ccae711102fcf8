"""How right are tails far out? Against exact values (mpmath, rational convolution), to 1e-300.

Four questions: weighted sums against the truth, with the saddlepoint beside them, and their ceiling
never below it; how long 100,000 weights take; convolutions of score tables against rational
arithmetic; and what a gamma law fitted by two moments, which some serving engine prints for two
keys, says where the truth is known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import click
import mpmath
import numpy as np
from scipy.optimize import brentq
from scipy.special import gammainccinv

from benchmarks.record import write_result
from detect.tails.convolution import Part, convolution_log_tails
from detect.tails.mixed_sums import _PartSum
from detect.tails.saddlepoint import saddlepoint_tail
from detect.tails.weighted import _Sum, weighted_tail
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits, ScoreLaw, Tabulated

LEVELS = (-2, -4, -6, -10, -20, -50, -100, -200, -300)
# Continuous sums have every level, on both sides of the mean, and far beyond what a double holds.
CONTINUOUS_LEVELS = (math.log10(0.9), math.log10(0.5), -1, *LEVELS, -1000, -10_000)
mpmath.mp.dps = 450


def _partial_fractions(weights: np.ndarray) -> Callable[[float], float]:
    """Exact log10 tail of sum w_i Exp(1), distinct weights of either sign.

    By residues at the positive weights for positive sums, at the negative ones for the rest.
    """
    w = [mpmath.mpf(float(x)) for x in weights]
    residues = [mpmath.fprod(a / (a - b) for b in w if b != a) for a in w]

    def log10_p(s: float) -> float:
        sign = 1 if s >= 0 else -1
        total = mpmath.fsum(
            r * mpmath.exp(-mpmath.mpf(s) / a)
            for r, a in zip(residues, w, strict=True)
            if a * sign > 0
        )
        return float(mpmath.log10(total if sign > 0 else 1 - total))

    return log10_p


def _integer_convolution(law: ScoreLaw, weights: np.ndarray) -> Callable[[float], float]:
    """Exact log10 tail of sum w_i score_i, integer weights, by convolution of integers."""
    masses = _masses(law)
    total, scale = [1], 1
    for w in weights.astype(int).tolist():
        denominator = math.lcm(*(m.denominator for m in masses.values()))
        width = max(masses) * w
        new = [0] * (len(total) + width)
        for v, m in masses.items():
            count = int(m * denominator)
            for k, have in enumerate(total):
                new[k + v * w] += have * count
        total, scale = new, scale * denominator
    tails = list(np.cumsum(np.array(total[::-1], dtype=object))[::-1])

    def log10_p(s: float) -> float:
        k = max(math.ceil(s - 1e-9), 0)
        return (
            float(mpmath.log10(mpmath.mpf(int(tails[k])) / scale)) if k < len(tails) else -math.inf
        )

    return log10_p


def _masses(law: ScoreLaw) -> dict[int, Fraction]:
    if isinstance(law, Bernoulli):
        p = Fraction(law.probability)
        return {0: 1 - p, 1: p}
    assert isinstance(law, LayeredBits)
    out = {0: Fraction(1)}
    for w in law.weights:
        new: dict[int, Fraction] = {}
        for v, m in out.items():
            new[v] = new.get(v, Fraction(0)) + m / 2
            new[v + w] = new.get(v + w, Fraction(0)) + m / 2
        out = new
    return out


def _level_of(exact: Callable[[float], float], level: float, low: float, high: float) -> float:
    """Find the statistic whose exact log10 p is (nearly) a level."""
    return float(brentq(lambda s: max(exact(s), -1e5) - level, low, high, xtol=1e-9))


def _compare(law: ScoreLaw, weights: np.ndarray, exact: Callable[[float], float],
             *, lattice: bool) -> list[dict[str, Any]]:  # fmt: skip
    mean = law.mean * float(weights.sum())
    deviation = math.sqrt(law.variance * float(weights @ weights))
    levels = LEVELS if lattice else CONTINUOUS_LEVELS
    low, high = mean if lattice else mean - 4 * deviation, mean + deviation
    while exact(high) > levels[-1] and math.isfinite(exact(high + (high - mean) * 0.3)):
        high += (high - mean) * 0.3
    rows = []
    for level in levels:
        if exact(high) > level:
            continue
        s = _level_of(exact, level, low, high)
        s = float(math.ceil(s)) if lattice else s
        truth = exact(s)
        found = weighted_tail(law, weights, s - mean)
        plain = saddlepoint_tail(_Sum(law, weights / deviation), (s - mean) / deviation)
        rows.append(
            {
                "log10_p_exact": truth,
                "log10_p": found.log10_p,
                "method": found.method,
                "relative_error": abs(found.log10_p - truth) / -truth,
                "saddlepoint_relative_error": abs(plain.log10_p - truth) / -truth,
                "ceiling": found.log10_p_ceiling,
                "ceiling_holds": bool(found.log10_p_ceiling >= truth - 1e-9),
            }
        )
    return rows


def _cases(rng: np.random.Generator) -> dict[str, tuple[ScoreLaw, np.ndarray, bool]]:
    bits = LayeredBits(tuple(range(8, 0, -1)))
    return {
        "exponential, 20 uniform weights": (Exponential(), rng.uniform(0.1, 1, 20), False),
        "exponential, 100 uniform weights": (Exponential(), rng.uniform(0.1, 1, 100), False),
        "exponential, 100 heavy-tailed weights": (Exponential(), rng.pareto(3, 100) + 0.1, False),
        "exponential, 10 weights, one rules": (
            Exponential(), np.append(rng.uniform(0.1, 0.3, 9), 1.0), False),
        "bernoulli 1/2, 200 weights 1 to 9": (
            Bernoulli(0.5), rng.integers(1, 10, 200).astype(float), True),
        "bernoulli 1/2, 1500 weights 1 to 9": (
            Bernoulli(0.5), rng.integers(1, 10, 1500).astype(float), True),
        "bernoulli 1/4, 1500 weights 1 to 3": (
            Bernoulli(0.25), rng.integers(1, 4, 1500).astype(float), True),
        "bits of 8 layers, 150 weights 1 to 5": (bits, rng.integers(1, 6, 150).astype(float), True),
    }  # fmt: skip


def _harder_cases(rng: np.random.Generator) -> dict[str, tuple[ScoreLaw, np.ndarray, bool]]:
    """Few weights, weights of both signs, and both."""
    either = np.array([-1, 1])
    weights = {
        "2 weights": np.array([1.0, 0.3]),
        "3 weights of both signs": np.array([1.0, 0.9, -2.0]),
        "60 normal weights": rng.normal(size=60),
        "60 weights of both signs without a mean": rng.pareto(0.7, 60) * rng.choice(either, 60),
    }
    return {f"exponential, {name}": (Exponential(), w, False) for name, w in weights.items()}


def _weighted(cases: dict[str, tuple[ScoreLaw, np.ndarray, bool]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (law, weights, lattice) in cases.items():
        exact = _integer_convolution(law, weights) if lattice else _partial_fractions(weights)
        rows = _compare(law, weights, exact, lattice=lattice)
        found[name] = {
            "worst_relative_error": max(r["relative_error"] for r in rows),
            "worst_relative_error_below_1e-10": max(
                (r["relative_error"] for r in rows if r["log10_p_exact"] <= -9.5), default=None
            ),
            "saddlepoint_worst_relative_error": max(r["saddlepoint_relative_error"] for r in rows),
            "ceiling_always_holds": all(r["ceiling_holds"] for r in rows),
            "rows": rows,
        }
        click.echo(f"{name}: { ({k: v for k, v in found[name].items() if k != 'rows'}) }")
    return found


def _duration(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Seconds a tail of n different weights takes, median over depths."""
    weights = rng.normal(size=n)
    seconds = []
    for z in (-1.0, 0.5, 3.0, 10.0, 100.0):
        start = time.perf_counter()
        found = weighted_tail(Exponential(), weights, z * math.sqrt(n))
        seconds.append(time.perf_counter() - start)
        assert found.method == "inversion"
    return {"weights": n, "median_seconds": sorted(seconds)[len(seconds) // 2]}


def _tables(rng: np.random.Generator) -> dict[str, Any]:
    """Convolutions of two small tables, every tail, against integers; and their saddlepoint."""
    masses = [rng.integers(1, 60, 9), rng.integers(1, 60, 14)]
    values = [np.sort(rng.choice(np.arange(-20, 90), len(m), False)) for m in masses]
    counts = [70, 50]
    total, low = np.array([1], dtype=object), 0
    for v, m, n in zip(values, masses, counts, strict=True):
        single = np.zeros(int(v[-1] - v[0]) + 1, dtype=object)
        single[v - v[0]] = m
        for _ in range(n):
            total = np.convolve(total, single)
        low += int(v[0]) * n
    tails = np.cumsum(total[::-1])[::-1]
    scale = math.prod(int(m.sum()) ** n for m, n in zip(masses, counts, strict=True))
    parts = [
        Part(Tabulated(1.0, v, m / m.sum()), n)
        for v, m, n in zip(values, masses, counts, strict=True)
    ]
    statistics = np.arange(low, low + len(tails))
    exact = np.array([float(mpmath.log(mpmath.mpf(int(t)) / scale)) for t in tails])
    found = convolution_log_tails(parts, statistics)
    mean = sum(p.n * p.law.mean for p in parts)
    deviation = math.sqrt(sum(p.n * p.law.variance for p in parts))
    approximate = [
        saddlepoint_tail(_PartSum(tuple(parts), deviation), (s - mean) / deviation)
        for s in statistics[::40].tolist()
    ]
    far = exact[::40] < math.log(1e-2)
    ln10 = math.log(10)
    log10_p = np.array([t.log10_p for t in approximate])
    return {
        "statistics": len(statistics),
        "smallest_log10_p": float(exact.min() / ln10),
        "worst_error_of_ln_p": float(np.abs(found - exact).max()),
        "saddlepoint_worst_relative_error": float(
            np.max(np.abs(log10_p[far] * ln10 / exact[::40][far] - 1))
        ),
        "saddlepoint_ceiling_always_holds": bool(
            all(
                t.log10_p_ceiling >= e / ln10 - 1e-9
                for t, e in zip(approximate, exact[::40].tolist(), strict=True)
            )
        ),
    }


def _two_moments(alpha: float, n: int) -> list[dict[str, Any]]:
    """(1 - alpha) Gamma(n) + alpha Gamma(n): exact as a mixture of gammas, fitted, and ours."""
    share = (1 - alpha) ** 2 + alpha**2
    weights = np.repeat([1 - alpha, alpha], n)
    split = mpmath.mpf(alpha) / (1 - alpha)

    def exact(s: float) -> float:
        # (1 - alpha) Exp is a geometric number of alpha Exp: a sum of positive terms.
        x, total, shape = mpmath.mpf(s) / alpha, mpmath.mpf(0), 2 * n
        tail, step = mpmath.gammainc(shape, x, regularized=True), mpmath.exp(-x)
        step *= x**shape / mpmath.factorial(shape)
        share_of_count, count, term = split**n, 0, mpmath.inf
        while count < shape or term > total * mpmath.mpf(10) ** -30:
            term = share_of_count * tail
            total += term
            share_of_count *= (1 - split) * (n + count) / (count + 1)
            count += 1
            tail, step = tail + step, step * x / (shape + count)
        return float(mpmath.log10(total))

    rows = []
    with mpmath.workdps(80):
        for reported in (1e-6, 1e-10, 1e-20, 1e-50, 1e-100):
            s = float(gammainccinv(n / share, reported)) * share
            truth = exact(s)
            ours = weighted_tail(Exponential(), weights, s - n)
            rows.append(
                {
                    "n": n,
                    "two_moment_fit": reported,
                    "log10_p_exact": truth,
                    "fit_too_small_by": 10 ** (truth - math.log10(reported)),
                    "ours_log10_p": ours.log10_p,
                    "ours_off_by_factor": 10 ** (ours.log10_p - truth),
                    "our_ceiling": ours.log10_p_ceiling,
                    "our_ceiling_holds": bool(ours.log10_p_ceiling >= truth),
                }
            )
    return rows


@click.command()
@click.option("--seed", default=0, show_default=True)
def main(seed: int) -> None:
    """Compare tails with exact values."""
    rng, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    cases = _cases(rng) | _harder_cases(other)
    measured: dict[str, Any] = {"weighted": _weighted(cases), "tables": _tables(rng)}
    measured["duration"] = _duration(other, 100_000)
    click.echo(f"duration: {measured['duration']}")
    click.echo(f"tables: {measured['tables']}")
    measured["two_moment_fit_of_two_keys"] = _two_moments(0.1, 50) + _two_moments(0.1, 200)
    for row in measured["two_moment_fit_of_two_keys"]:
        click.echo(f"two moments: {row}")
    click.echo(f"wrote {write_result('far_tail', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
