"""What a test will need, before anything is spent: tokens, answers, and what stays out of reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

import numpy as np

from detect.mark_strength import mark_strength
from detect.planning.effects import Effect, effect_of_first, inherited_effect
from detect.planning.entropies import pilot_of_entropy
from detect.planning.pilots import EffectPilot, TextPilot
from detect.planning.power import (
    answers_needed,
    expected_stopping,
    first_order,
    pairs_needed,
    power_of_answers,
    power_of_text,
)
from detect.planning.power_plan import Need, PowerPlan, PowerRequest, Prospect, ShareNeed
from detect.planning.tilting import Alternative

__all__ = ["plan_power"]

# Scored pairs of a token of a student's answers: benchmarks/results/demo.json, 15,942 of
# 21,674 at h = 2. Narrow prompts give fewer.
_ANSWER_SHARE: Final = 0.74
_RESAMPLES: Final = 40
_LEAST_SHARE: Final = 1e-6
_ACCOUNTS: Final = 25_000
_SHARES: Final = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
# A text that is marked to less than this is a case for `heirmark locate`.
_LEAST_SHARE_OF_A_TEXT: Final = 0.05
_TRAINED_ON: Final = (
    ("all training data marked", 1.0),
    ("10 % of the training data marked", 0.1),
    ("one cohort key of 16", 1 / 16),
    ("1 % of the training data marked", 0.01),
    (f"one account key of {_ACCOUNTS:,}, in a model", 1 / _ACCOUNTS),
)
_LEFT_OF_A_TEXT: Final = (
    ("half of the tokens still marked", 0.5),
    ("a quarter of the tokens still marked", 0.25),
    ("a tenth of the tokens still marked", 0.1),
)


class _Coverage(NamedTuple):
    """How many units the first tokens of a text give: straight lines between (tokens, units)."""

    points: tuple[tuple[float, float], ...]

    @classmethod
    def at_share(cls, share: float, context_width: int) -> _Coverage:
        """Score the same share of all tokens but the first h."""
        return cls(((0, 0), (context_width, 0), (context_width + 1, share)))

    def units_of(self, n_tokens: float) -> float:
        """Units of a text; beyond the last length as between the last two."""
        return _on_line(n_tokens, self.points)

    def tokens_for(self, n_units: float) -> int:
        """Tokens that give so many units."""
        return math.ceil(_on_line(n_units, [(units, tokens) for tokens, units in self.points]))


def _on_line(x: float, points: Sequence[tuple[float, float]]) -> float:
    xs, ys = zip(*points, strict=True)
    if x <= xs[-1]:
        return float(np.interp(x, xs, ys))
    return float(ys[-1] + (x - xs[-1]) * (ys[-1] - ys[-2]) / (xs[-1] - xs[-2]))


@final
@dataclass(frozen=True, eq=False)
class _Signal:
    """What a scored unit carries, as a function of the marked share.

    Attributes:
        effect: at share 1, in null standard deviations.
        coverage: scored units of a text or answer, by its length.
        alternative: pairs of a text, share and, for a resample of the pilot, a seed in; law of
            scores out. None by weights, where only the effect is known.
        error: standard error of the effect, by weights with a pilot.
    """

    effect: float
    coverage: _Coverage
    alternative: Callable[[int, float, int | None], Alternative] | None
    basis: Effect | None
    assumptions: tuple[str, ...]
    has_range: bool
    error: float = 0.0


class _Amount(NamedTuple):
    """Units, tokens and answers of one case; None is never."""

    pairs: int | None
    tokens: int | None
    answers: int | None


def plan_power(request: PowerRequest) -> PowerPlan:
    """Compute how much is needed, and what the budget does not reach.

    H0: the words are uniform; the threshold is exact for text, normal by weights. Alternative: the
    pilot's scores, made-up texts of the entropy asked, or the null law tilted to a published
    effect. The answer is an estimate; with a pilot the range is its bootstrap over texts.

    Args:
        request: the question.

    Returns:
        The answer.

    Raises:
        ConfigError: a scheme without known effects, or an entropy out of range.
    """
    signal = _signal(request)
    amount = _amount(request, signal, None)
    pairs, tokens, answers = (Need(v) for v in amount)
    if signal.has_range:
        pairs, tokens, answers = _ranges(request, signal, amount)
    law = request.null
    effect = _effect(request, signal, amount.pairs)
    mean = law.mean + effect * math.sqrt(law.variance)
    return PowerPlan(
        request=request,
        effect=effect,
        basis=signal.basis,
        assumptions=signal.assumptions,
        pairs=pairs,
        tokens=tokens,
        answers=answers,
        has_range=signal.has_range,
        first_order=_first_order(request, effect),
        stopping=_stopping(request, signal, mean),
        least_share=_least_share(request, signal),
        by_share=_by_share(request, signal),
        prospects=_prospects(request, signal),
    )


def _stopping(request: PowerRequest, signal: _Signal, mean: float) -> float | None:
    """Expect where a sequential test stops; None by weights, where there is none."""
    law = request.null
    if signal.alternative is None:
        return None
    # Measured for Gumbel schemes only: a red-green student at h = 1 was far from starting so well.
    if signal.basis is None or signal.basis.family != "gumbel":
        return expected_stopping(law, lambda n: mean, request.alpha)
    size, deviation = signal.effect * request.share, math.sqrt(law.variance)
    return expected_stopping(
        law,
        lambda n: law.mean + deviation * effect_of_first(size, n, _width(request)),
        request.alpha,
    )


def _effect(request: PowerRequest, signal: _Signal, n_pairs: int | None) -> float:
    """Effect of the pairs that the test will see: how texts begin is not how they go on."""
    if signal.alternative is None or n_pairs is None:
        return signal.effect * request.share
    law = request.null
    each = n_pairs if request.access == "direct" else _pairs_of_answer(request, signal)
    mean = signal.alternative(each, request.share, None).mean
    return (mean - law.mean) / math.sqrt(law.variance)


def _first_order(request: PowerRequest, effect: float) -> float | None:
    if effect <= 0:
        return None
    return first_order(effect, alpha=request.alpha, power=request.power)


def _signal(request: PowerRequest) -> _Signal:
    pilot = request.pilot
    if isinstance(pilot, EffectPilot):
        return _Signal(
            pilot.effect, _Coverage.at_share(1.0, 0), None, None,
            (f"effect from {pilot.source}", *_gated(request), _WEIGHTS), True,
            pilot.standard_error,
        )  # fmt: skip
    if pilot is not None:
        said = (f"scores from {pilot.source}", *_gated(request))
        return _from_texts(request, pilot, said, has_range=True)
    if request.access == "direct":
        made_up = pilot_of_entropy(
            request.config.scheme,
            request.entropy,
            scorer=request.scorer,
            min_entropy=request.config.min_entropy,
        )
        said = (
            f"scores from {made_up.source}, temperature and truncation included",
            "repeats leave unscored what they do in a small model's prose, h = 2",
        )
        return _from_texts(request, made_up, said, has_range=False)
    return _published(request)


def _gated(request: PowerRequest) -> tuple[str, ...]:
    if not request.config.min_entropy:
        return ()
    return (
        f"the pilot's texts are of the deployment with its entropy gate of "
        f"{request.config.min_entropy:g} nats: what it leaves unmarked dilutes them already",
    )


_SCORE: Final = "by the score that the effect was measured with; another one needs its own pilot"
_WEIGHTS: Final = "by weights: the normal formula, for a sum over many pairs of every context"


def _from_texts(
    request: PowerRequest, pilot: TextPilot, said: tuple[str, ...], *, has_range: bool
) -> _Signal:
    law = request.null
    if len(pilot.sums) == 1:
        said = (*said, "a single text: how much texts differ from each other is not known")
    return _Signal(
        (pilot.mean - law.mean) / math.sqrt(law.variance),
        _Coverage(pilot.coverage),
        lambda n, share, seed: pilot.first(n).alternative(share, seed),
        None,
        said,
        has_range,
    )


def _published(request: PowerRequest) -> _Signal:
    assert request.access != "direct"
    found = inherited_effect(request.config, request.access, 1.0)
    law, strength = request.null, mark_strength(request.config)
    size = found.size * strength
    left = f"times {strength:.2g}: what entropy gate and bias leave of a mark, on the cautious side"
    weaker = () if strength == 1 else (left,)
    proportional = "the effect is proportional to the marked share, to first order"
    if request.access == "weights":
        said = (*found.steps, *weaker, proportional, _WEIGHTS)
        return _Signal(size, _Coverage.at_share(1.0, 0), None, found.basis, said, False)
    share = f"{_ANSWER_SHARE:.0%} of an answer's tokens are distinct pairs (narrow prompts: fewer)"
    return _Signal(
        size,
        _Coverage.at_share(_ANSWER_SHARE, _width(request)),
        lambda n, share, seed: Alternative.shifted(law, share * size),
        found.basis,
        (*found.steps, *weaker, proportional, share, _SCORE),
        False,
    )


def _amount(request: PowerRequest, signal: _Signal, seed: int | None) -> _Amount:
    """Units needed, from the best estimate or from one resample of the pilot."""
    law, length = request.null, request.answer_tokens
    goal = {"alpha": request.alpha, "power": request.power}
    if signal.alternative is None:
        effect = signal.effect + _shift(signal.error, seed)
        n = _first_order(request, effect * request.share)
        tokens = math.ceil(n) if n is not None else None
        return _Amount(tokens, tokens, _over(tokens, length))
    at, share = signal.alternative, request.share
    each = _pairs_of_answer(request, signal)
    answers = answers_needed(law, at(each, share, seed), n_pairs=each, **goal)
    if request.access == "text":
        return _Amount(*(None if answers is None else answers * k for k in (each, length, 1)))
    pairs = pairs_needed(law, lambda n: at(n, share, seed), **goal)
    tokens = None if pairs is None else signal.coverage.tokens_for(pairs)
    return _Amount(pairs, tokens, answers)


def _shift(error: float, seed: int | None) -> float:
    return 0.0 if seed is None else error * float(np.random.default_rng(seed).normal())


def _width(request: PowerRequest) -> int:
    return request.config.context_width


def _pairs_of_answer(request: PowerRequest, signal: _Signal) -> int:
    return max(math.floor(signal.coverage.units_of(request.answer_tokens)), 1)


def _over(tokens: int | None, length: int) -> int | None:
    return None if tokens is None else math.ceil(tokens / length)


def _ranges(request: PowerRequest, signal: _Signal, best: _Amount) -> tuple[Need, Need, Need]:
    """Put 95 % of the pilot's resamples around each amount; never is the largest amount."""
    drawn = [_amount(request, signal, seed) for seed in range(_RESAMPLES)]
    needs = []
    for values, value in zip(zip(*drawn, strict=True), best, strict=True):
        ordered = sorted(math.inf if v is None else v for v in values)
        ends = [ordered[round(share * (_RESAMPLES - 1))] for share in (0.025, 0.975)]
        low, high = (None if math.isinf(v) else int(v) for v in ends)
        needs.append(Need(value, low, high))
    return needs[0], needs[1], needs[2]


