"""Can more cohorts be told apart by codewords over slots of one key than by a key for each?

Separate keys: each cohort's answers carry the dual-key mark of a key of its own. Code slots
(reference statistics.md B8): all cohorts share one key; a context falls into one of L slots, and in
each slot a cohort's code bit says which of the two keys of the dual-key sampler is the one used
mostly (1 - alpha), which the other.

A student of one cohort is simulated on native words: at each scored pair it has two tokens to
choose from; with a chance that gives the effect of real students it follows the mark of its cohort,
else either. The same tokens, the same effect, the same level: a cohort is named if its p-value,
times the number of cohorts, is at most 1e-6 and no other's is smaller. What is counted is the
scored pairs after which 90 % of students are named rightly.

Tests. Separate keys: the sum of the score "weak" under each key (z; sums under keys that taught
nothing are drawn from their law). Code slots: that sum is high for every codeword, since any two
share half of their bits, so that it names nobody. What names is the difference D_l between the
scores of both orders of the keys, summed over the pairs of slot l, with the codeword's signs: under
H0, a codeword drawn independently of the student, the sum of random signs times D_l.

    python -m benchmarks.code_slots
"""

from __future__ import annotations

import time
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from benchmarks.record import write_result
from detect.scoring.score_tables import ScoreTable
from detect.scoring.scorers import choose_scorer
from watermark.config import preset
from watermark.keys import SecretKey

_COHORTS: Final = (2, 4, 8, 16, 32, 64, 256, 1024)
_EFFECTS: Final = (0.051, 0.2)  # by text, and strong; benchmarks/results/inheritance.json
_SLOTS: Final = 256
_ALPHA: Final = 1e-6
_TOKENS: Final = 49_000
_BLOCKS: Final = 120


class Student:
    """A student of one cohort, pair by pair, under native words.

    Args:
        effect: mean shift of a pair's score under the own key, in null standard deviations.
        seed: of the student.
        bits: bool, shape (slots,), the cohort's codeword; None for a key of its own.
    """

    def __init__(self, effect: float, seed: int, bits: NDArray[np.bool_] | None) -> None:
        config = preset("default")
        table = choose_scorer(None, config.scheme, "inherited")
        assert isinstance(table, ScoreTable)
        self.table, self.rng, self.bits = table, np.random.default_rng(seed), bits
        self.width = config.context_width
        self.alpha: float = config.scheme.alpha  # type: ignore[attr-defined]
        secret = SecretKey(f"code slots {seed:>12}".encode().rjust(32, b"."))
        self.words = config.source.under(secret)
        self.follows = effect / _full_effect(self)

    def pairs(self, n: int, follows: float | None = None) -> tuple[Any, Any, Any]:
        """Draw pairs: the words of the chosen tokens in the cohort's order, the others', slots."""
        rng, follows = self.rng, self.follows if follows is None else follows
        contexts = rng.integers(_TOKENS, size=(n, self.width))
        two = np.stack([rng.integers(_TOKENS, size=n) for _ in range(2)], axis=1)
        hashes = self.words.context_hashes(contexts)
        both = np.stack([self.words.words(hashes, two, stream) for stream in (0, 1)])
        slots = self.words.words(hashes, np.zeros(n, np.int64), 2) % np.uint32(_SLOTS)
        bits = np.zeros(n, np.int64) if self.bits is None else self.bits[slots].astype(np.int64)
        # The stream that the sampler used: mostly the one that the bit names.
        used = np.where(rng.random(n) < self.alpha, 1 - bits, bits)
        marked = both[used, np.arange(n)].argmax(axis=1)
        chosen = np.where(rng.random(n) < follows, marked, rng.integers(2, size=n))
        found = both[:, np.arange(n), chosen]
        return found, bits, slots.astype(np.int64)


