"""How strong a deployment's mark can be: what a negative verdict may presume."""

from __future__ import annotations

import math

from watermark.config import WatermarkConfig
from watermark.schemes.green_list import GreenList
from watermark.schemes.red_green import RedGreen

__all__ = ["mark_strength"]


def mark_strength(config: WatermarkConfig) -> float:
    """Compare how strong a mark can be with that of the published effects.

    Red-green was measured at gamma 1/2, delta 2; a weaker bias moves even a flat distribution less.
    What an entropy gate leaves unmarked dilutes: exp(-min_entropy) lies below all that was measured
    on code and prose (benchmarks/results/entropy_gate.json, "strength_left").

    Args:
        config: the deployment.

    Returns:
        A factor of the effect, in (0, 1].
    """
    scheme, gated = config.scheme, math.exp(-config.min_entropy)
    if not isinstance(scheme, RedGreen | GreenList):
        return gated
    own = _largest_shift(scheme.law.probability, scheme.delta)
    return gated * min(own / _largest_shift(0.5, 2.0), 1.0)


def _largest_shift(gamma: float, delta: float) -> float:
    tilted = gamma * math.exp(delta)
    green = tilted / (tilted + 1 - gamma)
    return (green - gamma) / math.sqrt(gamma * (1 - gamma))
