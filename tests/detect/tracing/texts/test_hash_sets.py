"""A set that grows by blocks says what a set says, and does not copy itself for each block."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from detect.tracing.texts.hash_sets import HashSet


def test_it_says_what_a_set_says() -> None:
    rng, known, grown = np.random.default_rng(0), set(), HashSet()
    for size in (0, 5, 1, 300, 2, 40, 40, 40, 1000, 1):
        block = np.unique(rng.integers(0, 900, size, np.uint64))
        if size == 1000:
            block[-1] = np.uint64(2**64 - 1)
        assert grown.add(block).tolist() == [int(h) not in known for h in block]
        known |= {int(h) for h in block}
        assert len(grown) == len(known)


def test_levels_double() -> None:
    """Many blocks lie in few arrays, and few large ones are copied for a small block."""
    rng, grown = np.random.default_rng(1), HashSet()
    for _ in range(400):
        grown.add(np.unique(rng.integers(0, 1 << 64, 50, np.uint64)))
        sizes = [len(level) for level in grown._levels]
        assert all(a > 2 * b for a, b in pairwise(sizes))
    assert len(grown) == 20_000
    assert grown.n_levels <= 10