def _full_effect(student: Student) -> float:
    """Effect of a student that always follows the mark."""
    student.follows = 1.0
    found, bits, _ = student.pairs(50_000)
    law = student.table.law
    own = student.table.score(np.where(bits == 0, found, found[::-1]))
    return float((own.mean() - law.mean) / law.variance**0.5)


def separate(effect: float, seed: int, size: int) -> NDArray[np.float64]:
    """Return the own key's z after each block of pairs."""
    student = Student(effect, seed, None)
    law, sums = student.table.law, []
    for _ in range(_BLOCKS):
        found, _, _ = student.pairs(size)
        sums.append(float((student.table.score(found) - law.mean).sum()))
    counts = size * np.arange(1, _BLOCKS + 1)
    result: NDArray[np.float64] = np.cumsum(sums) / np.sqrt(counts * law.variance)
    return result


def slotted(effect: float, seed: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return z of the own codeword and of all others (cohorts - 1 of them), after each block."""
    rng = np.random.default_rng([seed, 1])
    codes = rng.random((max(_COHORTS), _SLOTS)) < 0.5
    student = Student(effect, seed, codes[0])
    signs, differences = np.where(codes, 1.0, -1.0), np.zeros(_SLOTS)
    zs = []
    for _ in range(_BLOCKS):
        found, _, slots = student.pairs(size)
        score = student.table.score
        differences += np.bincount(slots, score(found[::-1]) - score(found), _SLOTS)
        zs.append(signs @ differences / np.sqrt(np.square(differences).sum()))
    rows = np.array(zs)
    return rows[:, 0], rows[:, 1:]


def needed(named: NDArray[np.bool_], size: int) -> int | None:
    """Scored pairs from which on 90 % of students are named; None if never, so far."""
    enough = named.mean(axis=0) >= 0.9
    return int((np.argmax(enough) + 1) * size) if enough.any() else None


def compared(effect: float, trials: int, seed: int) -> list[dict[str, Any]]:
    """Compare both at every number of cohorts."""
    # So many pairs that the own key's z reaches 10, and for slots the 2.6^2-fold of that.
    sizes = {
        "separate": int((10 / effect) ** 2 / _BLOCKS),
        "slots": int((26 / effect) ** 2 / _BLOCKS),
    }
    seeds = range(1000 * seed, 1000 * seed + trials)
    own = np.array([separate(effect, s, sizes["separate"]) for s in seeds])
    coded = [slotted(effect, s, sizes["slots"]) for s in seeds]
    mine = np.array([z for z, _ in coded])
    rng, rows = np.random.default_rng(seed), []
    for n in _COHORTS:
        level = np.log(_ALPHA / n)
        wrong = rng.normal(size=(*own.shape, n - 1)).max(axis=2)
        by_keys = (log_ndtr(-own) <= level) & (own > wrong)
        theirs = np.array([z[:, : n - 1].max(axis=1) for _, z in coded])
        by_slots = (log_ndtr(-mine) <= level) & (mine > theirs)
        keys, slots = needed(by_keys, sizes["separate"]), needed(by_slots, sizes["slots"])
        row = {
            "cohorts": n,
            "pairs_separate_keys": keys,
            "pairs_code_slots": slots,
            "ratio": round(slots / keys, 2) if keys and slots else None,
        }
        rows.append(row)
        click.echo(f"effect {effect}: {row}")
    return rows


@click.command()
@click.option("--trials", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(trials: int, seed: int) -> None:
    """Simulate both, count pairs."""
    started = time.process_time()
    measured = {
        "slots": _SLOTS,
        "level": _ALPHA,
        "trials": trials,
        "by_effect": {str(e): compared(e, trials, seed) for e in _EFFECTS},
        "seconds_of_one_core": 0.0,
    }
    measured["seconds_of_one_core"] = round(time.process_time() - started, 1)
    click.echo(f"wrote {write_result('code_slots', seed=seed, measured=measured)}")


if __name__ == "__main__":
    main()
