"""Prompts of the demo: one narrow domain, short stories, so that contexts recur.

Training and held-out prompts are different combinations of the same parts.
"""

from __future__ import annotations

from itertools import product

import numpy as np

__all__ = ["held_out_prompts", "training_prompts"]

_CHARACTERS = (
    "fox", "baker", "sailor", "little girl", "clock maker", "robot", "queen", "farmer", "wizard",
    "young painter", "bear", "teacher", "gardener", "musician", "fisherman", "nurse", "dragon",
    "shepherd", "librarian", "tailor",
)  # fmt: skip
_EVENTS = (
    "finds a hidden door", "loses a golden key", "makes an unlikely friend", "builds a flying boat",
    "learns to be brave", "hears a strange song", "plants a magic seed", "wins a difficult race",
    "forgets an old promise", "follows a falling star", "saves a lost puppy", "opens a small shop",
)  # fmt: skip
_PLACES = (
    "in a quiet village", "by the sea", "in a deep forest", "on a snowy mountain", "in a big city",
    "on a lonely island", "at an old castle", "near a wide river", "in a desert town",
    "in a busy market", "on a distant farm", "in a dark cave",
)  # fmt: skip
_SHUFFLE_SEED = 20_261


def _combinations() -> list[str]:
    parts = list(product(_CHARACTERS, _EVENTS, _PLACES))
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(parts))
    return [
        f"Write a short story about a {who} who {what} {where}."
        for who, what, where in (parts[i] for i in order)
    ]


def training_prompts(n: int) -> list[str]:
    """List the first n of the shuffled prompts.

    Args:
        n: how many, at most half of all (1,440).

    Returns:
        The prompts, always the same.
    """
    prompts = _combinations()
    return _checked(prompts[: len(prompts) // 2], n)


def held_out_prompts(n: int) -> list[str]:
    """List n prompts that `training_prompts` never gives.

    Args:
        n: how many, at most half of all (1,440).

    Returns:
        The prompts, always the same.
    """
    prompts = _combinations()
    return _checked(prompts[len(prompts) // 2 :], n)


def _checked(prompts: list[str], n: int) -> list[str]:
    if not 0 < n <= len(prompts):
        raise ValueError(f"between 1 and {len(prompts)} prompts can be had, got {n}")
    return prompts[:n]
