"""How often does the test of concentration call a leak a campaign, and when does it find one?

Simulated students. Each scored pair was taught by one document or by none; a document carries the
key of one cohort, so that pairs of one document stand or fall together. A taught pair's word under
its document's key follows the mark with a chance that gives a student of marked answers alone the
effect that real ones have: z about 6 by 15,000 pairs of answers, about 25 by weights
(benchmarks/results/trace_model.json). All else is uniform.

Documents may leave unequal traces: lognormal or Pareto parts of it. The null hypothesis presumes an
effective number of documents, 1 / sum w^2; their plain number is then outside of it.

False campaigns are counted at levels of 0.05 and 0.01 of the whole test (choice of the key paid
for). Where the share of one cohort is beyond what the null hypothesis allows, it is said so.
What is counted is the test of concentration alone, not the whole conclusion.

    python -m benchmarks.leak_or_campaign
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, final

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks.record import write_result
from detect.scoring.alternatives import TYPICAL
from detect.scoring.score_tables import ScoreTable, cell_ratios, tabulate
from detect.scoring.scorers import choose_scorer
from detect.tracing.models.concentration import Increments
from detect.tracing.models.findings import Concentrated
from detect.tracing.models.leaks import Traffic
from detect.tracing.models.pair_laws import pair_laws
from watermark.config import preset
from watermark.schemes.laws import Tabulated

K: Final = 8
_PAIRS: Final = 4_000
_LEVELS: Final = (0.05, 0.01)
_ALPHA: Final = 1e-6
# Of the logarithm of lognormal traces; and the exponent of Pareto's tail, without a variance.
_SIGMA: Final = 1.5
_TAIL: Final = 1.2


@final
@dataclass(frozen=True)
class Case:
    """A kind of student.

    Attributes:
        z: what all of its marked data leave, in null standard deviations of one key's statistic.
        shares: of the documents, by cohort.
        documents: how many; None for exact shares without chance.
        strengths: of the trace that a document leaves, by cohort.
        traces: how unequal the documents' traces are; "" for equal ones.
    """

    z: float
    shares: tuple[float, ...]
    documents: int | None = None
    strengths: tuple[float, ...] | None = None
    traces: Literal["", "lognormal", "pareto"] = ""

    def parts(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw each document's part of the trace."""
        n = self.documents or 0
        match self.traces:
            case "lognormal":
                traces = rng.lognormal(0, _SIGMA, n)
            case "pareto":
                traces = rng.pareto(_TAIL, n) + 1
            case _:
                traces = np.ones(n)
        return np.asarray(traces / traces.sum())

    def taught(self, rng: np.random.Generator, parts: NDArray[np.float64]) -> NDArray[np.int64]:
        """Draw the cohort that taught each pair."""
        if self.documents is None:
            exact = np.repeat(
                np.arange(len(self.shares)), np.rint(np.array(self.shares) * _PAIRS).astype(int)
            )
            return rng.permutation(np.resize(exact, _PAIRS))
        cohorts = rng.choice(len(self.shares), self.documents, p=self.shares)
        return np.asarray(cohorts[rng.choice(self.documents, _PAIRS, p=parts)])


class Student(NamedTuple):
    """A simulated student: scores under all keys, and the effective number of its documents."""

    scores: NDArray[np.float64]
    effective: int | None


