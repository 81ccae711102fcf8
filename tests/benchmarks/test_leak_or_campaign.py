"""Simulated students have the effect that they are said to have."""

from __future__ import annotations

import numpy as np

from benchmarks.code_slots import separate, slotted
from benchmarks.leak_or_campaign import Bench, Case
from detect.tracing.models.leaks import Traffic


def test_a_simulated_student_has_its_effect_under_the_keys_that_taught_it() -> None:
    bench, rng = Bench(), np.random.default_rng(0)
    shares = (0.5, 0.25, 0.25, 0.0)
    drawn = [bench.student(Case(12.0, shares), rng).scores for _ in range(40)]
    n = drawn[0].shape[1]
    sums = np.array([scores.sum(axis=1) for scores in drawn])
    z = (sums - n * bench.law.mean) / np.sqrt(n * bench.law.variance)
    assert np.abs(z.mean(axis=0) - 12 * np.array(shares)).max() < 0.7
    assert bench.log10_p(drawn[0], Traffic(), 0.05) > -1.3


def test_few_documents_are_a_few_keys() -> None:
    case, rng = Case(10.0, (0.25,) * 4, documents=1), np.random.default_rng(0)
    taught = case.taught(rng, case.parts(rng))
    assert len(set(taught.tolist())) == 1


def test_students_of_separate_keys_and_of_codewords_have_one_effect() -> None:
    own = [separate(0.3, seed, 20)[-1] for seed in range(3)]
    # 120 blocks of 20 pairs: z = 0.3 sqrt(2400) = 14.7.
    assert abs(np.mean(own) - 14.7) < 2
    mine, others = zip(*(slotted(0.3, seed, 20) for seed in range(3)), strict=True)
    # Half the variance and a tenth of the tokens the other way round: 14.7 / sqrt(2) * 0.8.
    assert 6 < np.mean([z[-1] for z in mine]) < 10.5
    assert abs(np.mean([z[-1].mean() for z in others])) < 0.5
