"""Power: thresholds and tails against closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, gamma

from detect.planning.power import (
    answers_needed,
    critical_value,
    expected_stopping,
    first_order,
    pairs_needed,
    power_of_answers,
    power_of_text,
)
from detect.planning.tilting import Alternative, Diluted, tilt_to
from detect.tails.nulls import log_tails
from watermark.schemes.laws import Bernoulli, Exponential, LayeredBits, ScoreLaw, Tabulated

TABLE = Tabulated(0.25, np.array([-2, 0, 3]), np.array([0.5, 0.3, 0.2]))
LAWS: list[ScoreLaw] = [Exponential(), Bernoulli(0.3), LayeredBits((3, 2, 1)), TABLE]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
@pytest.mark.parametrize("n", [40, 700])
@pytest.mark.parametrize("alpha", [0.01, 1e-6])
def test_the_threshold_is_the_least_that_reaches_alpha(law: ScoreLaw, n: int, alpha: float) -> None:
    c = critical_value(law, n, alpha)
    below = {Exponential: 1e-6, Tabulated: 0.25}.get(type(law), 1.0)
    at, under = log_tails(law, np.array([c, c - below]), np.array([n, n])).tolist()
    assert at <= math.log(alpha) < under


def test_thresholds_agree_with_scipy() -> None:
    for n in (5, 300, 10_000):
        exponential = critical_value(Exponential(), n, 1e-6)
        assert exponential == pytest.approx(gamma.isf(1e-6, n), rel=1e-10)
        assert (
            critical_value(Bernoulli(0.5), max(n, 30), 1e-6) == binom.isf(1e-6, max(n, 30), 0.5) + 1
        )
    # Ten coins cannot reach 1e-6: the threshold is out of reach and the power none.
    assert critical_value(Bernoulli(0.5), 10, 1e-6) > 10
    assert power_of_text(Bernoulli(0.5), Alternative.shifted(Bernoulli(0.5), 0.9), 10, 1e-6) == 0


@pytest.mark.parametrize(("n", "effect"), [(20, 1.5), (300, 0.35), (10_000, 0.06), (10**6, 0.006)])
def test_power_of_a_tilted_exponential_is_a_gamma_tail(n: int, effect: float) -> None:
    """Exp(1) tilted to mean m is exponential with mean m: its sum has a closed form."""
    alternative = Alternative.shifted(Exponential(), effect)
    exact = gamma.sf(critical_value(Exponential(), n, 1e-6) / (1 + effect), n)
    assert power_of_text(Exponential(), alternative, n, 1e-6) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(("n", "green"), [(100, 0.8), (200, 0.7), (5_000, 0.545)])
def test_power_of_more_green_is_a_binomial_tail(n: int, green: float) -> None:
    law = Bernoulli(0.5)
    alternative = Alternative(law, np.array([tilt_to(law, green)]))
    exact = binom.sf(critical_value(law, n, 1e-6) - 1, n, green)
    assert power_of_text(law, alternative, n, 1e-6) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_power_under_the_null_is_at_most_alpha(law: ScoreLaw) -> None:
    """Without a signal the power is the exact size of the test."""
    n, alpha = 200, 0.01
    exact = math.exp(log_tails(law, np.array([critical_value(law, n, alpha)]), np.array([n]))[0])
    found = power_of_text(law, Alternative(law, np.zeros(1)), n, alpha)
    assert exact <= alpha
    assert found == pytest.approx(exact, rel=0.01)


def test_a_tilt_has_the_mean_asked_for() -> None:
    for law in LAWS:
        for mean in (law.mean - 0.1, law.mean, law.mean + 0.1):
            t = np.array([tilt_to(law, mean)])
            assert law.cumulants(t).first[0] == pytest.approx(mean, abs=1e-9)
    assert tilt_to(Bernoulli(0.5), 1.5) == math.inf
    assert tilt_to(Bernoulli(0.5), -0.5) == -math.inf


def test_dilution_mixes_moments() -> None:
    """Against 200,000 draws, six standard errors; K' and K'' at 0 are mean and variance."""
    law = Diluted(Exponential(), TABLE, 0.3)
    rng = np.random.default_rng(1)
    null = rng.choice(TABLE.values * TABLE.step, p=TABLE.probabilities, size=200_000)
    drawn = np.where(rng.random(200_000) < 0.3, rng.exponential(size=200_000), null)
    assert law.mean == pytest.approx(drawn.mean(), abs=6 * drawn.std() / 447)
    assert law.variance == pytest.approx(drawn.var(), rel=0.05)
    k = law.cumulants(np.zeros(1))
    assert (k.value[0], k.first[0], k.second[0]) == pytest.approx((0, law.mean, law.variance))
    moment = float(np.log(np.exp(0.4 * drawn).mean()))
    assert law.cumulants(np.array([0.4])).value[0] == pytest.approx(moment, abs=0.005)


