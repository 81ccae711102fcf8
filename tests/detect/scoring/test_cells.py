"""Cells of words: bounds and lookup must agree on every word, ends included."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detect.scoring.cells import N_CELLS, cell_bounds, cell_of

LAST = 2**32 - 1


@given(st.lists(st.integers(0, LAST), min_size=1, max_size=50))
def test_a_word_lies_within_the_bounds_of_its_cell(words: list[int]) -> None:
    array = np.array(words, np.uint32)
    cells, bounds = cell_of(array), cell_bounds()
    assert (bounds[cells] <= array).all()
    assert (array < bounds[cells + 1]).all()


def test_every_bound_and_its_neighbours_lie_in_their_cells() -> None:
    bounds = cell_bounds()
    near = np.concatenate([bounds - 1, bounds, bounds + 1])
    words = near[(near >= 0) & (near <= LAST)].astype(np.uint32)
    cells = cell_of(words)
    assert ((bounds[cells] <= words) & (words < bounds[cells + 1])).all()


def test_cells_cover_all_words_and_are_mirror_images() -> None:
    bounds = cell_bounds()
    assert (bounds[0], bounds[-1], len(bounds)) == (0, 2**32, N_CELLS + 1)
    assert (np.diff(bounds) >= 0).all()
    assert np.array_equal(bounds, 2**32 - bounds[::-1])


def test_cells_are_fine_where_evidence_sits() -> None:
    """No cell but the last words' spans more than a factor 1.25 of 1 - u, or of u."""
    bounds = cell_bounds().astype(float)
    for side in (bounds, 2**32 - bounds[::-1]):
        lower, upper = side[:-1], side[1:]
        wide = (upper > lower + 1) & (upper <= 2**31)
        assert ((upper[wide] + 1) / (lower[wide] + 1) <= 1.2501).all()