def _least_share(request: PowerRequest, signal: _Signal) -> float | None:
    """Smallest marked share that the budget reaches, to a hundredth of itself."""
    low, high = math.log(_LEAST_SHARE), 0.0
    if not _reaches(request, signal, 1.0):
        return None
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (low, middle) if _reaches(request, signal, math.exp(middle)) else (middle, high)
    return math.exp(high)


def _reaches(request: PowerRequest, signal: _Signal, share: float) -> bool:
    law, budget = request.null, request.budget
    if signal.alternative is None:
        n = _first_order(request, signal.effect * share)
        return n is not None and n <= budget
    if request.access == "text":
        each, n = _pairs_of_answer(request, signal), budget // request.answer_tokens
        alternative = signal.alternative(each, share, None)
        reached = n and power_of_answers(law, alternative, each, n, request.alpha)
    else:
        n = math.floor(signal.coverage.units_of(budget))
        alternative = signal.alternative(max(n, 1), share, None)
        reached = n > 0 and power_of_text(law, alternative, n, request.alpha)
    return reached >= request.power


def _by_share(request: PowerRequest, signal: _Signal) -> tuple[ShareNeed, ...]:
    least = _LEAST_SHARE_OF_A_TEXT if request.access == "direct" else 0.0
    amounts = [
        (share, _amount(replace(request, share=share), signal, None))
        for share in _SHARES
        if share >= least
    ]
    return tuple(ShareNeed(share, amount.tokens, amount.answers) for share, amount in amounts)