def test_texts_that_differ_and_pooled_answers_agree_with_simulation() -> None:
    """20,000 draws: six binomial standard errors are 0.02."""
    means = np.array([1.2, 1.6, 2.2])
    alternative = Alternative(Exponential(), np.array([tilt_to(Exponential(), m) for m in means]))
    rng, runs = np.random.default_rng(2), 20_000
    which = rng.integers(0, 3, (runs, 6))
    n = 60
    one = rng.gamma(n, means[which[:, 0]])
    found = power_of_text(Exponential(), alternative, n, 1e-6)
    assert found == pytest.approx((one >= critical_value(Exponential(), n, 1e-6)).mean(), abs=0.02)
    assert 0.3 < found < 0.7
    m, k = 15, 6
    pooled = rng.gamma(m, means[which]).sum(axis=1)
    achieved = (pooled >= critical_value(Exponential(), m * k, 1e-6)).mean()
    found = power_of_answers(Exponential(), alternative, m, k, 1e-6)
    assert found == pytest.approx(achieved, abs=0.02)
    assert 0.3 < found < 0.9


@pytest.mark.parametrize("effect", [0.02, 0.2, 1.0])
def test_what_is_needed_is_the_least_that_suffices(effect: float) -> None:
    alternative = Alternative.shifted(Exponential(), effect)
    n = pairs_needed(Exponential(), lambda n: alternative, alpha=1e-6, power=0.9)
    assert n is not None
    assert power_of_text(Exponential(), alternative, n, 1e-6) >= 0.9
    assert power_of_text(Exponential(), alternative, n - 1, 1e-6) < 0.9
    k = answers_needed(Exponential(), alternative, n_pairs=10, alpha=1e-6, power=0.9)
    assert k == math.ceil(n / 10)


def test_weak_effects_need_what_the_first_order_formula_says() -> None:
    # mpmath, q(p) = sqrt(2) erfinv(1 - 2 p): ((q("1e-6") + q("0.1")) / 0.051)^2 = 14002.66582
    assert first_order(0.051, alpha=1e-6, power=0.9) == pytest.approx(14002.66582, rel=1e-9)
    for law in LAWS:
        alternative = Alternative.shifted(law, 0.004)
        n = pairs_needed(law, lambda n, a=alternative: a, alpha=1e-6, power=0.9)  # type: ignore[misc]
        assert n == pytest.approx(first_order(0.004, alpha=1e-6, power=0.9), rel=0.01)
    strong = Alternative.shifted(Exponential(), 0.9)
    n = pairs_needed(Exponential(), lambda n: strong, alpha=1e-6, power=0.9)
    # Where the formula fails: skew null, skew alternative.
    assert n is not None
    assert n > 1.5 * first_order(0.9, alpha=1e-6, power=0.9)


def test_no_signal_is_never_found() -> None:
    flat = Alternative.shifted(Exponential(), 1e-6)
    assert pairs_needed(Exponential(), lambda n: flat, alpha=1e-6, power=0.9) is None
    assert answers_needed(Exponential(), flat, n_pairs=50, alpha=1e-6, power=0.9) is None
    assert expected_stopping(Exponential(), lambda n: 1.0, 1e-6) is None


def test_expected_stopping_agrees_with_a_simulated_e_process() -> None:
    """Mixture over twelve tilts on 300 streams; Wald's identity leaves out overshoot and grid."""
    rng, effect, n = np.random.default_rng(3), 0.3, 1_500
    sums = np.cumsum(rng.exponential(1 + effect, (300, n)), axis=1)
    tilts = 0.95 * 1.5 ** -np.arange(12.0)
    log_e = np.full(sums.shape, -np.inf)
    for tilt in tilts:
        log_e = np.logaddexp(log_e, tilt * sums + math.log(1 - tilt) * np.arange(1, n + 1))
    reached = log_e - math.log(12) >= math.log(1e6)
    assert reached.any(axis=1).all()
    found = float((reached.argmax(axis=1) + 1).mean())
    predicted = expected_stopping(Exponential(), lambda n: 1 + effect, 1e-6)
    assert predicted == pytest.approx(found, rel=0.12)
    weak = expected_stopping(Exponential(), lambda n: 1.001, 1e-6)
    assert weak == pytest.approx(2 * math.log(12e6) / 0.001**2, rel=0.01)


def test_a_falling_effect_stops_where_its_evidence_suffices() -> None:
    """By hand: eps(n) = 0.05 (n / 10,000)^-0.25 gives n eps^2 / 2 = 0.125 sqrt(n) = ln(12e6)."""
    law = Exponential()
    found = expected_stopping(law, lambda n: 1 + 0.05 * (n / 10_000) ** -0.25, 1e-6)
    assert found == pytest.approx((math.log(12e6) / 0.125) ** 2, rel=0.06)
    assert expected_stopping(law, lambda n: 1 + 1 / n, 1e-6) is None
