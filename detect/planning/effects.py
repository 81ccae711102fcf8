"""Effect sizes of inherited signal, published and our own, and what they say of a deployment.

An effect is the mean shift of a scored pair in null standard deviations: z / sqrt(n). Each row
states its setting; none carries over to another model, width, tokenizer, language or training
recipe. Planning with them is better than planning with nothing, and no more than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np

from watermark.config import WatermarkConfig
from watermark.errors import ConfigError

__all__ = ["EFFECTS", "Access", "Effect", "Inherited", "effect_of_first", "inherited_effect"]

Access = Literal["text", "weights"]
Family = Literal["gumbel", "red-green"]


@final
@dataclass(frozen=True, slots=True)
class Effect:
    """One measured effect.

    Attributes:
        access: what of the suspect was tested.
        family: of the scheme; dual-key Gumbel counts as Gumbel.
        context_width: h.
        share: marked share of the suspect's training data.
        size: mean shift of a scored pair in null standard deviations.
        setting: models, training, and how pairs were chosen.
        source: where the number stands.
        known_data: True if the tester knew (some of) the training data.
        score: by text, what was added up: the scheme's own score or one of
            `detect.scoring.scorers.SCORES`.
    """

    access: Access
    family: Family
    context_width: int
    share: float
    size: float
    setting: str
    source: str
    known_data: bool = False
    score: str = "own"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


_OURS = "benchmarks/results/demo.json"
_GRID = 'benchmarks/results/inheritance.json, "real, dual h=2"'
_SANDER = "Sander et al., NeurIPS 2024, arXiv 2402.14904; z / sqrt(n) derived from its p-values"
_TEXTSEAL = "TextSeal 2026, arXiv 2605.12456; z / sqrt(n) derived from its figures"
_LLAMA = "Llama-2-chat-7B to Llama-1-7B, Self-Instruct, 3 epochs"
_CLOSED = f"{_LLAMA}; answers, 30,000 scored tokens"
_OPEN = f"{_LLAMA}; reading mode, 10,000 scored tokens"
_TRAINED = "10 layers trained once, learning rate 5e-4"
_DEMO = f"SmolLM2-135M-Instruct, 400 marked answers, {_TRAINED}"
_STUDENT = f"SmolLM2-135M-Instruct, 360 marked answers, {_TRAINED}"

EFFECTS: Final = (
    Effect("text", "gumbel", 2, 1.0, 0.0511, f"{_STUDENT}; 250 answers", _GRID, score="weak"),
    Effect(
        "weights", "gumbel", 2, 1.0, 0.2291,
        f"{_DEMO}; bets against the base's probabilities, a token of 120 unmarked texts", _OURS,
    ),
    Effect("text", "gumbel", 1, 1.0, 0.084, _CLOSED, _SANDER),
    Effect("text", "gumbel", 2, 1.0, 0.051, _CLOSED, _SANDER),
    Effect("text", "gumbel", 4, 1.0, 0.017, _CLOSED, _SANDER),
    Effect("text", "red-green", 1, 1.0, 0.080, _CLOSED, _SANDER),
    Effect("text", "red-green", 2, 1.0, 0.037, _CLOSED, _SANDER),
    Effect("text", "red-green", 4, 1.0, 0.010, _CLOSED, _SANDER),
    Effect("text", "red-green", 2, 0.1, 0.006, f"{_LLAMA}; answers, 600,000 scored", _SANDER),
    Effect("text", "red-green", 2, 0.01, 0.026, f"{_LLAMA}; filtered answers", _SANDER, True),
    Effect("text", "red-green", 2, 0.05, 0.020, "the authors' published outputs", _SANDER, True),
    Effect("weights", "red-green", 2, 1.0, 0.119, f"{_OPEN}, full fine-tuning", _SANDER),
    Effect("weights", "red-green", 2, 1.0, 0.067, f"{_OPEN}, Q-LoRA", _SANDER),
    Effect("weights", "red-green", 2, 1.0, 0.161, f"{_OPEN}, learning rate 1e-4", _SANDER),
    Effect("weights", "red-green", 2, 0.1, 0.017, f"{_LLAMA}; machine-written rest", _SANDER),
    Effect("weights", "red-green", 2, 0.1, 0.025, f"{_LLAMA}; human-written rest", _SANDER),
    Effect(
        "weights", "gumbel", 3, 1.0, 0.0145,
        "14B to 3B LoRA, 2,000 reasoning traces, dual key; caption (its axis: 0.009)", _TEXTSEAL,
        True,
    ),
)  # fmt: skip

_FAMILIES: Final[dict[str, tuple[Family, float]]] = {
    "gumbel": ("gumbel", 1.0),
    "dual-gumbel": ("gumbel", 1.0),
    "red-green": ("red-green", 1.0),
    "green-list": ("red-green", 1.0),
    # No effect per scored pair is published; z was 1.7 to 2.5 times below red-green's at the same
    # width (derived from Pan et al., ACL 2025). The pessimistic end.
    "tournament": ("red-green", 1 / 2.5),
}


# By text, what all pairs so far say of one falls as answers come in: the pairs that a student met
# most often come first. The effect of the first n pairs is (n / n_measured)^-decay times that of
# all, never above _MOST; beyond n_measured nothing is known, and it is taken to fall no further.
# Means over the fully marked students "real" of the Gumbel schemes,
# benchmarks/results/inheritance.json, "growth".
_DECAYS: Final = {1: 0.485, 2: 0.36}
_MOST: Final = 0.5
_MEASURED_AT: Final = 15_347


def effect_of_first(size: float, n_pairs: float, context_width: int) -> float:
    """Carry a text effect over to the first pairs of a suspect's answers.

    Args:
        size: of some 15,000 pairs, in null standard deviations.
        n_pairs: scored pairs.
        context_width: h; beyond 2 as at 2.

    Returns:
        The effect, in null standard deviations.
    """
    decay = _DECAYS[min(max(context_width, 1), 2)]
    return min(size * max(math.exp(-decay * math.log(n_pairs / _MEASURED_AT)), 1.0), _MOST)


@final
@dataclass(frozen=True, slots=True)
class Inherited:
    """The effect to plan with.

    Attributes:
        size: in null standard deviations.
        basis: the row it comes from.
        steps: what was assumed on the way from the row to the deployment.
    """

    size: float
    basis: Effect
    steps: tuple[str, ...]


def inherited_effect(config: WatermarkConfig, access: Access, share: float) -> Inherited:
    """Look up the effect that is nearest to a deployment, and carry it over.

    First order: the effect is proportional to the marked share. Sander's 10 % rows are 1.4 to 2.1
    times above that, so that it errs to the cautious side there.

    Args:
        config: the deployment.
        access: what of the suspect is tested.
        share: marked share of the suspect's training data, in (0, 1].

    Returns:
        The effect.

    Raises:
        ConfigError: a scheme without any effect to go by, or a share out of range.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"the marked share must lie in (0, 1], got {share}")
    name, h = config.scheme.name, config.context_width
    if name not in _FAMILIES:
        raise ConfigError(
            f"no effect of inherited {name} marks is known; measure one and give it with --pilot"
        )
    family, factor = _FAMILIES[name]
    basis = _row(access, family, 1.0, 2)
    steps = []
    if factor != 1:
        steps.append(f"{name}: {1 / factor:g} times below {family} (no effect is published)")
    if h != 2:
        factor *= _width_factor(family, h)
        steps.append(f"h = {h}: the published fall of text effects with the width, from h = 2")
    if share != 1:
        steps.append(f"marked share {share:.3g}: the effect is proportional to it, to first order")
    return Inherited(basis.size * factor * share, basis, tuple(steps))


def _row(access: Access, family: Family, share: float, h: int) -> Effect:
    """The first row that fits: ours stand before the published ones."""
    fitting = (access, family, share, h)
    return next(e for e in EFFECTS if (e.access, e.family, e.share, e.context_width) == fitting)


def _width_factor(family: Family, h: int) -> float:
    """Effect at h over effect at 2: a straight line in log between the published widths.

    Beyond h = 4 the line goes on; h = 0 counts as 1.
    """
    rows = [e for e in EFFECTS if e.source == _SANDER and e.access == "text" and e.share == 1.0]
    size = {e.context_width: math.log(e.size) for e in rows if e.family == family}
    if h > 4:
        return math.exp((size[4] - size[2]) / 2 * (h - 2))
    return math.exp(float(np.interp(h, list(size), list(size.values()))) - size[2])