def _prospects(request: PowerRequest, signal: _Signal) -> tuple[Prospect, ...]:
    """Neighbouring cases: what the same budget does and does not reach."""
    cases: list[tuple[str, PowerRequest, _Signal]] = []
    if request.access == "direct":
        cases += [(what, replace(request, share=s), signal) for what, s in _LEFT_OF_A_TEXT]
        keys = f"any of {_ACCOUNTS:,} account keys, the search paid for"
        cases.append((keys, replace(request, alpha=request.alpha / _ACCOUNTS), signal))
        if request.pilot is None:
            low = replace(request, entropy=request.entropy / 4)
            cases.append(("a quarter of the entropy (code, worked answers)", low, _signal(low)))
    else:
        cases += [(what, replace(request, share=s), signal) for what, s in _TRAINED_ON]
        if request.pilot is None:
            cases += [_at_width(request, h) for h in (1, 2, 4) if h != _width(request)]
    return tuple(_prospect(*case) for case in cases)


def _at_width(request: PowerRequest, h: int) -> tuple[str, PowerRequest, _Signal]:
    config = replace(request.config, context_width=h)
    other = replace(request, config=config, answer_tokens=max(request.answer_tokens, h + 1))
    return f"context width {h}, marked share {request.share:.3g}", other, _signal(other)


def _prospect(what: str, request: PowerRequest, signal: _Signal) -> Prospect:
    n_tokens = _amount(request, signal, None).tokens
    return Prospect(what, n_tokens, n_tokens is not None and n_tokens <= request.budget)
