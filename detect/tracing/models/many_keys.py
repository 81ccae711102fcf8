"""Why single accounts cannot be named from a model: the numbers behind the refusal.

A key whose text is a share s of what a suspect learned from leaves s times the effect, to first
order, and needs 1 / s^2 times the tokens. All keys searched are paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from detect.planning.effects import Access, inherited_effect
from detect.planning.power import first_order
from detect.tracing.named_keys import NamedKey
from watermark.config import WatermarkConfig
from watermark.errors import ConfigError

__all__ = [
    "ACCOUNTS",
    "MOST_KEYS",
    "least_share",
    "pairs_for_key_of",
    "refuse_many",
    "refuse_revoked",
]

# Keys of accounts for which the arithmetic is written down.
ACCOUNTS: Final = 25_000
MOST_KEYS: Final = 16
_POWER: Final = 0.9
# Pairs of an answer: those of benchmarks/results/inheritance.json, "real", 250 answers.
_PAIRS_OF_ANSWER: Final = 61


def pairs_for_key_of(config: WatermarkConfig, access: Access, n_keys: int, alpha: float) -> float:
    """Count what names one key of n that fed a model in equal parts, with 90 % power.

    Args:
        config: the deployment.
        access: what of the suspect is tested.
        n_keys: keys, all of them paid for.
        alpha: family-wise level.

    Returns:
        Scored pairs by text, contexts by weights; an estimate.
    """
    effect = inherited_effect(config, access, 1 / n_keys).size
    needed = first_order(effect, alpha=alpha / n_keys, power=_POWER)
    assert needed is not None
    return float(needed)


def least_share(effect: float, n_keys: int, n_scored: int, alpha: float) -> float | None:
    """Tell which share of the suspect's data a key must have had to be found, with 90 % power.

    Args:
        effect: at share 1, in null standard deviations of a unit.
        n_keys: keys, all of them paid for.
        n_scored: units scored.
        alpha: family-wise level.

    Returns:
        The share; None if all of it would not be found.
    """
    needed = first_order(effect, alpha=alpha / n_keys, power=_POWER)
    assert needed is not None
    share = float(needed / max(n_scored, 1)) ** 0.5
    return share if share <= 1 else None


def refuse_many(n: int, config: WatermarkConfig, access: Access, alpha: float) -> None:
    """Refuse what cannot be done: too many keys, or too few.

    Raises:
        ConfigError: fewer than two keys or more than sixteen; with the arithmetic.
    """
    if n < 2:
        raise ConfigError(
            f"tracing a model needs at least two keys, got {n}; one key is tested by heirmark probe"
        )
    if n > MOST_KEYS:
        raise ConfigError(
            f"a model is traced to at most {MOST_KEYS} keys, got {n:,}. "
            f"{arithmetic(config, access, n, alpha)} Trace cohorts or epochs instead; an account "
            "is named from its text: heirmark trace text"
        )


def refuse_revoked(keys: Sequence[NamedKey]) -> list[int]:
    """Find the keys that nobody else is known to know; from fewer than two nothing is concluded.

    Args:
        keys: the keys, revoked ones among them.

    Returns:
        The numbers of those that were not revoked, ascending.

    Raises:
        ConfigError: fewer than two.
    """
    own = [number for number, named in enumerate(keys) if named.revocation is None]
    if len(own) < 2:
        revoked = ", ".join(named.name for named in keys if named.revocation is not None)
        raise ConfigError(
            f"tracing a model needs at least two keys that were not revoked, got {len(own)} beside "
            f"{revoked}: others may know these, and what shows under them concludes nothing. "
            "Add the keys of other cohorts or epochs; one key is tested by heirmark probe"
        )
    return own


def arithmetic(config: WatermarkConfig, access: Access, n_keys: int, alpha: float) -> str:
    """Write down what naming one key of many would take."""
    unit = "scored pairs" if access == "text" else "scored contexts"
    effect = inherited_effect(config, access, 1.0).size
    parts = []
    for n in (MOST_KEYS, n_keys):
        needed = pairs_for_key_of(config, access, n, alpha)
        answers = f", some {needed / _PAIRS_OF_ANSWER:,.0f} answers" if access == "text" else ""
        parts.append(
            f"one of {n:,} that fed a model in equal parts leaves 1/{n:,} of the effect "
            f"({effect:.3g} -> {effect / n:.2g} standard deviations) and needs {needed:.2g} {unit}"
            f"{answers}"
        )
    return (
        f"A key with a share s of the data leaves s times the effect and needs 1/s^2 times the "
        f"tokens: {'; '.join(parts)} (90 % power at {alpha:g}, all keys paid for)."
    )