class Bench:
    """Scores of words, and of words that follow the mark."""

    def __init__(self) -> None:
        self.scheme = preset("default").scheme
        table = choose_scorer(None, self.scheme, "inherited")
        assert isinstance(table, ScoreTable)
        self.law = table.law
        ratios, null = cell_ratios(self.scheme, TYPICAL)
        self.marked = tabulate(table.units, ratios * null, self.law.step)
        self.laws = pair_laws(table, _PAIRS)

    def student(self, case: Case, rng: np.random.Generator) -> Student:
        """Draw a student: scores of shape (keys, pairs)."""
        parts = case.parts(rng)
        effective = int(1 / (parts @ parts)) if len(parts) else None
        return Student(self._scores(case, rng, parts), effective)

    def _scores(
        self, case: Case, rng: np.random.Generator, parts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        keys = len(case.shares)
        scores = _draw(self.law, (keys, _PAIRS), rng)
        shift = (self.marked.mean - self.law.mean) / self.law.variance**0.5
        follows = case.z / (shift * _PAIRS**0.5)
        taught = case.taught(rng, parts)
        strength = np.ones(keys) if case.strengths is None else np.array(case.strengths)
        marked = np.flatnonzero(rng.random(_PAIRS) < follows * strength[taught])
        scores[taught[marked], marked] = _draw(self.marked, (len(marked),), rng)
        return scores

    def log10_p(self, scores: NDArray[np.float64], traffic: Traffic, alpha: float) -> float:
        """Test the best key's part, as `heirmark trace model` does; all paid for."""
        best = int(scores.sum(axis=1).argmax())
        increments = Increments.of(scores, self.laws, best)
        return Concentrated.of(increments, str(best), traffic, alpha).log10_p_adjusted


def _draw(law: Tabulated, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    at = np.searchsorted(np.cumsum(law.probabilities), rng.random(shape), side="right")
    drawn: NDArray[np.float64] = law.values[np.minimum(at, len(law.values) - 1)] * law.step
    return drawn


def _equal(n: int = K) -> tuple[float, ...]:
    return (1 / n,) * n


def _one(share: float, n: int = K) -> tuple[float, ...]:
    return (share, *((1 - share) / (n - 1),) * (n - 1))


def _served(shares: Sequence[float]) -> dict[str, int]:
    return {str(i): max(round(1e6 * share), 1) for i, share in enumerate(shares)}


_NONE: Final = Traffic()
_MOST: Final = 25.0


class Null(NamedTuple):
    """An innocent suspect.

    Attributes:
        name: of the row.
        case: the student.
        traffic: what is known of the traffic.
        holds: whether the null hypothesis of the test is true.
        by_effective: presume the effective number of the documents drawn, not that of `traffic`.
    """

    name: str
    case: Case
    traffic: Traffic
    holds: bool
    by_effective: bool = False


NULLS: Final[tuple[Null, ...]] = (
    Null("no signal", Case(0.0, _equal()), _NONE, True),
    Null("leak, equal shares, by text", Case(6.0, _equal(), 1000), _NONE, True),
    Null("leak, equal shares", Case(_MOST, _equal(), 1000), _NONE, True),
    Null("leak, equal shares, 100 documents", Case(_MOST, _equal(), 100), _NONE, True),
    Null("leak, equal shares, 30 documents", Case(_MOST, _equal(), 30), _NONE, True),
    Null("leak, exactly half one cohort's", Case(_MOST, _one(0.5)), _NONE, True),
    Null("leak, exactly half one cohort's, by text", Case(6.0, _one(0.5)), _NONE, True),
    Null("two cohorts, half each", Case(_MOST, (0.5, 0.5, 0, 0, 0, 0, 0, 0)), _NONE, True),
    Null("boosted cohort, three times the trace, equal shares",
     Case(_MOST, _equal(), 1000, (3, *(1,) * 7)), _NONE, True),
    Null("leak by traffic of 70 %, counted", Case(_MOST, _one(0.7), 100),
     Traffic(_served(_one(0.7)), 100), True),
    Null("leak by equal traffic, counted, 100 documents", Case(_MOST, _equal(), 100),
     Traffic(_served(_equal()), 100), True),
    Null("leak by equal traffic, counted, 1000 documents", Case(_MOST, _equal(), 1000),
     Traffic(_served(_equal()), 1000), True),
    Null("lognormal traces, effective number presumed",
         Case(_MOST, _equal(), 100, None, "lognormal"), Traffic(_served(_equal())), True, True),
    Null("Pareto traces, effective number presumed",
         Case(_MOST, _equal(), 100, None, "pareto"), Traffic(_served(_equal())), True, True),
    Null("BROKEN: lognormal traces, plain number presumed",
         Case(_MOST, _equal(), 100, None, "lognormal"), Traffic(_served(_equal()), 100), False),
    Null("BROKEN: Pareto traces, plain number presumed",
         Case(_MOST, _equal(), 100, None, "pareto"), Traffic(_served(_equal()), 100), False),
    Null("BROKEN: leak of 100 documents, counted, 1,000,000 presumed",
         Case(_MOST, _equal(), 100), Traffic(_served(_equal()), 10**6), False),
    Null("BROKEN: leak by traffic of 70 %, not counted", Case(_MOST, _one(0.7), 100), _NONE, False),
    Null("BROKEN: leak of 3 documents", Case(_MOST, _equal(), 3), _NONE, False),
    Null("BROKEN: leak of 10 documents, counted, 100 presumed", Case(_MOST, _equal(), 10),
     Traffic(_served(_equal()), 100), False),
    Null("BROKEN: leak by traffic of half, 30 documents, not counted",
     Case(_MOST, _one(0.5), 30), _NONE, False),
    Null("BROKEN: 20 times the trace, equal shares",
     Case(6.0, _equal(), 1000, (20, *(1,) * 7)), _NONE, False),
)  # fmt: skip


def false_campaigns(bench: Bench, trials: int, seed: int) -> dict[str, Any]:
    """Count how often each null is called a campaign."""
    rows = {}
    for number, null in enumerate(NULLS):
        rng = np.random.default_rng([seed, number])
        drawn = [bench.student(null.case, rng) for _ in range(trials)]
        row: dict[str, Any] = {"null_holds": null.holds, "trials": trials}
        if null.case.traces:
            effective = [student.effective for student in drawn if student.effective]
            row["effective_documents"] = {
                "median": float(np.median(effective)), "least": min(effective)
            }  # fmt: skip
        for alpha in _LEVELS:
            called = [
                bench.log10_p(student.scores, _presumed(null, student), alpha) <= np.log10(alpha)
                for student in drawn
            ]
            found = sum(map(bool, called))
            # Clopper and Pearson's upper end, 95 %.
            upper = 1.0 if found == trials else float(beta.ppf(0.975, found + 1, trials - found))
            row[str(alpha)] = {"called_campaign": found / trials, "at_most": round(upper, 5)}
        rows[null.name] = row
        click.echo(f"{null.name}: {row}")
    return rows


def _presumed(null: Null, student: Student) -> Traffic:
    if not null.by_effective or student.effective is None:
        return null.traffic
    return replace(null.traffic, documents=student.effective)


def powers(bench: Bench, trials: int, seed: int) -> list[dict[str, Any]]:
    """Tell how often a campaign of one cohort is told from a leak at 1e-6."""
    rows = []
    for keys in (2, 4, 8, 16):
        for z in (6.0, 9.0, 12.0, 16.0, 20.0, 25.0, 30.0):
            rng = np.random.default_rng([seed, keys, round(z)])
            drawn = [bench.student(Case(z, _one(1.0, keys)), rng).scores for _ in range(trials)]
            row: dict[str, Any] = {"keys": keys, "z": z}
            served = _served(_equal(keys))
            for name, traffic in (
                ("no counters", _NONE),
                ("100 documents", Traffic(served, 100)),
                ("1000 documents", Traffic(served, 1000)),
            ):
                logs = np.array([bench.log10_p(s, traffic, _ALPHA) for s in drawn])
                row[name] = {
                    "power": float((logs <= np.log10(_ALPHA)).mean()),
                    "median_log10_p": round(float(np.median(logs)), 2),
                }
            rows.append(row)
            click.echo(str(row))
    return rows


@click.command()
@click.option("--trials", default=1000, show_default=True)
@click.option("--power-trials", default=100, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(trials: int, power_trials: int, seed: int) -> None:
    """Simulate, test, count."""
    started, bench = time.process_time(), Bench()
    measured = {
        "cohorts": K,
        "pairs": _PAIRS,
        "false_campaigns": false_campaigns(bench, trials, seed),
        "power_of_a_campaign": powers(bench, power_trials, seed),
        "seconds_of_one_core": round(time.process_time() - started, 1),
    }
    click.echo(f"wrote {write_result('leak_or_campaign', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
